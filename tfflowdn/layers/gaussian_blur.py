"""The fixed blur B of the data term."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfflowdn.layers.padding import mirror_pad

__all__ = ["GaussianBlur"]


@keras.saving.register_keras_serializable("tfflowdn")
class GaussianBlur(keras.layers.Layer):
    """Depthwise Gaussian blur with a fixed kernel.

    Images [batch, H, W, C] to the same shape, each channel by itself. The kernel
    reaches three sigma; the image is mirrored at its border, so that a constant
    image does not change. It has no weights.

    Args:
      sigma: Standard deviation of the kernel in pixels; 0 leaves images untouched.
    """

    def __init__(self, sigma: float, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0 <= sigma < np.inf:
            raise ValueError(
                f"sigma must be 0 or more pixels. Received: sigma={sigma}."
            )
        self.sigma = sigma
        self.radius = int(np.ceil(3 * sigma))

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the blurred images."""
        if self.radius == 0:
            return images
        taps = _taps(ops.cast(self.sigma, images.dtype), self.radius)
        channels = images.shape[-1]
        for axis in (1, 2):
            images = mirror_pad(images, axis, self.radius, self.radius)
            shape = [1, 1, 1, 1]
            shape[axis - 1] = -1
            kernel = ops.tile(ops.reshape(taps, shape), [1, 1, channels, 1])
            images = ops.depthwise_conv(
                images, kernel, padding="valid", data_format="channels_last"
            )
        return images

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Returns the input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "sigma": self.sigma}


def _taps(sigma: tf.Tensor, radius: int) -> tf.Tensor:
    offsets = ops.cast(ops.arange(-radius, radius + 1), sigma.dtype)
    taps = ops.exp(-0.5 * ops.square(offsets / sigma))
    return taps / ops.sum(taps)
