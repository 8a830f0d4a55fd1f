"""The objective of stage 2, term by term, for each picture of a batch."""

from __future__ import annotations

import keras
from keras import ops

__all__ = [
    "blur_fidelity",
    "estimate_noise_sigma",
    "map_prior_weight",
    "negative_log_likelihood",
]


def blur_fidelity(denoised, noisy, blur: keras.layers.Layer):
    """Returns mean((B(D) - B(N))^2) of each picture, [batch].

    The data term of Kattakinda and Rajagopalan (2020): the low frequencies of the
    denoised picture D are those of the noisy one, N.

    Args:
      denoised: D, [batch, H, W, C] in [0, 1] units.
      noisy: N, of the same shape.
      blur: B, a linear layer such as `GaussianBlur`.
    """
    return ops.mean(ops.square(blur(denoised - noisy)), axis=(1, 2, 3))


def negative_log_likelihood(prior, images):
    """Returns -log f_C of each picture in nats per dimension, [batch].

    Args:
      prior: A model with `log_prob(images)` in nats per picture, such as FlowPrior.
      images: [batch, H, W, C] in [0, 1] units.
    """
    num_dims = ops.prod(ops.shape(images)[1:])
    return -prior.log_prob(images) / ops.cast(num_dims, images.dtype)


def map_prior_weight(noise_sigma, factor: float = 1.0):
    """Returns lambda = factor * 2 sigma^2, the weight of the maximum a posteriori.

    White Gaussian noise of sigma has log p(N | D) = -|D - N|^2 / (2 sigma^2): per
    dimension, the mean squared error stands against 2 sigma^2 times the nats.

    Args:
      noise_sigma: Standard deviation of the noise in [0, 1] units, any shape.
      factor: 1 for the MAP; flow priors do best at less, about 0.45 of it where they
        are evaluated with their dequantisation noise, 0.35 without.
    """
    return factor * 2 * ops.square(noise_sigma)


def estimate_noise_sigma(noisy):
    """Estimates the standard deviation of white noise in each picture, [batch].

    The median magnitude of the picture's mixed second difference, the stencil of
    Immerkaer (1996), over that of a unit normal. Edges are few and texture is weaker
    than noise at the finest scale, so that the median hardly sees them.

    Args:
      noisy: [batch, H, W, C], H and W at least 3, in [0, 1] units.
    """
    columns = noisy[:, 2:] - 2 * noisy[:, 1:-1] + noisy[:, :-2]
    stencil = columns[:, :, 2:] - 2 * columns[:, :, 1:-1] + columns[:, :, :-2]
    magnitude = ops.reshape(ops.abs(stencil), (ops.shape(noisy)[0], -1))
    return ops.median(magnitude, axis=-1) / (6 * _NORMAL_MEDIAN_MAGNITUDE)


_NORMAL_MEDIAN_MAGNITUDE = 0.6744897501960817
