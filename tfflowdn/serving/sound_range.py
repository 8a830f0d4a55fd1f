"""The choice of a sound range of pixel values, in a graph."""

from __future__ import annotations

import tensorflow as tf

__all__ = ["percentiles", "sound_limits"]

_SIDE = 6  # Of a block, pixels, as in `inference.noise_level`.
_MEDIAN_OF_BLOCK = 0.94
_TOLERANCE, _MOST_OUTSIDE = 0.05, 0.01
_SOUND = (0.1, 99.9)
_MAX_SAMPLE = 2**22


def sound_limits(picture: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> tf.Tensor:
    """Returns limits of a picture as `inference.find_scaling` chooses them.

    They are the given ones or, if a sizeable part of the picture lies outside of these,
    the percentiles 0.1 and 99.9.

    Args:
      picture: float32 [H, W, C], without alpha.
      low: The value that becomes 0, a scalar.
      high: The value that becomes 1, a scalar.

    Returns:
      float32 [2].
    """
    return tf.cond(
        _is_outside(picture, low, high),
        lambda: percentiles(picture, _SOUND),
        lambda: tf.stack([low, high]),
    )


def percentiles(picture: tf.Tensor, percentages: tuple[float, float]) -> tf.Tensor:
    """Returns two percentiles of [H, W, C] as `data.find_limits` does, float32 [2]."""
    height, width = tf.unstack(tf.shape(picture)[:2])
    num_pixels = tf.cast(height, tf.float64) * tf.cast(width, tf.float64)
    step = tf.cast(tf.math.ceil(tf.sqrt(num_pixels / _MAX_SAMPLE)), tf.int32)
    values = tf.sort(tf.reshape(picture[::step, ::step], [-1]))
    low, high = (_quantile(values, percent / 100) for percent in percentages)
    is_flat = low == high
    low, high = tf.where(is_flat, values[0], low), tf.where(is_flat, values[-1], high)
    return tf.stack([low, tf.where(high > low, high, low + 1)])


def _is_outside(picture, low, high):
    means = _blocks(picture)

    def has_outside():
        second = picture[:-2] - 2 * picture[1:-1] + picture[2:]
        second = (second[:, :-2] - 2 * second[:, 1:-1] + second[:, 2:]) / 6
        variances = _blocks(second**2)
        return tf.cond(
            tf.size(variances) > 0, lambda: share_is_large(variances), lambda: False
        )

    def share_is_large(variances):
        sorted_means = tf.sort(means)
        sigma = tf.sqrt(_quantile(tf.sort(variances), 0.5) / _MEDIAN_OF_BLOCK)
        spread = _quantile(sorted_means, 0.99) - _quantile(sorted_means, 0.01)
        margin = tf.maximum(sigma, _TOLERANCE * tf.minimum(spread, high - low))
        is_outside = (means < low - margin) | (means > high + margin)
        return tf.reduce_mean(tf.cast(is_outside, tf.float32)) > _MOST_OUTSIDE

    # Most pictures have no such block, and need no more memory.
    return tf.cond(
        tf.reduce_any((means < low) | (means > high)), has_outside, lambda: False
    )


def _blocks(pixels):
    """Returns the means of blocks of [H, W, C], [n]; no block for small pictures."""
    means = tf.nn.avg_pool2d(pixels[tf.newaxis], _SIDE, _SIDE, "VALID")
    return tf.reshape(means, [-1])


def _quantile(values, share):
    """Returns a quantile of sorted values [n], n at least 1."""
    place = tf.constant(share, tf.float64) * tf.cast(tf.size(values) - 1, tf.float64)
    below = tf.gather(values, tf.cast(tf.floor(place), tf.int32))
    above = tf.gather(values, tf.cast(tf.math.ceil(place), tf.int32))
    return below + tf.cast(place - tf.floor(place), tf.float32) * (above - below)
