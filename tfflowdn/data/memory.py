"""What fits into memory."""

from __future__ import annotations

import math

import numpy as np
import psutil

__all__ = ["check_fits", "is_large"]


def check_fits(
    shape: tuple[int, ...], dtype: np.typing.DTypeLike, what: str = "the picture"
) -> None:
    """Raises ValueError unless an array fits into the memory that is free.

    A small file can declare a picture of any size (a decompression bomb).
    """
    needed = math.prod(int(size) for size in shape) * np.dtype(dtype).itemsize
    free = psutil.virtual_memory().available
    if needed > free:
        size = " x ".join(map(str, shape))
        raise ValueError(
            f"{what} must fit into memory. Received: "
            f"{size} {np.dtype(dtype).name} values, {needed / 2**30:.1f} GiB, while "
            f"{free / 2**30:.1f} GiB are free."
        )


def is_large(num_bytes: int) -> bool:
    """Whether an array is better left on disk: more than a quarter of what is free."""
    return num_bytes > psutil.virtual_memory().available // 4
