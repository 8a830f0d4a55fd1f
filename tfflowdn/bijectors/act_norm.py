"""ActNorm: a shift and a scale per channel."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfflowdn.bijectors.one_pass import OnePassBijector, num_pixels

__all__ = ["ActNorm"]


class ActNorm(OnePassBijector):
    """Shifts and scales each channel (Kingma and Dhariwal 2018, section 3.1).

    Transforms images [batch, H, W, C]; `shift` and `scale` [C] come from `layer`.
    The log-dets have shape [], because they are the same for every image.

    - forward: `y = x / scale - shift`
    - forward log-det: `-H W sum(log(scale))`
    - inverse: `x = (y + shift) scale`
    - inverse log-det: `H W sum(log(scale))`
    """

    def __init__(
        self,
        layer: Callable,
        *,
        validate_args: bool = False,
        name: str = "act_norm",
    ) -> None:
        parameters = dict(locals())
        self.layer = layer
        super().__init__(parameters=parameters, name=name, validate_args=validate_args)

    def initialize(self, y: tf.Tensor) -> tf.Tensor:
        """Sets the weights so that `inverse(y)` has mean 0 and variance 1 per channel.

        Args:
          y: Images [batch, H, W, C], a concrete (eager) tensor.

        Returns:
          `inverse(y)`.
        """
        self.layer.initialize(y)
        return self.inverse(y)

    def _forward_and_ildj(self, x):
        shift, scale, log_det = self.layer(x)
        return x / scale - shift, num_pixels(x) * log_det

    def _inverse_and_ildj(self, y):
        shift, scale, log_det = self.layer(y)
        return (y + shift) * scale, num_pixels(y) * log_det
