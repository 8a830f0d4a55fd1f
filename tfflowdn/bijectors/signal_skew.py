"""Signal skew: noise whose skewness depends on the picture."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfflowdn.bijectors.one_pass import OnePassBijector

__all__ = ["SignalSkew"]

MEAN_ROOT = 1.3545308064812962
"""Mean of sqrt(1 + x^2) over standard normal x."""


class SignalSkew(OnePassBijector):
    """Skews standard normal noise, and keeps its mean 0 and its variance 1.

    It is the sinh-arcsinh transformation (Jones and Pewsey 2009) without its change of
    the tails, standardized: with e the value of `layer` at `signal`, `c = E sqrt(1 +
    x^2)` and `s^2 = cosh(e)^2 + (2 - c^2) sinh(e)^2`. Where e is 0 it is the identity.
    Transforms images [batch, H, W, C], to which e broadcasts.

    - forward: `y = (sinh(arcsinh(x) + e) - c sinh(e)) / s`
    - forward log-det: `sum log((cosh(e) + x / sqrt(1 + x^2) sinh(e)) / s)`
    - inverse: `x = sinh(arcsinh(u) - e)`, `u = s y + c sinh(e)`
    - inverse log-det: `sum log(s (cosh(e) - u / sqrt(1 + u^2) sinh(e)))`
    """

    def __init__(
        self,
        layer: Callable,
        signal: tf.Tensor,
        *,
        validate_args: bool = False,
        name: str = "signal_skew",
    ) -> None:
        parameters = dict(locals())
        self.layer = layer
        self.signal = signal
        super().__init__(parameters=parameters, name=name, validate_args=validate_args)

    def _forward_and_ildj(self, x):
        cosh, sinh, scale = self._coefficients()
        root = tf.sqrt(1 + x**2)
        y = (x * cosh + (root - MEAN_ROOT) * sinh) / scale
        return y, -_sum(tf.math.log((cosh + x / root * sinh) / scale))

    def _inverse_and_ildj(self, y):
        cosh, sinh, scale = self._coefficients()
        u = scale * y + MEAN_ROOT * sinh
        root = tf.sqrt(1 + u**2)
        x = u * cosh - root * sinh
        return x, _sum(tf.math.log(scale * (cosh - u / root * sinh)))

    def _coefficients(self):
        skew = self.layer(tf.convert_to_tensor(self.signal))
        cosh, sinh = tf.cosh(skew), tf.sinh(skew)
        scale = tf.sqrt(cosh**2 + (2 - MEAN_ROOT**2) * sinh**2)
        return cosh, sinh, scale


def _sum(values):
    return tf.reduce_sum(values, [-3, -2, -1])
