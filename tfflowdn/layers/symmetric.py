"""Weights of a symmetric mixing of the channels."""

from __future__ import annotations

import keras
import tensorflow as tf
from keras import ops
from tensorflow import linalg

from tfflowdn.layers.parameters import Parameters

__all__ = ["SymmetricParameters"]

NUM_SQUARINGS, NUM_TERMS = 6, 9  # Exact to 1e-12 up to eigenvalues of 10.


@keras.saving.register_keras_serializable("tfflowdn")
class SymmetricParameters(Parameters):
    """Owns the logarithm S of a symmetric positive definite C x C matrix.

    Called with images [batch, H, W, C], returns exp(-S) [C, C], its inverse exp(S),
    and the log-determinant of the former, []. White latents times exp(S) have the
    covariance exp(2 S), so that each covariance belongs to one S. It starts as the
    identity.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the logarithm for images [batch, H, W, C]."""
        size = input_shape[-1]
        self.logarithm = self.add_weight(
            shape=(size, size), initializer="zeros", name="logarithm"
        )

    def derive(self, *, logarithm: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Returns matrix, inverse [..., C, C] and log-determinant [...]."""
        symmetric = (logarithm + linalg.matrix_transpose(logarithm)) / 2
        log_det = -ops.trace(symmetric, axis1=-2, axis2=-1)
        return _exp(-symmetric), _exp(symmetric), log_det


def _exp(matrix):
    """Returns the exponential of matrices [..., C, C]; XLA lacks TensorFlow's."""
    matrix = matrix / 2**NUM_SQUARINGS
    identity = ops.eye(matrix.shape[-1], dtype=matrix.dtype)
    result = identity
    for term in range(NUM_TERMS, 0, -1):  # Horner's scheme for the series.
        result = identity + matrix @ result / term
    for _ in range(NUM_SQUARINGS):
        result = result @ result
    return result
