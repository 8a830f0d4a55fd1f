"""Local means of pictures, and results that keep them."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np

from tfflowdn.data import memory

__all__ = ["MEAN_RADIUS", "RoundedTarget", "keep_local_mean"]

MEAN_RADIUS = 16  # Pixels in each direction.
_GOLDEN = (5**0.5 - 1) / 2


class RoundedTarget:
    """A picture of integers to be filled by floats, whose local means are kept.

    Floats are collected until the picture is whole. Along each row, the error of a
    rounded pixel is then added to the next one, and the rows begin with errors that
    are spread evenly.

    Args:
      target: Picture [H, W, C] of integers.
    """

    def __init__(self, target: np.ndarray) -> None:
        self._target = target
        self._values = None
        self._num_missing = target.shape[0] * target.shape[1]
        self.shape = target.shape

    def __setitem__(self, index: Any, values: np.ndarray) -> None:
        """Fills `[rows, columns]` or `[:]`; every pixel must be filled once."""
        if self._values is None:
            dtype = np.result_type(self._target.dtype, np.float32)
            self._values = _floats(self.shape, dtype)
        part = self._values[index]
        part[...] = values
        self._num_missing -= part.shape[0] * part.shape[1]
        if not self._num_missing:
            for row, values_of_row in enumerate(self._values):
                self._target[row] = self._rounded(values_of_row, _GOLDEN * row % 1)
            self._values = None

    def _rounded(self, values: np.ndarray, phase: float) -> np.ndarray:
        info = np.iinfo(self._target.dtype)
        sums = np.floor(np.cumsum(values, axis=0, dtype=np.float64) + phase)
        return np.clip(np.diff(sums, axis=0, prepend=0), info.min, info.max)


def _floats(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    if not memory.is_large(dtype.itemsize * int(np.prod(shape))):
        return np.empty(shape, dtype)
    return np.memmap(tempfile.TemporaryFile(), dtype, shape=shape)


def keep_local_mean(
    noisy: np.ndarray, denoised: np.ndarray, is_positive: bool
) -> np.ndarray:
    """Returns denoised pixels with the local means of the noisy pixels.

    Args:
      noisy: Pixels [H, W, C].
      denoised: The denoised pixels, of the same shape.
      is_positive: Whether no value may be below 0. Values are then multiplied by the
        ratio of the means; else the difference of the means is added.
    """
    if not is_positive:
        return denoised + _local_mean(noisy - denoised)
    denoised = np.maximum(denoised, 0)
    wanted, found = _local_mean(noisy), _local_mean(denoised)
    is_empty = found <= 0
    ratio = wanted / np.where(is_empty, 1, found)
    return np.where(is_empty, wanted, denoised * ratio)


def _local_mean(pixels: np.ndarray) -> np.ndarray:
    """Returns the means over squares, which end at the edges of the picture."""
    pixels = np.asarray(pixels, np.float64)
    for axis in (0, 1):
        size = pixels.shape[axis]
        zero = np.zeros_like(np.take(pixels, [0], axis))
        sums = np.concatenate([zero, np.cumsum(pixels, axis)], axis)
        stops = np.minimum(np.arange(size) + MEAN_RADIUS + 1, size)
        starts = np.maximum(np.arange(size) - MEAN_RADIUS, 0)
        counts = (stops - starts).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        pixels = (np.take(sums, stops, axis) - np.take(sums, starts, axis)) / counts
    return pixels
