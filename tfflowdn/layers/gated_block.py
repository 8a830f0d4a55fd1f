"""Gated residual block without normalisation."""

from __future__ import annotations

import keras
from keras import ops

__all__ = ["GatedBlock"]


@keras.saving.register_keras_serializable("tfflowdn")
class GatedBlock(keras.layers.Layer):
    """x + a sigmoid(b), with a and b from a 1x1 convolution of relu(x).

    Features [batch, H, W, channels] to the same shape: the gate of PixelCNN and of
    Flow++ (Ho et al. 2019, arXiv 1902.00275) without 3x3 convolution, attention and
    normalisation, for the price of two 1x1 convolutions. The convolution starts at
    zero, so that the block starts as the identity.

    Args:
      channels: Channels in and out.
    """

    def __init__(self, channels: int, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.convolution = keras.layers.Conv2D(
            2 * channels,
            1,
            kernel_initializer="zeros",
            dtype=self.dtype_policy,
            name="convolution",
        )

    def build(self, input_shape):
        """Builds the convolution."""
        self.convolution.build(input_shape)

    def call(self, features):
        """Returns the block's output, of the input's shape."""
        a, b = ops.split(self.convolution(ops.relu(features)), 2, axis=-1)
        return features + a * ops.sigmoid(b)

    def compute_output_shape(self, input_shape):
        """Returns the input's shape."""
        return input_shape

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "channels": self.channels}
