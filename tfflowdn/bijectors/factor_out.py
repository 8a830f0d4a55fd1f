"""Multi-scale: half of the channels go to the base distribution."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfflowdn.bijectors.image_bijector import ImageBijector
from tfflowdn.bijectors.one_pass import OnePassBijector

__all__ = ["FactorOut"]


class FactorOut(OnePassBijector):
    """Applies `bijector` to the first half of the channels (Dinh et al. 2017, 3.6).

    The last half of the channels of images [batch, H, W, C] passes through: it is
    factored out to the base distribution. `bijector` must keep the image's shape.

    - forward: `y_a = bijector.forward(x_a)`, `y_b = x_b`
    - forward log-det: the log-det of `bijector` at `x_a`
    - inverse: `x_a = bijector.inverse(y_a)`, `x_b = y_b`
    - inverse log-det: the log-det of `bijector` at `y_a`
    """

    def __init__(
        self,
        bijector: ImageBijector,
        *,
        validate_args: bool = False,
        name: str = "factor_out",
    ) -> None:
        parameters = dict(locals())
        self.bijector = bijector
        super().__init__(parameters=parameters, name=name, validate_args=validate_args)

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """The layers of `bijector`."""
        return self.bijector.layers

    def initialize(self, y: tf.Tensor) -> tf.Tensor:
        """Initializes `bijector` from the first half of the channels."""
        a, b = tf.split(y, 2, axis=-1)
        return tf.concat([self.bijector.initialize(a), b], axis=-1)

    def _inverse_event_shape(self, output_shape):
        *sizes, channels = output_shape
        self.bijector.inverse_event_shape([*sizes, channels and channels // 2])
        return output_shape

    def _forward_and_ildj(self, x):
        a, b = tf.split(x, 2, axis=-1)
        y_a = self.bijector.forward(a)
        ildj = -self.bijector.forward_log_det_jacobian(a, event_ndims=3)
        return tf.concat([y_a, b], axis=-1), ildj

    def _inverse_and_ildj(self, y):
        a, b = tf.split(y, 2, axis=-1)
        x_a = self.bijector.inverse(a)
        ildj = self.bijector.inverse_log_det_jacobian(a, event_ndims=3)
        return tf.concat([x_a, b], axis=-1), ildj
