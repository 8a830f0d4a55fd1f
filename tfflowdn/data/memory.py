"""Checks of arrays against the free memory of the machine or the container."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

__all__ = ["check_fits", "free_memory", "is_large", "mapped_array", "reserve"]

_CGROUPS = Path("/sys/fs/cgroup")
_CGROUPS_OF_PROCESS = Path("/proc/self/cgroup")


def free_memory() -> int:
    """Returns the bytes that this process may still use.

    It is the least of the free memory of the machine and of the control groups of the
    process (versions 1 and 2), by which containers have limits. Memory of files that a
    group can give back counts as free.
    """
    free = psutil.virtual_memory().available
    return max(0, min([free, *map(_free_in_group, _groups())]))


def reserve(file: int, num_bytes: int) -> None:
    """Reserves the space of a file that will be mapped into memory.

    A mapped file without space ends the process when the disk is full.

    Args:
      file: The descriptor of the open file.
      num_bytes: Its size.

    Raises:
      OSError: If the disk has no room.
    """
    try:
        if num_bytes and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file, 0, num_bytes)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # Some file systems.
            raise


def mapped_array(
    shape: tuple[int, ...],
    dtype: np.typing.DTypeLike,
    folder: str | os.PathLike | None = None,
) -> np.memmap:
    """Returns an array in a temporary file that has no name and ends with the array.

    Args:
      shape: The shape of the array.
      dtype: The dtype of the array.
      folder: The directory of the file, by default the one for temporary files.

    Raises:
      OSError: If the disk has no room.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        reserve(file.fileno(), math.prod(shape) * np.dtype(dtype).itemsize)
        return np.memmap(file, dtype, shape=shape)


def check_fits(
    shape: tuple[int, ...],
    dtype: np.typing.DTypeLike,
    extra_bytes: int = 0,
    what: str = "the picture",
) -> None:
    """Checks that an array fits into the memory that is free.

    A small file can declare a picture of any size (a decompression bomb).

    Args:
      shape: The shape of the array.
      dtype: The dtype of the array.
      extra_bytes: Further bytes that are needed at the same time.
      what: The content of the array, for the message.

    Raises:
      ValueError: If it does not.
    """
    needed = math.prod(map(int, shape)) * np.dtype(dtype).itemsize + extra_bytes
    free = free_memory()
    if needed > free:
        size = " x ".join(map(str, shape))
        raise ValueError(
            f"{what} must fit into memory. Received: one of "
            f"{size} {np.dtype(dtype).name} values, for which {needed / 2**30:.1f} GiB "
            f"are needed, while {free / 2**30:.1f} GiB are free."
        )


def is_large(num_bytes: int) -> bool:
    """Returns whether an array should stay on disk: above a quarter of free memory."""
    return num_bytes > free_memory() // 4


def _groups() -> Iterator[Path]:
    """Yields the folders of the control groups of this process, and of their parents.

    Inside of a container the paths of the host may not exist; the root is its group.
    """
    try:
        lines = _CGROUPS_OF_PROCESS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = _CGROUPS / ("memory" if controllers else "")
        group = root / path.lstrip("/")
        yield from (g for g in (group, *group.parents) if g.is_relative_to(root))


def _free_in_group(group: Path) -> float:
    """Returns the free memory of a control group; infinity if it has no limit."""
    for limit, usage, cache in (
        ("memory.max", "memory.current", "inactive_file "),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "),
    ):
        with contextlib.suppress(OSError, ValueError):  # "max" is no number.
            most = int((group / limit).read_text())
            used = int((group / usage).read_text())
            return most - used + _statistic(group / "memory.stat", cache)
    return math.inf


def _statistic(path: Path, name: str) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            if line.startswith(name):
                return int(line.removeprefix(name))
    return 0
