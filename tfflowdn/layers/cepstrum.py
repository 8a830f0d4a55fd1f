"""Weights of a spectrum."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf
from keras import ops

__all__ = ["Cepstrum"]


@keras.saving.register_keras_serializable("tfflowdn")
class Cepstrum(keras.layers.Layer):
    """Owns the spectrum of a stationary field, as a cosine series of its logarithm.

    Called with images [batch, H, W, C], returns the log-amplitude [H, W, C] at the
    frequencies of the discrete Fourier transform. The mean power is 1, so that white
    noise of unit variance keeps its variance. The series (the cepstrum; Bogert et al.
    1963) makes every choice of weights a positive spectrum, at any size, and a sum of
    weights the product of spectra. It starts white.

    Args:
      order: Largest lag of the series, pixels.
      log_amplitude_bound: Largest magnitude of a log-amplitude before the mean power
        is set to 1, nats.
    """

    def __init__(self, order: int = 6, log_amplitude_bound: float = 6.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.order = order
        self.log_amplitude_bound = log_amplitude_bound

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the coefficients of half a plane of lags, for [batch, H, W, C]."""
        self.coefficients = self.add_weight(
            shape=(self.order + 1, 2 * self.order + 1, input_shape[-1]),
            initializer="zeros",
            name="coefficients",
        )

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the log-amplitude [H, W, C] at the size of the images."""
        _, height, width, _ = ops.shape(images)
        rows = self._angles(height, 0)
        columns = self._angles(width, -self.order)
        series = "hk,klc,wl->hwc"
        log_amplitude = ops.einsum(
            series, ops.cos(rows), self.coefficients, ops.cos(columns)
        ) - ops.einsum(series, ops.sin(rows), self.coefficients, ops.sin(columns))
        bound = self.log_amplitude_bound
        log_amplitude = ops.clip(log_amplitude, -bound, bound)
        power = ops.mean(ops.exp(2 * log_amplitude), axis=(0, 1))
        return log_amplitude - ops.log(power) / 2

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = {
            "order": self.order,
            "log_amplitude_bound": self.log_amplitude_bound,
        }
        return {**super().get_config(), **config}

    def _angles(self, size, first_lag):
        """Returns 2 pi lag frequency, [size, lags]."""
        lags = ops.arange(first_lag, self.order + 1, dtype=self.compute_dtype)
        frequencies = ops.arange(size, dtype=self.compute_dtype)
        frequencies = frequencies / ops.cast(size, self.compute_dtype)
        return 2 * math.pi * frequencies[:, None] * lags
