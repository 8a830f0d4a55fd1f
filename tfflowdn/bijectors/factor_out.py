"""Multi-scale: half of the channels leaves, the others go on."""

from __future__ import annotations

import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfflowdn.bijectors.one_pass import OnePassBijector

__all__ = ["FactorOut"]


class FactorOut(OnePassBijector):
    """Applies `bijector` to the first half of the channels (Dinh et al. 2017, 3.6).

    The last half of the channels of images [batch, H, W, C] passes through: it is
    factored out to the base distribution. `bijector` must keep the image's shape.

    - forward: `y_a = bijector.forward(x_a)`, `y_b = x_b`
    - forward log-det: that of `bijector` at `x_a`
    - inverse: `x_a = bijector.inverse(y_a)`, `x_b = y_b`
    - inverse log-det: that of `bijector` at `y_a`
    """

    def __init__(
        self,
        bijector: tfb.Bijector,
        *,
        validate_args: bool = False,
        name: str = "factor_out",
    ):
        parameters = dict(locals())
        self.bijector = bijector
        super().__init__(parameters=parameters, name=name, validate_args=validate_args)

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
