"""The terms of the objective, for each picture of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from keras import ops

__all__ = [
    "blur_fidelity",
    "bound_gradient",
    "estimate_noise_sigma",
    "map_prior_weight",
    "negative_log_likelihood",
]

_NORMAL_MEDIAN_MAGNITUDE = 0.6744897501960817


def blur_fidelity(
    denoised: tf.Tensor, noisy: tf.Tensor, blur: Callable[[tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    """Returns mean((B(D) - B(N))^2) of each picture, [batch].

    This is the data term of Kattakinda and Rajagopalan (2020, arXiv 2009.11532): the
    denoised picture D and the noisy picture N must have the same low frequencies.

    Args:
      denoised: D, [batch, H, W, C] in [0, 1] units.
      noisy: N, in the same shape.
      blur: B, a linear layer such as `GaussianBlur`.
    """
    return ops.mean(ops.square(blur(denoised - noisy)), axis=(1, 2, 3))


def negative_log_likelihood(prior: Any, images: tf.Tensor) -> tf.Tensor:
    """Returns -log f_C of each picture in nats per dimension, [batch].

    Args:
      prior: A model with `log_prob(images)` in nats per picture, such as FlowPrior.
      images: [batch, H, W, C] in [0, 1] units.
    """
    num_dims = ops.prod(ops.shape(images)[1:])
    log_prob = ops.cast(prior.log_prob(images), images.dtype)
    return -log_prob / ops.cast(num_dims, images.dtype)


def map_prior_weight(noise_sigma: tf.Tensor, factor: float = 1.0) -> tf.Tensor:
    """Returns lambda = factor * 2 sigma^2, the weight of the maximum a posteriori.

    White Gaussian noise has log p(N | D) = -|D - N|^2 / (2 sigma^2). Multiplied by
    -2 sigma^2 and divided by the number of dimensions, the log posterior is the mean
    squared error plus 2 sigma^2 times the prior's nats per dimension.

    Args:
      noise_sigma: Standard deviation of the noise in [0, 1] units, in any shape.
      factor: 1 for the MAP. Flow priors work best with less: about 0.45 if they are
        evaluated with their dequantization noise, and 0.35 without.
    """
    return factor * 2 * ops.square(noise_sigma)


def estimate_noise_sigma(noisy: tf.Tensor) -> tf.Tensor:
    """Estimates the standard deviation of white noise in each picture, [batch].

    The estimate is the median magnitude of the picture's mixed second difference (the
    stencil of Immerkaer 1996), divided by the same median for noise of standard
    deviation 1. Edges are few, and texture is weaker than noise at the finest scale, so
    both have little influence on a median.

    Args:
      noisy: [batch, H, W, C], H and W at least 3, in [0, 1] units.
    """
    columns = noisy[:, 2:] - 2 * noisy[:, 1:-1] + noisy[:, :-2]
    stencil = columns[:, :, 2:] - 2 * columns[:, :, 1:-1] + columns[:, :, :-2]
    magnitude = ops.reshape(ops.abs(stencil), (ops.shape(noisy)[0], -1))
    return ops.median(magnitude, axis=-1) / (6 * _NORMAL_MEDIAN_MAGNITUDE)


def bound_gradient(
    gradient: tf.Tensor, noise_sigma: tf.Tensor, bound: float
) -> tf.Tensor:
    """Bounds each picture's gradient; a gradient that is not finite becomes 0.

    Args:
      gradient: Gradient of each picture's objective, [batch, H, W, C].
      noise_sigma: Noise level of each picture, [batch].
      bound: Largest norm, in units of 2 sigma / sqrt(dims).
    """
    norm = tf.sqrt(tf.reduce_sum(gradient**2, axis=(1, 2, 3)))
    num_dims = tf.cast(tf.size(gradient[0]), gradient.dtype)
    limit = bound * 2 * noise_sigma / tf.sqrt(num_dims)
    scale = limit / tf.maximum(norm, limit)
    scale = tf.where(tf.math.is_finite(norm), scale, tf.zeros_like(scale))
    return tf.math.multiply_no_nan(gradient, scale[:, None, None, None])
