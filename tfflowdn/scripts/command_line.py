"""Reads the command line of a command: its flags, its help and its mistakes."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from absl import flags

import tfflowdn
from tfflowdn.scripts import configuration
from tfflowdn.scripts.configuration import UsageError
from tfflowdn.scripts.console import show

__all__ = ["own_flags", "parse", "require"]

HELP_FLAGS = ("-h", "-help", "--help", "-helpshort", "--helpshort")
VERSION_FLAGS = ("-version", "--version")
SPECIAL_FLAGS = ("flagfile", "undefok")  # Of absl; the first names a file of flags.
WIDTH = 88

# Flags that other libraries define when they are imported; they are not the command's.
_OTHERS = frozenset(flags.FLAGS)
_REQUIRED: list[str] = []


def require(*names: str) -> None:
    """Makes flags required; `parse` names all that are missing."""
    _REQUIRED.extend(names)


def own_flags() -> list[str]:
    """Returns the names of the flags that the command has defined."""
    return sorted(set(flags.FLAGS) - _OTHERS)


def parse(
    argv: list[str], own: list[str], description: str, arguments: str
) -> list[str]:
    """Returns the program's name and the arguments; answers --help and --version.

    Args:
      argv: The program's name and the words of the command line.
      own: The names of the command's flags.
      description: The text in front of the flags of `--help`.
      arguments: See `command.run`.

    Raises:
      UsageError: If the command line is not valid.
    """
    given = argv[1 : argv.index("--")] if "--" in argv else argv[1:]
    # Some commands have a --version=N of their own.
    if set(VERSION_FLAGS) & set(given) and ("version" not in own or len(given) == 1):
        print(f"tfflowdn {tfflowdn.__version__}")
        sys.exit(0)
    if "config" in flags.FLAGS:
        argv = _with_config_first(argv)
    if any(argument in HELP_FLAGS for argument in given):
        show(_help(description, own, argv))
        sys.exit(0)
    _check_names(given, own)
    if argv[1:] and argv[1].startswith("--config="):
        configuration.check_overrides(argv[1:], argv[1].partition("=")[2])
    sys.argv[:] = argv  # Where ml_collections looks for the overrides.
    try:
        rest = flags.FLAGS(argv)
    except (flags.Error, TypeError, ValueError, AttributeError, KeyError) as error:
        raise UsageError(" ".join(str(error).split())) from error
    missing = [name for name in _REQUIRED if flags.FLAGS[name].value is None]
    if missing:
        _missing(missing)
    _check_arguments(rest[1:], arguments)
    return rest


def _with_config_first(argv: list[str]) -> list[str]:
    """Puts `--config=FILE` before the `--config.KEY=VALUE` that change it."""
    rest = list(argv)
    for index, argument in enumerate(argv):
        name, equals, value = argument.partition("=")
        if name not in ("-config", "--config"):
            continue
        if not equals:
            if index + 1 == len(argv):
                break
            value = rest.pop(index + 1)
        del rest[index]
        return [rest[0], f"--config={configuration.resolve(value)}", *rest[1:]]
    return rest


def _check_names(given: list[str], own: list[str]) -> None:
    """Checks for unknown and for missing flags, before values are parsed."""
    names = [a.lstrip("-").partition("=")[0] for a in given if a.startswith("-")]
    for name in names:
        known = name in flags.FLAGS or name.removeprefix("no") in flags.FLAGS
        if not (known or name in SPECIAL_FLAGS or name.startswith("config.")):
            hint = configuration.nearest(f"--{name}", [f"--{flag}" for flag in own])
            raise UsageError(f"There is no flag --{name}.{hint}")
    missing = [name for name in _REQUIRED if name not in names]
    if missing and not set(SPECIAL_FLAGS) & set(names):
        _missing(missing)


def _missing(names: list[str]) -> None:
    flags_missing = ", ".join(f"--{name}" for name in names)
    verb = "is" if len(names) == 1 else "are"
    known = ""
    if "config" in names:
        choices = ", ".join(configuration.configurations())
        known = f" --config takes a file or one of {choices}."
    raise UsageError(f"{flags_missing} {verb} required.{known}")


def _check_arguments(rest: list[str], arguments: str) -> None:
    name = arguments.removesuffix("...")
    if not arguments and rest:
        raise UsageError(f"The command takes only flags. Received: {' '.join(rest)}.")
    if arguments and not rest:
        raise UsageError(f"{name} must be given.")
    if arguments == name != "" and len(rest) > 1:
        raise UsageError(f"Only one {name} may be given. Received: {' '.join(rest)}.")


def _help(description: str, own: list[str], argv: list[str]) -> str:
    lines = [description.strip(), "", "Flags:"]
    lines += [line for name in own for line in _flag_help(flags.FLAGS[name])]
    lines += ["  --help", "      Show this help."]
    if "version" not in own:
        lines += ["  --version", "      Show the version of tfflowdn."]
    if "config" in flags.FLAGS and len(argv) > 1 and argv[1].startswith("--config="):
        config = argv[1].partition("=")[2]
        lines += ["", f"Keys of {Path(config).name}, with their values:"]
        lines += [f"  --config.{line}" for line in configuration.list_keys(config)]
    return "\n".join(lines)


def _flag_help(flag: flags.Flag) -> list[str]:
    head = f"  --{flag.name}"
    if flag.boolean:
        head = f"  --[no]{flag.name}"
    elif isinstance(flag, flags.EnumFlag):
        head += "=" + "|".join(flag.parser.enum_values)
    else:
        head += "=" + _VALUES.get(flag.parser.flag_type(), "VALUE")
    text = flag.help.strip()
    if flag.name in _REQUIRED:
        text += " (required)"
    elif flag.default is not None:
        default = str(flag.default).lower() if flag.boolean else flag.default
        text += f" (default: {default})"
    indent = " " * 6
    return [
        head,
        textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent),
    ]


_VALUES = {
    "string": "TEXT",
    "int": "INTEGER",
    "float": "NUMBER",
    "config object": "NAME",
}
