"""Addition of a bias, with an exact gradient in bfloat16."""

from __future__ import annotations

import tensorflow as tf

__all__ = ["bias_add"]


@tf.custom_gradient
def bias_add(values: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Returns `tf.nn.bias_add(values, bias)`, for [..., C] and [C].

    TensorFlow sums the gradient of the bias in the dtype of the values. On a CPU, a sum
    of bfloat16 stops growing at 256 times the size of its terms, unless it is merged
    with the gradient of a convolution's kernel. This function sums in float32, which
    takes no longer.
    """

    def gradients(gradient):
        rows = tf.reshape(gradient, [-1, bias.shape[0]])
        return gradient, tf.reduce_sum(rows, axis=0)

    return tf.nn.bias_add(values, bias), gradients
