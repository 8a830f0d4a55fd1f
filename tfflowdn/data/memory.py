"""Checks of arrays against the free memory."""

from __future__ import annotations

import math

import numpy as np
import psutil

__all__ = ["check_fits", "is_large"]


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
    free = psutil.virtual_memory().available
    if needed > free:
        size = " x ".join(map(str, shape))
        raise ValueError(
            f"{what} must fit into memory. Received: one of "
            f"{size} {np.dtype(dtype).name} values, for which {needed / 2**30:.1f} GiB "
            f"are needed, while {free / 2**30:.1f} GiB are free."
        )


def is_large(num_bytes: int) -> bool:
    """Returns whether an array should stay on disk: above a quarter of free memory."""
    return num_bytes > psutil.virtual_memory().available // 4
