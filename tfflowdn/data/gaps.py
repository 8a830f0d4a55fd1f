"""Missing pixels: not a number, infinite, or masked in a `numpy.ma.MaskedArray`.

Files that name a value for missing pixels are read as masked arrays. The networks see
values of neighbors in place of missing pixels. Arrays without missing pixels, such
as all integers without a mask, are returned as they are.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator

import numpy as np

from tfflowdn.data import memory

__all__ = [
    "as_float64",
    "count_gaps",
    "cut_gaps",
    "fill_gaps",
    "find_gaps",
    "mark_gaps",
    "mask_values",
    "present_values",
    "restore_gaps",
]

_LARGEST = np.finfo(np.float32).max  # Many programs mark missing pixels with it.
_ROWS, _HALO = 512, 64  # Of the blocks in which pictures are filled.
_PRESENT = 0.6  # Share of the neighbors of a pixel that is missing by itself.
_MOST_CELLS = 128  # Along each axis, for the search of the largest part.


def find_gaps(pixels: np.ndarray) -> np.ndarray | None:
    """Returns which pixels are missing, bool of the same shape; None for none."""
    if not _may_miss(pixels):
        return None
    gaps = np.ma.getmaskarray(pixels).copy()
    if pixels.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            gaps |= ~(np.abs(np.ma.getdata(pixels)) < _LARGEST)
    return gaps if gaps.any() else None


def mask_values(
    pixels: np.ndarray, low: float, high: float, has_alpha: bool = False
) -> np.ndarray:
    """Returns pixels [..., C] with a mask where they are within [low, high].

    Pixels without such values are returned as they are.

    Args:
      pixels: Integers or floats.
      low: The lowest value.
      high: The highest value.
      has_alpha: Whether the last channel is alpha, which is never missing.
    """
    is_large = memory.is_large(pixels.size)
    new = memory.mapped_array if is_large else np.empty
    mask = new(pixels.shape, np.dtype(bool))
    if pixels.dtype.kind == "f":  # The value as the file can store it.
        with np.errstate(over="ignore"):
            low, high = (pixels.dtype.type(value) for value in (low, high))
    for first in range(0, len(pixels), _ROWS):
        rows = slice(first, first + _ROWS)
        mask[rows] = (pixels[rows] >= low) & (pixels[rows] <= high)
    if has_alpha:
        mask[..., -1] = False
    return np.ma.MaskedArray(pixels, mask) if mask.any() else pixels


def count_gaps(picture: np.ndarray) -> int:
    """Returns the number of missing values of a picture [H, W, C].

    Raises:
      ValueError: If more than half of its values are missing.
    """
    num_missing = 0
    if _may_miss(picture):
        blocks = (find_gaps(picture[rows]) for rows, _ in _blocks(len(picture)))
        num_missing = sum(int(gaps.sum()) for gaps in blocks if gaps is not None)
    if 2 * num_missing > picture.size:
        raise ValueError(
            "At least half of the pixels of a picture must be finite numbers that are "
            f"not masked. Received: {num_missing=} of {picture.size} values."
        )
    return num_missing


def fill_gaps(picture: np.ndarray) -> np.ndarray:
    """Returns a picture [H, W, C] whose missing values are means of present neighbors.

    The neighbors are the present pixels in the smallest square around a pixel, of 3, 5,
    9, ... pixels, that has some.

    Raises:
      ValueError: If more than half of the values are missing.
    """
    return _fill(picture) if count_gaps(picture) else np.ma.getdata(picture)


def _fill(picture):
    shape, dtype = picture.shape, picture.dtype
    is_large = memory.is_large(picture.size * dtype.itemsize)
    result = memory.mapped_array(shape, dtype) if is_large else np.empty(shape, dtype)
    for rows, halo in _blocks(len(picture)):
        block = picture[halo]
        result[rows] = np.ma.getdata(picture[rows])
        gaps = find_gaps(block)
        if gaps is not None:
            inner = slice(rows.start - halo.start, rows.stop - halo.start)
            filled = _filled(block, gaps, functools.partial(_mean, picture))
            result[rows][gaps[inner]] = filled[inner][gaps[inner]]
    return result


def restore_gaps(result: np.ndarray, picture: np.ndarray) -> None:
    """Puts the missing values of a picture [H, W, C] into a result, exactly.

    Raises:
      ValueError: If the result has integers, and a missing value is not a number.
    """
    for rows, _ in _blocks(len(picture)):
        gaps = find_gaps(picture[rows])
        if gaps is None:
            continue
        values = np.ma.getdata(picture[rows])[gaps]
        _check_storable(values, result.dtype)
        with np.errstate(over="ignore"):
            result[rows][gaps] = values


def _check_storable(values: np.ndarray, dtype: np.dtype) -> None:
    """Checks that integers can hold the values of missing pixels."""
    if dtype.kind == "f" or not values.size:
        return
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError(
            "dtype must be a type of floats for a picture with values that are not "
            f"finite. Received: dtype={dtype.name}."
        )
    info, low, high = np.iinfo(dtype), values.min(), values.max()
    if low < info.min or high > info.max:
        raise ValueError(
            "dtype must hold the values of missing pixels. "
            f"Received: dtype={dtype.name}, values from {low} to {high}."
        )


def mark_gaps(picture: np.ndarray) -> np.ndarray:
    """Returns a picture [H, W, C] for crops: filled, or marked in wide gaps.

    Missing pixels most of whose neighbors are present are filled. The others are NaN in
    pictures of floats, and masked in pictures of integers.
    """
    gaps = find_gaps(picture)
    if gaps is None:
        return np.ma.getdata(picture)
    wide, result = _wide(gaps), _fill(picture)
    if not wide.any():
        return result
    if result.dtype.kind != "f":
        return np.ma.MaskedArray(result, wide)
    return np.where(wide, result.dtype.type(np.nan), result)


def cut_gaps(picture: np.ndarray) -> np.ndarray:
    """Returns the largest part of a picture [H, W, C] without wide gaps, filled.

    Raises:
      ValueError: If more than half of the values are missing.
    """
    gaps = find_gaps(picture)
    result = fill_gaps(picture)
    wide = None if gaps is None else _wide(gaps)
    if wide is None or not wide.any():
        return result
    rows, columns = _largest_part(wide.any(-1))
    return result[rows, columns]


def present_values(pixels: np.ndarray) -> np.ndarray:
    """Returns the values that are not missing, [n]."""
    gaps, values = find_gaps(pixels), np.ma.getdata(pixels)
    return values.ravel() if gaps is None else values[~gaps]


def as_float64(pixels: np.ndarray) -> np.ndarray:
    """Returns pixels with NaN for missing values, float64.

    Raises:
      ValueError: If they are neither integers, floats nor bools.
    """
    if pixels.dtype.kind not in "iufbV":  # V: bfloat16.
        raise ValueError(
            "The pixels must be integers, floats or bools. "
            f"Received: dtype={pixels.dtype}."
        )
    gaps, values = find_gaps(pixels), np.ma.getdata(pixels).astype(np.float64)
    if gaps is not None:
        values[gaps] = np.nan
    return values


def _may_miss(pixels: np.ndarray) -> bool:
    return pixels.dtype.kind == "f" or np.ma.isMaskedArray(pixels)


def _blocks(num_rows: int) -> Iterator[tuple[slice, slice]]:
    """Yields rows, and the same rows with their neighborhood."""
    for first in range(0, num_rows, _ROWS):
        stop = min(first + _ROWS, num_rows)
        halo = slice(max(first - _HALO, 0), min(stop + _HALO, num_rows))
        yield slice(first, stop), halo


def _filled(block, gaps, mean):
    """Returns a block with all gaps filled; `mean()` is for one that is empty."""
    values = np.where(gaps, 0, np.ma.getdata(block)).astype(np.float64)
    rest, result, radius = gaps.copy(), values.copy(), 1
    while rest.any() and radius < 2 * max(block.shape[:2]):
        counts = _box(~gaps, radius)
        usable = rest & (counts > 0)
        result[usable] = _box(values, radius)[usable] / counts[usable]
        rest &= ~usable
        radius *= 2
    if rest.any():
        result[rest] = mean()
    return np.rint(result) if block.dtype.kind in "iub" else result


def _mean(picture):
    total = count = 0
    for rows, _ in _blocks(len(picture)):
        values = present_values(picture[rows])
        total, count = total + values.sum(dtype=np.float64), count + values.size
    return total / count if count else 0.0


def _wide(gaps):
    """Returns the missing pixels too few of whose neighbors are present."""
    neighbors = _box(np.ones_like(gaps), 1) - 1
    return gaps & (_box(~gaps, 1) < _PRESENT * neighbors)


def _box(pixels, radius):
    """Returns sums over squares of [H, W, C], which end at the edges."""
    pixels = np.asarray(pixels, np.float64)
    for axis in (0, 1):
        size = pixels.shape[axis]
        zero = np.zeros_like(np.take(pixels, [0], axis))
        sums = np.concatenate([zero, np.cumsum(pixels, axis)], axis)
        stops = np.minimum(np.arange(size) + radius + 1, size)
        starts = np.maximum(np.arange(size) - radius, 0)
        pixels = np.take(sums, stops, axis) - np.take(sums, starts, axis)
    return pixels


def _largest_part(wide):
    """Returns rows and columns of the largest rectangle without True in [H, W].

    It consists of whole cells; large pictures have at most 128 of them along an axis.
    """
    cell = -(-max(wide.shape) // _MOST_CELLS)
    height, width = (size // cell for size in wide.shape)
    is_bad = np.zeros((height, width), bool)
    for row, column in itertools.product(range(cell), repeat=2):
        is_bad |= wide[row::cell, column::cell][:height, :width]
    best, part = 0, (0, 0, 0, 0)
    above = np.zeros(width, int)
    for row in range(height):
        above = np.where(is_bad[row], 0, above + 1)
        for column in np.flatnonzero(above):
            lows = np.minimum.accumulate(above[column:])
            areas = lows * np.arange(1, len(lows) + 1)
            if (area := areas.max()) > best:
                best, end = area, int(areas.argmax())
                low = int(lows[end])
                part = (row - low + 1, row + 1, column, column + end + 1)
    top, bottom, left, right = (int(cell * number) for number in part)
    return slice(top, bottom), slice(left, right)
