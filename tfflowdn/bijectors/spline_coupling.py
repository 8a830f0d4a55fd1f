"""Spline coupling over the channels."""

from __future__ import annotations

import tensorflow as tf

from tfflowdn.bijectors.channel_coupling import ChannelCoupling
from tfflowdn.bijectors.rational_quadratic import RationalQuadraticSpline

__all__ = ["SplineCoupling"]


class SplineCoupling(ChannelCoupling):
    """Affine coupling followed by rational-quadratic splines (Durkan et al. 2019).

    As `ChannelCoupling`, except that `conditioner(a)` gives, beside `shift` and
    `log_scale`, the parameters of a monotone spline `g` of every value of `b`, see
    `RationalQuadraticSpline`. The affine part standardises `b`, so that the splines
    meet it where they bend.

    - forward: `y_a = x_a`, `y_b = g^-1(x_b) exp(-log_scale(x_a)) - shift(x_a)`
    - forward log-det: `-sum(log_scale(x_a) + log g'(g^-1(x_b)))`
    - inverse: `x_a = y_a`, `x_b = g((y_b + shift(y_a)) exp(log_scale(y_a)))`
    - inverse log-det: `sum(log_scale(y_a) + log g'(g^-1(x_b)))`
    """

    def __init__(
        self,
        layer,
        *,
        swap: bool = False,
        validate_args: bool = False,
        name: str = "spline_coupling",
    ):
        super().__init__(layer, swap=swap, validate_args=validate_args, name=name)

    def _forward_and_ildj(self, x):
        a, b = self._split(x)
        shift, log_scale, spline = self._condition(a)
        b, log_slope = spline.inverse(b)
        return self._join(a, b * tf.exp(-log_scale) - shift), self._ildj(
            x, log_scale + log_slope
        )

    def _inverse_and_ildj(self, y):
        a, b = self._split(y)
        shift, log_scale, spline = self._condition(a)
        b, log_slope = spline.forward((b + shift) * tf.exp(log_scale))
        return self._join(a, b), self._ildj(y, log_scale + log_slope)

    def _condition(self, a):
        shift, log_scale, parameters = self.layer(a)
        num_bins = (parameters.shape[-1] // shift.shape[-1] + 1) // 3
        return shift, log_scale, RationalQuadraticSpline(parameters, num_bins)
