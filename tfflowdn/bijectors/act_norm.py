"""ActNorm: a shift and a scale per channel."""

from __future__ import annotations

import tensorflow as tf

from tfflowdn.bijectors.one_pass import OnePassBijector

__all__ = ["ActNorm"]


class ActNorm(OnePassBijector):
    """Shifts and scales each channel (Kingma and Dhariwal 2018, section 3.1).

    Transforms images [batch, H, W, C]; `shift` and `log_scale` [C] belong to `layer`.

    - forward: `y = x exp(-log_scale) - shift`
    - forward log-det: `-H W sum(log_scale)`
    - inverse: `x = (y + shift) exp(log_scale)`
    - inverse log-det: `H W sum(log_scale)`
    """

    def __init__(self, layer, *, validate_args: bool = False, name: str = "act_norm"):
        parameters = dict(locals())
        self.layer = layer
        super().__init__(parameters=parameters, name=name, validate_args=validate_args)

    def initialize(self, y: tf.Tensor) -> None:
        """Sets the weights so that `inverse(y)` has mean 0 and variance 1 a channel.

        Args:
          y: Images [batch, H, W, C], a concrete (eager) tensor.
        """
        self.layer.initialize(y)

    def _forward_and_ildj(self, x):
        shift, log_scale = self.layer(x)
        return x * tf.exp(-log_scale) - shift, self._ildj(x, log_scale)

    def _inverse_and_ildj(self, y):
        shift, log_scale = self.layer(y)
        return (y + shift) * tf.exp(log_scale), self._ildj(y, log_scale)

    def _ildj(self, images, log_scale):
        shape = tf.shape(images)
        num_pixels = tf.cast(shape[-3] * shape[-2], images.dtype)
        return tf.fill(shape[:-3], num_pixels * tf.reduce_sum(log_scale))
