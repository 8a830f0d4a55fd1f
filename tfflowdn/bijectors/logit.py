"""Logit of pixels, finite everywhere."""

from __future__ import annotations

import math

import tensorflow as tf

from tfflowdn.bijectors.image_bijector import ImageBijector

__all__ = ["PixelLogit"]


class PixelLogit(ImageBijector):
    """Maps pixels in [0, 1] to logits (Dinh et al. 2017, section 4.1).

    It acts on each pixel, with `p = alpha / 2 + (1 - alpha) y`. Noisy and denoised
    pictures have values outside of [0, 1], where a logit is not defined. So the logit
    continues as its tangent outside of [alpha / 4, 1 - alpha / 4], which makes it a
    smooth bijection of all real numbers.

    - forward: `y = (p - alpha / 2) / (1 - alpha)`, `p = sigmoid(x)`
    - forward log-det: `log p + log(1 - p) - log(1 - alpha)`
    - inverse: `x = log p - log(1 - p)`
    - inverse log-det: `log(1 - alpha) - log p - log(1 - p)`
    """

    def __init__(
        self,
        alpha: float = 0.05,
        *,
        validate_args: bool = False,
        name: str = "pixel_logit",
    ) -> None:
        parameters = dict(locals())
        if not 0 < alpha < 1:
            raise ValueError(f"alpha must lie in (0, 1). Received: alpha={alpha}.")
        self.alpha = alpha
        self._edge = alpha / 4
        self._edge_logit = math.log(self._edge / (1 - self._edge))
        self._edge_slope = 1 / (self._edge * (1 - self._edge))
        super().__init__(
            forward_min_event_ndims=0,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    def _forward(self, x):
        inside = tf.clip_by_value(x, self._edge_logit, -self._edge_logit)
        p = tf.sigmoid(inside) + (x - inside) / self._edge_slope
        return (p - self.alpha / 2) / (1 - self.alpha)

    def _inverse(self, y):
        p, inside = self._probability(y)
        logit = tf.math.log(inside) - tf.math.log1p(-inside)
        return logit + (p - inside) * self._edge_slope

    def _inverse_log_det_jacobian(self, y):
        _, inside = self._probability(y)
        slope = -tf.math.log(inside) - tf.math.log1p(-inside)
        return slope + math.log(1 - self.alpha)

    def _probability(self, y):
        p = self.alpha / 2 + (1 - self.alpha) * y
        return p, tf.clip_by_value(p, self._edge, 1 - self._edge)

    @classmethod
    def _parameter_properties(cls, dtype):
        del dtype
        return {}
