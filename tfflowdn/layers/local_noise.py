"""The local level of the noise, a bound on the changes by a denoiser."""

from __future__ import annotations

import tensorflow as tf
from keras import ops

from tfflowdn.layers.padding import mirror_pad

__all__ = ["REACH", "bound_change", "local_noise"]

LAGS = (1, 2)
WINDOW = 5  # Odd.
REACH = max(LAGS) + WINDOW // 2
"""Largest distance in pixels from which `local_noise` is influenced."""
MAX_CHANGE = 6.0
"""Largest change in units of the local noise; 4 costs no PSNR for white noise."""


def local_noise(images: tf.Tensor) -> tf.Tensor:
    """Estimates the standard deviation of the noise at each pixel.

    It is the root mean square of the differences of pixels at the distances of `LAGS`
    along both axes, over sqrt(2), in a square window. For white noise it is the
    standard deviation; with edges and texture it is larger; it is exactly zero only
    where the channel is constant.

    Args:
      images: [batch, H, W, C].

    Returns:
      The estimate for each channel, in the shape of `images`.
    """
    pad = max(LAGS)
    padded = mirror_pad(mirror_pad(images, 1, pad, pad), 2, pad, pad)

    def shifted(rows, columns):
        return padded[:, _window(rows, pad), _window(columns, pad)]

    offsets = [sign * lag for lag in LAGS for sign in (-1, 1)]
    neighbors = [shifted(offset, 0) for offset in offsets]
    neighbors += [shifted(0, offset) for offset in offsets]
    squares = sum(ops.square(neighbor - images) for neighbor in neighbors)
    mean = ops.average_pool(
        squares / (2 * len(neighbors)),
        WINDOW,
        strides=1,
        padding="same",
        data_format="channels_last",
    )
    return ops.sqrt(mean)


def bound_change(noisy: tf.Tensor, denoised: tf.Tensor) -> tf.Tensor:
    """Returns denoised pictures that differ from the noisy ones by noise at most.

    The change of a pixel is limited to `MAX_CHANGE` times `local_noise`. So a constant
    picture does not change, also at the borders and in colors that are new to a
    network.

    Args:
      noisy: [batch, H, W, C].
      denoised: The same shape.
    """
    limit = MAX_CHANGE * local_noise(noisy)
    return ops.clip(denoised, noisy - limit, noisy + limit)


def _window(offset, pad):
    return slice(pad + offset, offset - pad or None)
