"""The fixed blur B of the data term."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from tfflowdn.layers.padding import mirror_pad

__all__ = ["GaussianBlur"]

MIN_SIGMA = 1e-2  # Of pixels, a kernel of one tap.


@keras.saving.register_keras_serializable("tfflowdn")
class GaussianBlur(keras.layers.Layer):
    """Depthwise Gaussian blur with a fixed kernel.

    Images [batch, H, W, C] to the same shape, each channel by itself. The kernel
    reaches three sigma; the image is mirrored at its border, so that a constant
    image stays what it is. It has no weights.

    Args:
      sigma: Standard deviation of the kernel in pixels; 0 leaves images untouched.
        A call may give another one up to this one, a number or a scalar tensor.
    """

    def __init__(self, sigma: float, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= sigma < np.inf:
            raise ValueError(
                f"sigma must be 0 or more pixels. Received: sigma={sigma}."
            )
        self.sigma = sigma
        self.radius = int(np.ceil(3 * sigma))

    def call(self, images, sigma=None):
        """Returns the images blurred by `sigma`, the layer's if it is None."""
        if self.radius == 0:
            return images
        sigma = self.sigma if sigma is None else sigma
        taps = _taps(ops.cast(sigma, images.dtype), self.radius)
        channels = images.shape[-1]
        for axis in (1, 2):
            images = mirror_pad(images, axis, self.radius, self.radius)
            shape = [1, 1, 1, 1]
            shape[axis - 1] = -1
            kernel = ops.tile(ops.reshape(taps, shape), [1, 1, channels, 1])
            images = ops.depthwise_conv(images, kernel, padding="valid")
        return images

    def compute_output_shape(self, input_shape):
        """Returns the input's shape."""
        return input_shape

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "sigma": self.sigma}


def _taps(sigma, radius):
    offsets = ops.cast(ops.arange(-radius, radius + 1), sigma.dtype)
    taps = ops.exp(-0.5 * ops.square(offsets / ops.maximum(sigma, MIN_SIGMA)))
    return taps / ops.sum(taps)
