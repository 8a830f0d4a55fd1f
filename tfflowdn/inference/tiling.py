"""Large pictures in overlapping tiles, with the same result as in one piece."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Span", "apply_by_tiles", "measure_radius", "spans", "tile_lengths", "tiles"]


class Span(NamedTuple):
    """A tile along one axis, which reads [start, stop) and writes [begin, end)."""

    start: int
    stop: int
    begin: int
    end: int


def apply_by_tiles(
    function: Callable[[np.ndarray], np.ndarray],
    source: Any,
    target: Any,
    *,
    margin: int,
    multiple: int,
    max_pixels: int,
    on_pixels: Callable[[int], None] | None = None,
) -> None:
    """Writes `function(source)` into `target`, tile by tile.

    The result equals `function` of the whole picture if each result pixel depends only
    on pixels within `margin`, and the function commutes with shifts by `multiple`. The
    tiles begin at multiples of `multiple`; they end at such a multiple or at the end of
    the picture.

    Args:
      function: Maps [h, w, C] to the same height and width.
      source: Picture [H, W, C]: an array, or an object with `shape` whose
        `source[rows, columns]` is an array, such as a file that is read by window.
      target: The same, for `target[rows, columns] = array`.
      margin: Largest distance in pixels at which a pixel affects a result pixel.
      multiple: Period of the function, for instance the product of its strides.
      max_pixels: Largest number of pixels that the function gets at once.
      on_pixels: Called after each tile with the number of pixels that it wrote.

    Raises:
      ValueError: If tiles of `max_pixels` are not larger than their margins.
    """
    options = {"margin": margin, "multiple": multiple, "max_pixels": max_pixels}
    for row, column in tiles(*source.shape[:2], **options):
        tile = source[row.start : row.stop, column.start : column.stop]
        result = function(np.asarray(tile))
        target[row.begin : row.end, column.begin : column.end] = result[
            row.begin - row.start : row.end - row.start,
            column.begin - column.start : column.end - column.start,
        ]
        if on_pixels is not None:
            on_pixels((row.end - row.begin) * (column.end - column.begin))


def tiles(
    height: int, width: int, *, margin: int, multiple: int, max_pixels: int
) -> list[tuple[Span, Span]]:
    """Returns the tiles of a picture, rows and columns, see `apply_by_tiles`."""
    lengths = tile_lengths(height, width, max_pixels, multiple)
    rows, columns = (
        spans(size, length, margin=margin, multiple=multiple)
        for size, length in zip((height, width), lengths, strict=True)
    )
    return list(itertools.product(rows, columns))


def tile_lengths(
    height: int, width: int, max_pixels: int, multiple: int
) -> tuple[int, int]:
    """Returns the height and width of tiles that are as square as possible."""
    if height * width <= max_pixels:
        return height, width
    side = math.isqrt(max_pixels)
    if height < side:
        return height, _floor(max_pixels // height, multiple)
    if width < side:
        return _floor(max_pixels // width, multiple), width
    return _floor(side, multiple), _floor(side, multiple)


def spans(size: int, length: int, *, margin: int, multiple: int) -> list[Span]:
    """Returns the tiles along an axis of `size` pixels, in order.

    Args:
      size: Number of pixels along the axis.
      length: Largest number of pixels of a tile, a multiple of `multiple` unless it is
        at least `size`. The last tile may have up to `multiple - 1` more.
      margin: Number of pixels that a tile reads on either side of the pixels that it
        writes, except at the ends of the axis.
      multiple: Each tile starts at a multiple of it.

    Raises:
      ValueError: If the tiles are not longer than their margins.
    """
    if size <= length:
        return [Span(0, size, 0, size)]
    margin = multiple * math.ceil(margin / multiple)
    step = length - 2 * margin
    if step < 1:
        raise ValueError(
            "The tiles must be longer than their margins; increase max_pixels. "
            f"Received: {length=}, {margin=}."
        )
    # The smallest number of tiles, and the shortest tiles for this number.
    count = math.ceil((size - 2 * margin) / step)
    step = multiple * math.ceil((size - 2 * margin) / count / multiple)
    length = step + 2 * margin
    last = _floor(size - length, multiple)
    starts = [*range(0, last, step), last]
    stops = [*(start + length for start in starts[:-1]), size]
    begins = [0, *(start + margin for start in starts[1:])]
    ends = [*begins[1:], size]
    return list(map(Span, starts, stops, begins, ends))


def measure_radius(
    function: Callable[[np.ndarray], np.ndarray], channels: int, largest: int = 512
) -> int:
    """Returns the largest distance in pixels at which a change affects the result.

    Args:
      function: Maps [1, h, w, channels] to the same height and width.
      channels: Number of channels of its pictures.
      largest: Height and width of the largest picture to try.

    Raises:
      ValueError: If a change in the middle of the largest picture reaches its edge.
    """
    rng = np.random.default_rng(0)
    size = 64
    while size <= largest:
        radius = max(_reach(function, channels, size, rng) for _ in range(3))
        if radius < size // 2 - 16:
            return radius
        size *= 2
    raise ValueError(
        "A pixel must not affect the whole result, or tiles cannot be used. "
        f"Received: a network that reaches beyond {largest // 2} pixels."
    )


def _reach(function, channels, size, rng):
    """Returns the distance at which a change of 16 x 16 pixels affects the result."""
    picture = rng.random((1, size, size, channels), np.float32)
    changed, middle = picture.copy(), slice(size // 2 - 8, size // 2 + 8)
    changed[:, middle, middle] = rng.random((1, 16, 16, channels), np.float32)
    difference = np.abs(function(changed) - function(picture)).max((0, -1)) > 1e-6
    places = np.argwhere(difference)
    outside = np.maximum(middle.start - places, places - middle.stop + 1)
    return int(outside.max(initial=0))


def _floor(number, multiple):
    return number - number % multiple
