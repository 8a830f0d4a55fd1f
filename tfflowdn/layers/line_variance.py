"""Weights of the noise of rows and columns."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

__all__ = ["LineVariance"]


@keras.saving.register_keras_serializable("tfflowdn")
class LineVariance(keras.layers.Layer):
    """Owns the variances of the common parts of rows and columns, see `LineScale`.

    Args:
      initial_variance: The variances before training, relative to a pixel.
    """

    def __init__(self, initial_variance: float = 0.05, **kwargs: Any):
        super().__init__(**kwargs)
        self.initial_variance = initial_variance

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the weights for images [batch, H, W, C]."""
        initial = float(keras.ops.log(self.initial_variance))
        self.log_variance = self.add_weight(
            shape=(2, input_shape[-1]),
            initializer=keras.initializers.Constant(initial),
            name="log_variance",
        )

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the logarithms of the variances of rows and columns, [2, C]."""
        del images
        return tf.convert_to_tensor(self.log_variance)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "initial_variance": self.initial_variance}
