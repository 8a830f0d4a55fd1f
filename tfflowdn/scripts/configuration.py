"""Configurations by name or file, and clear errors about them, without TensorFlow."""

from __future__ import annotations

import difflib
import os
import re
import runpy
import shlex
from collections.abc import Iterable
from pathlib import Path

from ml_collections import config_dict

from tfflowdn.config_files import configurations

__all__ = [
    "UsageError",
    "check_overrides",
    "command_line",
    "configurations",
    "list_keys",
    "nearest",
    "resolve",
]

OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]+)")
INDEX = re.compile(r"\[\d+\]$")


class UsageError(Exception):
    """A command line that is not valid; the message states the requirement."""


def resolve(value: str) -> str:
    """Returns `FILE[:VARIANT]` for a `--config` of a name or a file.

    Args:
      value: `NAME[:VARIANT]`, with a name of `configurations`, or `FILE[:VARIANT]`.

    Raises:
      UsageError: If there is no such name and no such file.
    """
    name, colon, variant = value.partition(":")
    known = configurations()
    if name in known and not os.path.isfile(name):
        return f"{known[name]}{colon}{variant}"
    if not os.path.isfile(name):
        raise UsageError(
            "--config must be a file with get_config(), or one of "
            f"{', '.join(known)}.{nearest(Path(name).stem, known)} "
            f"Received: --config={value}."
        )
    return value


def check_overrides(arguments: Iterable[str], config: str) -> None:
    """Checks that each `--config.KEY` names a key of the configuration.

    Args:
      arguments: The command line.
      config: The configuration, `FILE[:VARIANT]`.

    Raises:
      UsageError: If the configuration lacks a key.
    """
    overrides = [OVERRIDE.match(argument) for argument in arguments]
    paths = [match.group(1) for match in overrides if match]
    section = _load(config)
    for path in paths:
        _check_path(section, path)


def command_line(argv: Iterable[str]) -> str:
    """Returns a command line for a shell, with configurations of the package by name.

    Args:
      argv: The program and its arguments, with `--config=FILE[:VARIANT]`.
    """
    names = {str(path): name for name, path in configurations().items()}
    words = []
    for word in argv:
        flag, _, value = word.partition("=")
        file, colon, variant = value.partition(":")
        known = flag == "--config" and file in names
        words.append(f"{flag}={names[file]}{colon}{variant}" if known else word)
    program, *rest = words
    return shlex.join([Path(program).stem, *rest])


def list_keys(config: str) -> list[str]:
    """Returns `KEY=VALUE` for each key of a configuration, sections joined by dots."""
    return [f"{key}={value}" for key, value in _flat(_load(config)).items()]


def nearest(name: str, names: Iterable[str]) -> str:
    """Returns " Did you mean ...?" with the names most like `name`, or ""."""
    close = difflib.get_close_matches(name, list(names), n=2, cutoff=0.55)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def _load(config: str) -> config_dict.ConfigDict:
    file, colon, variant = config.partition(":")
    try:
        module = runpy.run_path(file)
    except Exception as error:
        raise UsageError(
            "--config must be a file that Python can run. "
            f"Received: {file}: {type(error).__name__}: {error}."
        ) from error
    if "get_config" not in module:
        raise UsageError(
            f"--config must be a file with get_config(). Received: {file}."
        )
    try:
        return module["get_config"](*([variant] if colon else []))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{error} In --config={config}.") from error


def _check_path(config: config_dict.ConfigDict, path: str) -> None:
    section, above = config, ""
    for part in path.split("."):
        key = INDEX.sub("", part)
        if not isinstance(section, config_dict.ConfigDict):
            raise UsageError(
                f"config.{above.rstrip('.')} is a value, it has no keys. "
                f"Received: --config.{path}."
            )
        if key not in section:
            everywhere = {name.rpartition(".")[-1]: name for name in _flat(config)}
            close = difflib.get_close_matches(key, [*section], n=2)
            close = close or difflib.get_close_matches(key, [*everywhere], n=2)
            names = [f"{above}{c}" if c in section else everywhere[c] for c in close]
            hint = f" Did you mean {' or '.join(names)}?" if names else ""
            where = f"config.{above.rstrip('.')}" if above else "The configuration"
            raise UsageError(
                f"{where} has no key {key!r}.{hint} Its keys: {', '.join(section)}."
            )
        section, above = _value(section, key), f"{above}{key}."


def _value(section: config_dict.ConfigDict, key: str) -> object:
    """Returns the value of a key; None where the user must still give one."""
    try:
        return section[key]
    except config_dict.RequiredValueError:
        return None


def _flat(config: config_dict.ConfigDict, above: str = "") -> dict[str, object]:
    flat = {}
    for key in config:
        value = _value(config, key)
        if isinstance(value, config_dict.ConfigDict):
            flat |= _flat(value, f"{above}{key}.")
        else:
            flat[f"{above}{key}"] = value
    return flat
