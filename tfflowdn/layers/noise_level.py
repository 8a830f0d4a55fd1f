"""Weights of a noise level function."""

from __future__ import annotations

import keras
from keras import ops

__all__ = ["NoiseLevel"]


@keras.saving.register_keras_serializable("tfflowdn")
class NoiseLevel(keras.layers.Layer):
    """Owns the noise level function: how the noise depends on the brightness.

    Called with clean pictures [batch, H, W, C] in [0, 1] units, returns the logarithm
    of the noise's standard deviation at each pixel, of the same shape, up to a
    constant: piecewise linear between knots at even distances over [0, 1] and constant
    outside, its mean over the knots 0. It starts flat.

    Args:
      num_knots: Number of knots, at least 2.
    """

    def __init__(self, num_knots: int = 17, **kwargs):
        super().__init__(**kwargs)
        self.num_knots = num_knots

    def build(self, input_shape):
        """Creates one curve for each channel of [batch, H, W, C]."""
        self.knots = self.add_weight(
            shape=(self.num_knots, input_shape[-1]), initializer="zeros", name="knots"
        )

    def call(self, signal):
        """Returns the relative log standard deviation, of the signal's shape."""
        knots = self.centred_knots()
        channels = knots.shape[-1]
        position = (self.num_knots - 1) * ops.clip(signal, 0, 1)
        below = ops.floor(ops.minimum(position, self.num_knots - 2))
        index = ops.cast(below, "int32") * channels + ops.arange(channels)
        flat = ops.reshape(knots, (-1,))
        low, high = ops.take(flat, index), ops.take(flat, index + channels)
        return low + (high - low) * (position - below)

    def centred_knots(self):
        """Returns the values at the knots, [knots, C]."""
        return self.knots - ops.mean(self.knots, axis=0)

    def roughness(self):
        """Returns the mean square of the curve's second differences, []."""
        knots = self.centred_knots()
        return ops.mean(ops.square(knots[2:] - 2 * knots[1:-1] + knots[:-2]))

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "num_knots": self.num_knots}
