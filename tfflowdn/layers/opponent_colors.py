"""Fixed axes of color."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from keras import ops

__all__ = ["OpponentColors"]

AXES = ((1, 1, 1), (1, 0, -1), (1, -2, 1))  # Gray, red to blue, magenta to green.


@keras.saving.register_keras_serializable("tfflowdn")
class OpponentColors(keras.layers.Layer):
    """Rotates RGB to gray and two opponent colors, and back; it has no weights.

    Called with images [batch, H, W, 3], returns the orthonormal matrix [3, 3] from RGB,
    its inverse, and the log-determinant of the former, 0.
    """

    def call(self, images: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Returns the matrix, its inverse and the log-determinant, of any images."""
        del images
        axes = np.array(AXES) / np.linalg.norm(AXES, axis=1, keepdims=True)
        axes = ops.convert_to_tensor(axes, self.compute_dtype)
        return ops.transpose(axes), axes, ops.zeros((), self.compute_dtype)
