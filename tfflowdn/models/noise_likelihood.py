"""The data term of the objective: the likelihood of the noise that was removed."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

__all__ = ["NoiseLikelihood"]


class NoiseLikelihood:
    """The likelihood of N - D under a learned noise, in the units of a squared error.

    The term of a picture is

        2 sigma^2 (log p(0 | D) - log p(N - D | D)) / dims

    where p is the density of the noise, given the denoised picture D, and sigma the
    standard deviation of the noise in this picture. For white Gaussian noise it is the
    mean squared error. The density belongs to the learned noise with some white noise
    in addition (`spectral_floor`). Without it, frequencies that the noise hardly
    contains would count thousands of times as much as the others. No gradient passes
    through D as the condition of the density.

    The correlation of the flow is periodic, and crops are not. N - D is therefore
    multiplied by a window that falls to 0 over `taper` pixels at the borders.

    Args:
      noise: A trained NoiseModel. It is frozen.
      reference: A trained network. The level of each picture is then estimated from
        N - R, where R is the output of this network for N. None for the root mean
        square of the levels that the noise model has learned.
      spectral_floor: Standard deviation of the white noise, relative to sigma.
      taper: Width of the falling part of the window in pixels; 0 for no window.

    Raises:
      ValueError: If `spectral_floor` or `taper` is negative or not finite.
    """

    def __init__(
        self,
        noise: keras.Model,
        reference: keras.Model | None = None,
        *,
        spectral_floor: float = 0.2,
        taper: int = 8,
    ) -> None:
        _check_not_negative(spectral_floor=spectral_floor, taper=taper)
        self.noise = noise
        self.reference = reference
        for model in (noise, reference):
            if model is not None:
                model.trainable = False
        self.spectral_floor = spectral_floor
        self.taper = taper

    def log_level(self, noisy: tf.Tensor) -> tf.Tensor:
        """Returns the logarithm of the level of the noise in each picture, [batch].

        Args:
          noisy: N, [batch, H, W, C] in [0, 1] units.
        """
        if self.reference is None:
            levels = tf.convert_to_tensor(self.noise.log_levels)
            mean = tf.math.log(tf.reduce_mean(tf.exp(2 * levels))) / 2
            return tf.fill(tf.shape(noisy)[:1], mean)
        signal = tf.stop_gradient(self.reference(noisy, training=False))
        window = self.window(noisy)
        whitened = self._density(signal, 0.0).bijector.inverse(
            window * (noisy - signal)
        )
        power = tf.reduce_mean(whitened**2, [1, 2, 3]) / tf.reduce_mean(window**2)
        return tf.math.log(tf.maximum(power, 1e-12)) / 2

    def sigma(self, noisy: tf.Tensor, log_level: tf.Tensor) -> tf.Tensor:
        """Returns the standard deviation of the noise in each picture, [batch].

        Args:
          noisy: N, [batch, H, W, C] in [0, 1] units.
          log_level: As `log_level` returns it.
        """
        return self.noise.standard_deviation(noisy, log_level)

    def __call__(
        self, denoised: tf.Tensor, noisy: tf.Tensor, log_level: tf.Tensor
    ) -> tf.Tensor:
        """Returns the term of each picture, [batch].

        Args:
          denoised: D, [batch, H, W, C] in [0, 1] units.
          noisy: N, of the same shape.
          log_level: As `log_level` returns it.
        """
        density = self._density(tf.stop_gradient(denoised), log_level)
        window = self.window(noisy)
        nats = density.log_prob(tf.zeros_like(noisy)) - density.log_prob(
            window * (noisy - denoised)
        )
        num_dims = tf.cast(tf.size(noisy[0]), nats.dtype)
        share = tf.reduce_mean(window**2)
        return 2 * self.sigma(noisy, log_level) ** 2 * nats / (num_dims * share)

    def window(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the window [H, W, 1] of images [batch, H, W, C]."""
        height, width = (self._fall(size) for size in _sizes(images))
        return height[:, tf.newaxis, tf.newaxis] * width[:, tf.newaxis]

    def _fall(self, size: tf.Tensor) -> tf.Tensor:
        if not self.taper:
            return tf.ones([size])
        position = tf.range(size, dtype="float32") + 0.5
        distance = tf.minimum(position, tf.cast(size, "float32") - position)
        inside = tf.minimum(distance / self.taper, 1.0)
        return tf.sin(np.pi / 2 * inside) ** 2

    def _density(self, signal: tf.Tensor, log_level: tf.Tensor | float) -> Any:
        return self.noise.distribution(
            signal, log_level, spectral_floor=self.spectral_floor
        )


def _sizes(images: tf.Tensor) -> list[tf.Tensor]:
    return tf.unstack(tf.shape(images)[1:3])


def _check_not_negative(**numbers: float) -> None:
    for name, number in numbers.items():
        if not 0 <= number < math.inf:
            raise ValueError(
                f"{name} must be a finite number of 0 or more. "
                f"Received: {name}={number!r}."
            )
