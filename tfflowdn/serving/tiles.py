"""Overlapping tiles in a graph of TensorFlow operations, see `inference.tiling`."""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

__all__ = ["denoise_by_tiles", "graph_spans"]


def denoise_by_tiles(
    denoise: Callable[[tf.Tensor], tf.Tensor],
    noisy: tf.Tensor,
    *,
    margin: int,
    multiple: int,
    max_pixels: int,
) -> tf.Tensor:
    """Denoises several pictures at once, one picture, or one tile of a picture.

    Args:
      denoise: Maps pictures [batch, H, W, C] to the same shape.
      noisy: float32 [batch, H, W, C].
      margin: See `tiling.tiles`.
      multiple: See `tiling.tiles`.
      max_pixels: See `tiling.tiles`.
    """
    batch, height, width = tf.unstack(tf.shape(noisy, tf.int64)[:3])
    at_once = tf.clip_by_value(max_pixels // (height * width), 1, batch)
    options = {"margin": margin, "multiple": multiple, "max_pixels": max_pixels}
    rows, columns = graph_spans(height, width, **options)

    def denoise_pictures(index):
        first = index * at_once
        pictures = noisy[first : first + at_once]

        def denoise_row(row):
            return _concat_map(
                lambda column: _denoise_tile(denoise, pictures, rows[row], column),
                columns,
                axis=2,
            )

        return _concat_map(denoise_row, tf.range(tf.shape(rows)[0]), axis=1)

    chunks = tf.range((batch + at_once - 1) // at_once)
    denoised = _concat_map(denoise_pictures, chunks, axis=0)
    return tf.ensure_shape(denoised, noisy.shape)


def _denoise_tile(denoise, pictures, row, column):
    tile = pictures[:, row[0] : row[1], column[0] : column[1]]
    return denoise(tile)[
        :,
        row[2] - row[0] : row[3] - row[0],
        column[2] - column[0] : column[3] - column[0],
    ]


def graph_spans(
    height: tf.Tensor, width: tf.Tensor, *, margin: int, multiple: int, max_pixels: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the same tiles along each axis as `tiling.tiles`.

    Args:
      height: Scalar, int64.
      width: Scalar, int64.
      margin: See `tiling.tiles`.
      multiple: See `tiling.tiles`.
      max_pixels: See `tiling.tiles`.

    Returns:
      `start, stop, begin, end` of `tiling.Span` for the rows and for the columns,
      int64 [tiles, 4] each.
    """
    side = math.isqrt(max_pixels)
    fits = height * width <= max_pixels

    def spans(size, other):
        most = tf.where(other < side, max_pixels // other, side)
        most -= most % multiple
        return tf.cond(
            fits | (size < side) | (size <= most),
            lambda: tf.stack([[0, size, 0, size]]),
            lambda: _spans(size, most, margin, multiple),
        )

    return spans(height, width), spans(width, height)


def _spans(size, length, margin, multiple):
    """Returns `tiling.spans` of an axis with several tiles."""
    margin = multiple * math.ceil(margin / multiple)
    inner = size - 2 * margin
    count = _ceil_divide(inner, length - 2 * margin)
    step = multiple * _ceil_divide(inner, count * multiple)
    length = step + 2 * margin
    last = size - length
    last -= last % multiple
    starts = tf.concat([tf.range(0, last, step), [last]], 0)
    stops = tf.concat([starts[:-1] + length, [size]], 0)
    begins = tf.concat([[0], starts[1:] + margin], 0)
    ends = tf.concat([begins[1:], [size]], 0)
    return tf.stack([starts, stops, begins, ends], 1)


def _concat_map(function: Callable, elements: tf.Tensor, axis: int) -> tf.Tensor:
    """Concatenates function(element), [batch, H, W, C], along an axis, in sequence."""
    swap = [0, 1, 2, 3]
    swap[0], swap[axis] = axis, 0  # A TensorArray concatenates along its first axis.
    count = tf.shape(elements)[0]
    results = tf.TensorArray(tf.float32, count, infer_shape=False)
    _, results = tf.while_loop(
        lambda index, _: index < count,
        lambda index, results: (
            index + 1,
            results.write(index, tf.transpose(function(elements[index]), swap)),
        ),
        (0, results),
        parallel_iterations=1,  # One tile's memory at a time.
    )
    return tf.transpose(results.concat(), swap)


def _ceil_divide(number, divisor):
    return -(-number // divisor)
