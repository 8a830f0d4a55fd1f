"""Files that are written completely or not at all, and directories of one process."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import math
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import filelock
import psutil

__all__ = ["json_text", "locked", "replace", "replace_folder", "temporary_folder"]

Result = TypeVar("Result")

_PREFIX = ".tmp"
_LONGEST_SUFFIX = 32  # Writers that choose a format by the suffix have short ones.
_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
_RUN = secrets.token_hex(4)  # Process numbers are used again; this number is unique.
_COUNTER = itertools.count()


def json_text(value: Any) -> str:
    """Returns JSON with null in place of numbers that are not finite.

    Args:
      value: Dictionaries, lists, tuples, texts and numbers.
    """
    return json.dumps(_as_json(value), indent=2, allow_nan=False) + "\n"


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_json(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(part) for part in value]
    is_lost = isinstance(value, float) and not math.isfinite(value)
    return None if is_lost else value


def replace(path: str | os.PathLike, write: Callable[[Path], Result]) -> Result:
    """Calls `write` with a temporary path next to `path`, then renames it to `path`.

    `path` is the old file or the complete new one, even if the process is killed or
    the machine stops. The temporary file exists, is empty, and is used by no other
    process; its name starts with a dot, ends in the suffix of `path`, and is short.
    The first call in a directory deletes the temporary files of processes of this
    machine that have ended.

    Args:
      path: The file to write; its directory must exist.
      write: Writes the file at the path that it is given.

    Returns:
      The result of `write`.

    Raises:
      OSError: If the file cannot be written, for instance on a full disk; `path` is
        unchanged.
    """
    path = Path(path)
    _delete_stale(path.parent.absolute())
    temporary = path.with_name(_temporary_name(path.suffix))
    try:
        with temporary.open("xb"):
            pass
        result = write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        kept = "is as it was before" if path.exists() else "was not written"
        raise OSError(
            f"The disk must have room for {path.name} and let it be written; "
            f"{path} {kept}. Received: {error}."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return result


def replace_folder(path: str | os.PathLike, write: Callable[[Path], Result]) -> Result:
    """Calls `write` with a temporary folder next to `path`, then renames it to `path`.

    Readers see the complete new folder, the old one, or, for a moment between two
    renamings, no folder.

    Args:
      path: The folder to write; the folder that holds it must exist.
      write: Writes the files of the folder that it is given, which exists.

    Returns:
      The result of `write`.

    Raises:
      OSError: If the folder cannot be written; `path` is unchanged.
    """
    path = Path(path)
    try:
        with temporary_folder(path.parent) as temporary:
            new = temporary / path.name
            new.mkdir()
            result = write(new)
            if path.exists():
                os.replace(path, temporary / "old")
            os.replace(new, path)
    except OSError as error:
        raise OSError(
            f"The disk must have room for {path.name} and let it be written. "
            f"Received: {error}."
        ) from error
    return result


@contextlib.contextmanager
def temporary_folder(parent: str | os.PathLike) -> Iterator[Path]:
    """Yields a new folder in `parent`, which is deleted at the end.

    Its name is chosen as the names of temporary files, see `replace`.

    Raises:
      OSError: If the folder cannot be made.
    """
    parent = Path(parent)
    _delete_stale(parent.absolute())
    folder = parent / _temporary_name("")
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Creates a directory and locks it; the lock of a killed process is void.

    Raises:
      ValueError: If another process has locked it.
      OSError: If the directory is not writable.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(directory / ".lock")
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise ValueError(
            "No two processes may train in one work directory at the same time. "
            f"Received: {str(directory)!r}, which another process is using."
        ) from None
    except OSError as error:
        raise OSError(
            f"The work directory must be writable. Received: {error}."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _temporary_name(suffix: str) -> str:
    suffix = suffix if len(suffix) <= _LONGEST_SUFFIX else ""
    return f"{_PREFIX}.{_HOST}-{os.getpid()}-{_RUN}-{next(_COUNTER)}{suffix}"


@functools.lru_cache(maxsize=1024)  # Once per directory: listing it takes time.
def _delete_stale(directory: Path) -> None:
    """Deletes the temporary files of processes of this machine that have ended."""
    with contextlib.suppress(OSError):
        for path in directory.glob(f"{_PREFIX}.{_HOST}-*"):
            if _is_in_use(path):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _is_in_use(temporary: Path) -> bool:
    """Returns whether the process in the name of a temporary file still runs."""
    try:
        _, process, run, _ = temporary.name.split("-", 3)
        process = int(process)
    except ValueError:
        return True  # The name is not one of ours.
    if process == os.getpid():
        return run == _RUN
    return psutil.pid_exists(process)
