"""Overlapping tiles in a graph of TensorFlow operations, see `inference.tiling`."""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

__all__ = ["concat_map", "graph_spans"]


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


def concat_map(function: Callable, elements: tf.Tensor, axis: int) -> tf.Tensor:
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
