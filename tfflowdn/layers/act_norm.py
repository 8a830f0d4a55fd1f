"""Weights of ActNorm."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfflowdn.layers.parameters import Parameters

__all__ = ["ActNormParameters"]


@keras.saving.register_keras_serializable("tfflowdn")
class ActNormParameters(Parameters):
    """Owns the shift and the log-scale of an ActNorm, and whether data set them.

    Called with images [batch, H, W, C], returns `shift` [C], `scale` [C], whose
    logarithm is within +-`log_scale_bound`, and the sum of the logarithms []. The
    weights start at zero, until `initialize` sets them from a batch (Kingma and
    Dhariwal 2018, section 3.1).

    Args:
      log_scale_bound: Largest magnitude of the log-scale, nats.
    """

    def __init__(self, log_scale_bound: float = 8.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.log_scale_bound = log_scale_bound

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the weights for images [batch, H, W, C]."""
        channels = input_shape[-1]
        self.shift = self.add_weight(
            shape=(channels,), initializer="zeros", name="shift"
        )
        self.log_scale = self.add_weight(
            shape=(channels,), initializer="zeros", name="log_scale"
        )
        self.initialized = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="initialized"
        )

    def derive(
        self, *, shift: tf.Tensor, log_scale: tf.Tensor, initialized: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        """Returns shift [..., C], scale [..., C] and the sum of log(scale) [...]."""
        del initialized
        log_scale = ops.clip(log_scale, -self.log_scale_bound, self.log_scale_bound)
        shift = ops.convert_to_tensor(shift)
        return shift, ops.exp(log_scale), ops.sum(log_scale, axis=-1)

    def initialize(self, images: tf.Tensor) -> None:
        """Sets the weights so that (images + shift) exp(log_scale) is standardized."""
        mean, variance = ops.moments(images, axes=[0, 1, 2])
        self.shift.assign(-mean)
        self.log_scale.assign(-0.5 * ops.log(variance + 1e-6))
        self.initialized.assign(1.0)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "log_scale_bound": self.log_scale_bound}
