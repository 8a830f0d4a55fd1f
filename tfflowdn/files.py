"""Files that are written whole or not at all, and directories of one process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

__all__ = ["locked", "replace"]


def replace(path: Path, write: Callable[[Path], None]) -> None:
    """Calls `write` with a path beside `path`, then renames that file to `path`.

    Whenever the process or the machine ends, `path` is the old file or the new one.

    Raises:
      OSError: If the file cannot be written, as on a full disk; `path` is unchanged.
    """
    temporary = path.with_name(f".tmp.{path.name}")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        kept = "is as it was before" if path.exists() else "was not written"
        raise OSError(
            f"The disk must have room for {path.name} and let it be written; "
            f"{path} {kept}. Received: {error}."
        ) from error


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Makes a directory and keeps other processes out; a killed one keeps none out.

    Raises:
      ValueError: If another process is in it.
      OSError: If nothing can be written to it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(directory / ".lock")
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise ValueError(
            "No two processes may train in one work directory at the same time. "
            f"Received: {str(directory)!r}, in which another one does."
        ) from None
    except OSError as error:
        raise OSError(
            f"The work directory must be one to write to. Received: {error}."
        ) from error
    try:
        yield
    finally:
        lock.release()
