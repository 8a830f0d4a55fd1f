"""Addition of a bias, with an exact gradient in bfloat16."""

from __future__ import annotations

import tensorflow as tf

__all__ = ["bias_add"]


@tf.custom_gradient
def bias_add(values: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Returns `tf.nn.bias_add(values, bias)`, for [..., C] and [C].

    TensorFlow's own gradient of the bias sums in the dtype of the values: on a CPU a
    sum of bfloat16 stops at 256 times the size of its terms, no matter how many follow
    (unless it is merged with the gradient of a convolution's kernel). This one sums in
    float32, and takes no longer.
    """

    def gradients(gradient):
        rows = tf.reshape(gradient, [-1, bias.shape[0]])
        return gradient, tf.reduce_sum(rows, axis=0)

    return tf.nn.bias_add(values, bias), gradients
