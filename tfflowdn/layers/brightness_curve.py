"""Weights of functions of the brightness."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

__all__ = ["BrightnessCurve", "NoiseLevel", "NoiseSkew"]


@keras.saving.register_keras_serializable("tfflowdn")
class BrightnessCurve(keras.layers.Layer):
    """Owns a function of the brightness, one for each channel.

    Called with clean pictures [batch, H, W, C] in [0, 1] units, returns its value at
    each pixel, of the same shape: piecewise linear between knots at even distances
    over [0, 1] and constant outside. It starts at zero.

    Args:
      num_knots: Number of knots, at least 2.
    """

    def __init__(self, num_knots: int = 17, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_knots = num_knots

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates one curve for each channel of [batch, H, W, C]."""
        self.knots = self.add_weight(
            shape=(self.num_knots, input_shape[-1]), initializer="zeros", name="knots"
        )

    def call(self, signal: tf.Tensor) -> tf.Tensor:
        """Returns the function's values, of the signal's shape."""
        values = self.values()
        channels = values.shape[-1]
        position = (self.num_knots - 1) * ops.clip(signal, 0, 1)
        below = ops.floor(ops.minimum(position, self.num_knots - 2))
        known = ops.where(ops.isnan(below), ops.zeros_like(below), below)
        index = ops.cast(known, "int32") * channels + ops.arange(
            channels, dtype="int32"
        )
        flat = ops.reshape(values, (-1,))
        low, high = ops.take(flat, index), ops.take(flat, index + channels)
        return low + (high - low) * (position - below)

    def values(self) -> tf.Tensor:
        """Returns the values at the knots, [knots, C]."""
        return ops.convert_to_tensor(self.knots)

    def roughness(self) -> tf.Tensor:
        """Returns the mean square of the curve's second differences, []."""
        values = self.values()
        return ops.mean(ops.square(values[2:] - 2 * values[1:-1] + values[:-2]))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "num_knots": self.num_knots}


@keras.saving.register_keras_serializable("tfflowdn")
class NoiseLevel(BrightnessCurve):
    """Owns the noise level function: the level of the noise at each brightness.

    Called with clean pictures, returns the logarithm of the noise's standard deviation
    at each pixel, up to a constant: its mean over the knots is 0.
    """

    def values(self) -> tf.Tensor:
        """Returns the values at the knots, [knots, C], of mean 0."""
        return self.knots - ops.mean(self.knots, axis=0)


@keras.saving.register_keras_serializable("tfflowdn")
class NoiseSkew(BrightnessCurve):
    """Owns the skewness of the noise at each brightness.

    Called with clean pictures, returns the parameter of `SignalSkew` at each pixel.

    Args:
      num_knots: Number of knots, at least 2.
      bound: Largest magnitude of the parameter.
    """

    def __init__(self, num_knots: int = 17, bound: float = 1.5, **kwargs: Any):
        super().__init__(num_knots, **kwargs)
        self.bound = bound

    def values(self) -> tf.Tensor:
        """Returns the values at the knots, [knots, C]."""
        return self.bound * ops.tanh(self.knots / self.bound)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "bound": self.bound}
