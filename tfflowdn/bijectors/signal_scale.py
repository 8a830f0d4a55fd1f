"""Signal scale: noise whose level depends on the picture."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfflowdn.bijectors.one_pass import OnePassBijector

__all__ = ["SignalScale"]


class SignalScale(OnePassBijector):
    """Scales noise by a level that depends on the clean picture.

    Transforms images [batch, H, W, C]; `layer` gives the relative log-level
    at `signal`, of its shape, and `log_level` is added; both broadcast to the images.

    - forward: `y = x exp(layer(signal) + log_level)`
    - forward log-det: `sum(layer(signal) + log_level)`
    - inverse: `x = y exp(-layer(signal) - log_level)`
    - inverse log-det: `-sum(layer(signal) + log_level)`
    """

    def __init__(
        self,
        layer: Callable,
        signal: tf.Tensor,
        log_level: tf.Tensor | float = 0.0,
        *,
        validate_args: bool = False,
        name: str = "signal_scale",
    ) -> None:
        parameters = dict(locals())
        self.layer = layer
        self.signal = signal
        self.log_level = log_level
        super().__init__(parameters=parameters, name=name, validate_args=validate_args)

    def _forward_and_ildj(self, x):
        log_scale = self._log_scale(x)
        return x * tf.exp(log_scale), -tf.reduce_sum(log_scale, [-3, -2, -1])

    def _inverse_and_ildj(self, y):
        log_scale = self._log_scale(y)
        return y * tf.exp(-log_scale), -tf.reduce_sum(log_scale, [-3, -2, -1])

    def _log_scale(self, images):
        log_scale = self.layer(tf.convert_to_tensor(self.signal)) + self.log_level
        return log_scale + tf.zeros_like(images)
