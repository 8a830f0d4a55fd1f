"""1x1 convolution as one matrix product."""

from __future__ import annotations

import keras
import tensorflow as tf
from keras import ops

from tfflowdn.layers.bias_add import bias_add

__all__ = ["Pointwise"]


@keras.saving.register_keras_serializable("tfflowdn")
class Pointwise(keras.layers.Dense):
    """`keras.layers.Dense` of every pixel: images [batch, H, W, C] to [..., units].

    On rows of pixels, where product, bias and activation are one operation; faster on
    a CPU than a 1x1 convolution, above all its gradient.
    """

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the product with the kernel, bias and activation applied."""
        _, height, width, channels = ops.shape(images)
        rows = ops.matmul(ops.reshape(images, (-1, channels)), self.kernel)
        rows = self.activation(bias_add(rows, tf.convert_to_tensor(self.bias)))
        return ops.reshape(rows, (-1, height, width, self.units))
