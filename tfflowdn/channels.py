"""Splitting and joining the channels of images."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

__all__ = ["join_channels", "split_channels"]

# Channels per part. Up to this number a transposition takes half the time on a CPU,
# because a split would copy the channels pixel by pixel.
MAX_TRANSPOSED = 6


def split_channels(images: tf.Tensor, count: int) -> list[tf.Tensor]:
    """Returns `tf.split(images, count, -1)` of images [..., C]."""
    size, rest = divmod(images.shape[-1], count)
    if size > MAX_TRANSPOSED or rest:
        return tf.split(images, count, -1)
    parts = tf.transpose(tf.reshape(images, [-1, count, size]), [1, 0, 2])
    shape = tf.concat([[count], tf.shape(images)[:-1], [size]], 0)
    return tf.unstack(tf.reshape(parts, shape), count)


def join_channels(parts: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns `tf.concat(parts, -1)` of images [..., C], all of one shape."""
    count, size = len(parts), parts[0].shape[-1]
    if size > MAX_TRANSPOSED:
        return tf.concat(parts, -1)
    shape = tf.concat([tf.shape(parts[0])[:-1], [count * size]], 0)
    stacked = tf.reshape(tf.stack(parts), [count, -1, size])
    return tf.reshape(tf.transpose(stacked, [1, 0, 2]), shape)
