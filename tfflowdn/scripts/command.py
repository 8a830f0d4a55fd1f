"""Shared parts of the commands: flags, help, messages and exit codes.

A command's module imports TensorFlow only when its work begins, so that `--help` and
bad flags are answered at once.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging

import tfflowdn
from tfflowdn.scripts import configuration
from tfflowdn.scripts.configuration import UsageError

__all__ = [
    "EXIT_RESUME",
    "EXIT_USAGE",
    "define_denoiser_flags",
    "define_stack_flags",
    "define_strategy_flag",
    "define_training_flags",
    "denoiser_options",
    "make_deterministic",
    "publish",
    "require",
    "run",
    "sigterm_flag",
]

EXIT_RESUME = 128 + signal.SIGTERM
"""Code of a training that continues when the same command is given again.

A shell reports the same code for any process that SIGTERM has ended.
"""

EXIT_USAGE = 2
"""Code of a command line that is not valid."""

STRATEGIES = ("auto", "mirrored", "multi_worker")
HELP_FLAGS = ("-h", "-help", "--help", "-helpshort", "--helpshort")
VERSION_FLAGS = ("-version", "--version")
SPECIAL_FLAGS = ("flagfile", "undefok")  # Of absl; the first holds other flags.
WIDTH = 88

# Flags that other libraries define when they are imported; they are not the command's.
_OTHERS = frozenset(flags.FLAGS)
_REQUIRED: list[str] = []


def require(*names: str) -> None:
    """Makes flags required; `run` names all that are missing."""
    _REQUIRED.extend(names)


def define_training_flags(script: str) -> None:
    """Defines `--config` and `--workdir`, both required, and `--seed`."""
    from ml_collections import config_flags  # Only the trainings need it.

    config_flags.DEFINE_config_file(
        "config",
        None,
        "Configuration: NAME[:VARIANT] or FILE.py[:VARIANT]. The names are "
        f"{', '.join(configuration.configurations())}. --config.KEY=VALUE changes a "
        "key; with --config, --help lists the keys.",
        lock_config=True,
    )
    flags.DEFINE_string(
        "workdir", None, f"Folder for the outputs of {script}; a killed run resumes."
    )
    flags.DEFINE_integer(
        "seed",
        None,
        "Number that is added to every seed of the configuration. When it is given, "
        "operations are deterministic: a second run on this machine has equal results.",
    )
    require("config", "workdir")


def define_strategy_flag() -> None:
    """Defines `--strategy`, see `devices.make_strategy`."""
    flags.DEFINE_enum(
        "strategy",
        "auto",
        STRATEGIES,
        "Devices: all GPUs of this machine (mirrored), all machines in TF_CONFIG "
        "(multi_worker), or mirrored or multi_worker if there are several (auto).",
    )


def make_deterministic(config: Any, seed: int | None) -> None:
    """Adds a seed to every `seed` of `config`, and makes operations deterministic.

    Does nothing for None.

    Args:
      config: The configuration, a ConfigDict.
      seed: The number to add, or None.
    """
    if seed is None:
        return
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    _add_to_seeds(config, seed)


def sigterm_flag() -> Callable[[], bool]:
    """Returns whether SIGTERM was received, as a function.

    The default handler, which ends the process, is replaced.
    """
    came = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: came.set())
    return came.is_set


def define_stack_flags() -> None:
    """Defines `--axes` and `--percentiles_by`, see `data.open_source`."""
    flags.DEFINE_string(
        "axes",
        None,
        "Axes of .npy files, such as TZYX; S stands for the colors. Each index along "
        "the other axes is a picture, as each page of a TIFF is.",
    )
    flags.DEFINE_enum(
        "percentiles_by",
        "file",
        ("file", "page"),
        "Whether the percentiles of a range are taken over a whole stack or a page.",
    )


def define_denoiser_flags() -> None:
    """Defines the flags that `denoiser_options` reads."""
    flags.DEFINE_float("strength", 1.0, "Part of the correction to apply, 0 to 1.")
    flags.DEFINE_bool(
        "self_ensemble",
        False,
        "Average over 8 flips and rotations. It takes 8 times as long.",
    )
    flags.DEFINE_bool(
        "luminance_only",
        False,
        "Denoise only the luminance of color pictures and keep their chroma.",
    )
    flags.DEFINE_string(
        "range",
        None,
        "Pixel values that the network sees as 0 and 1: LOW,HIGH, percentiles "
        "LOW%,HIGH% of each picture or stack, or dtype. The model has a default, and "
        "percentiles are used if a sizeable part of the pixels lies outside of it.",
    )
    flags.DEFINE_enum(
        "transform",
        "none",
        ("none", "anscombe", "asinh", "log"),
        "Map of the pixels under which noise that grows with the signal is uniform: "
        "anscombe for photon counts (means are kept by its exact unbiased inverse), "
        "asinh or log for other pictures of a large range.",
    )
    flags.DEFINE_float(
        "gain",
        None,
        "Pixel units for each photon (anscombe), or the unit of asinh and log; "
        "estimated from each picture or stack by default.",
    )
    flags.DEFINE_float(
        "offset",
        None,
        "Pixel value without light, for --transform; estimated by default.",
    )
    flags.DEFINE_bool(
        "trust_saved_model",
        False,
        "Load any SavedModel. It is a program that runs with your rights; without this "
        "flag it must be an unchanged export of tfflowdn that only computes.",
    )


def denoiser_options(values: flags.FlagValues) -> dict[str, object]:
    """Returns the keyword arguments of a denoiser that the flags stand for."""
    return {
        "strength": values.strength,
        "self_ensemble": values.self_ensemble,
        "luminance_only": values.luminance_only,
        "pixel_range": values.range,
        "transform": values.transform,
        "gain": values.gain,
        "offset": values.offset,
    }


def publish(report: dict, output: str | None) -> None:
    """Prints a report as a table and, with `output`, writes it to a JSON file.

    Args:
      report: `mean`, a dictionary of scores, and `pictures`, one by name. `peak` may
        describe the peak of the PSNR. Numbers that are not finite are null in JSON.
      output: Path of the file. It is written whole or not at all.
    """
    print(_table(report))
    if "peak" in report:
        print(f"The peak of the PSNR is {report['peak']}.")
    if output:
        path = Path(output)
        text = json.dumps(_as_json(report), indent=2, allow_nan=False) + "\n"
        tfflowdn.files.replace(path, lambda temporary: temporary.write_text(text))


def run(
    main: Callable[[Sequence[str]], None],
    *,
    arguments: str = "",
    needs_tensorflow: bool = True,
) -> None:
    """Runs `main(argv)` with the parsed flags.

    `--help` shows the docstring of `main`'s module and the command's own flags. A bad
    command line ends with one line and code `EXIT_USAGE`; a bad input with one line
    and code 1, or with a traceback if `--traceback` is given; a training that was
    asked to stop, or whose other workers are gone, with `EXIT_RESUME`.

    Args:
      main: The work; it gets the name of the program and the arguments.
      arguments: The name of the positional argument: "NAME" for exactly one, "NAME..."
        for at least one, "" for none.
      needs_tensorflow: Whether to import TensorFlow first, without its messages.
    """
    flags.DEFINE_bool("traceback", False, "Show where in the code an error occurred.")
    module = sys.modules[main.__module__]
    own = sorted(set(flags.FLAGS) - _OTHERS)

    def parse(argv):
        try:
            return _parse(argv, own, module.__doc__, arguments)
        except UsageError as error:
            print(f"{error}\nSee {_name()} --help.", file=sys.stderr)
            sys.exit(EXIT_USAGE)

    def guarded(argv):
        _speak_plainly()
        try:
            if needs_tensorflow:
                _import_tensorflow()
            main(argv)
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)
        except Exception as error:
            code = _exit_code(error)
            if code is None or flags.FLAGS.traceback:
                raise
            print(_one_line(error), file=sys.stderr)
            sys.exit(code)

    app.run(guarded, flags_parser=parse)


def _parse(
    argv: list[str], own: list[str], description: str, arguments: str
) -> list[str]:
    """Returns the program's name and the arguments; answers --help and --version."""
    given = argv[1 : argv.index("--")] if "--" in argv else argv[1:]
    # Some commands have a --version=N of their own.
    if set(VERSION_FLAGS) & set(given) and ("version" not in own or len(given) == 1):
        print(f"tfflowdn {tfflowdn.__version__}")
        sys.exit(0)
    if "config" in flags.FLAGS:
        argv = _with_config_first(argv)
    if any(argument in HELP_FLAGS for argument in given):
        _show(_help(description, own, argv))
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


def _name() -> str:
    return Path(sys.argv[0]).stem


def _speak_plainly() -> None:
    """Logs sentences without date, thread and file; warnings are marked."""
    logging.get_absl_handler().setFormatter(_Plain())
    logging.set_verbosity(max(logging.get_verbosity(), logging.INFO))


class _Plain(logging.PythonFormatter):
    """The message of a record, and its level unless it is only information."""

    def format(self, record):
        message = record.getMessage()
        if record.levelname == "INFO":
            return message
        return f"{record.levelname.capitalize()}: {message}"


def _import_tensorflow() -> None:
    """Imports TensorFlow without the messages that it writes at its start.

    They are shown if the import fails, or if TF_CPP_MIN_LOG_LEVEL asks for them.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3") != "3":
        import tensorflow  # noqa: F401

        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with _held_stderr():
        import tensorflow  # noqa: F401


@contextlib.contextmanager
def _held_stderr() -> Iterator[None]:
    """Holds back what any code writes to stderr; shows it if there is an exception."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        shown = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            sys.stderr.flush()
            held.seek(0)
            os.write(shown, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(shown, 2)
            os.close(shown)


def _show(text: str) -> None:
    """Prints a text, also to a program that reads only a part, such as `head`."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _exit_code(error: Exception) -> int | None:
    """Returns the code of an error that gets one line; None for any other."""
    if isinstance(error, UsageError):
        return EXIT_USAGE
    known = (ValueError, ArithmeticError, OSError, ImportError, MemoryError)
    if isinstance(error, known):
        return 1
    from ml_collections import config_dict

    if isinstance(error, config_dict.RequiredValueError):
        return 1
    if "tensorflow" not in sys.modules:
        return None
    import tensorflow as tf

    resumable = (tfflowdn.training.PreemptionError, tf.errors.UnavailableError)
    if isinstance(error, resumable):
        return EXIT_RESUME
    return 1 if isinstance(error, tf.errors.OpError) else None


def _one_line(error: Exception) -> str:
    line = f"{type(error).__name__}: {error}"
    # Our own checks say what they received; anything else may be a bug.
    is_own = "Received:" in line or not isinstance(error, ValueError | ArithmeticError)
    return line if is_own else f"{line}\nGive --traceback to see where it occurred."


def _as_json(value):
    """Returns values of a report with None in place of numbers that are not finite."""
    if isinstance(value, dict):
        return {name: _as_json(part) for name, part in value.items()}
    is_lost = isinstance(value, float) and not math.isfinite(value)
    return None if is_lost else value


def _add_to_seeds(config, seed: int) -> None:
    for name, value in config.items():
        if hasattr(value, "items"):
            _add_to_seeds(value, seed)
        elif name == "seed":
            config[name] = value + seed


def _table(report: dict) -> str:
    scores = list(report["mean"])
    rows = [*report["pictures"].items(), ("mean", report["mean"])]
    width = max(len(name) for name, _ in rows)
    columns = [max(10, len(score)) for score in scores]

    def line(name, cells):
        padded = [f"{c:>{w}}" for c, w in zip(cells, columns, strict=True)]
        return " ".join([f"{name:<{width}}", *padded])

    lines = [line(name, [f"{row[s]:.4f}" for s in scores]) for name, row in rows]
    return "\n".join([line("", scores), *lines])
