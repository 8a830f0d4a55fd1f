"""Coupling over the channels: half of them moves the other half."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfflowdn.bijectors.one_pass import OnePassBijector
from tfflowdn.channels import join_channels, split_channels

__all__ = ["ChannelCoupling"]


class ChannelCoupling(OnePassBijector):
    """Additive or affine coupling of channel halves (Dinh et al. 2015 and 2017).

    Images [batch, H, W, C] are split into `a`, which passes through, and `b`, which is
    transformed; `conditioner(a)` gives `shift` and a bounded `log_scale` of `b`'s
    shape (or None for an additive coupling). `a` is the first half of the channels,
    the last half where `swap` is set.

    - forward: `y_a = x_a`, `y_b = x_b exp(-log_scale(x_a)) - shift(x_a)`
    - forward log-det: `-sum(log_scale(x_a))`
    - inverse: `x_a = y_a`, `x_b = (y_b + shift(y_a)) exp(log_scale(y_a))`
    - inverse log-det: `sum(log_scale(y_a))`
    """

    def __init__(
        self,
        layer: Callable,
        *,
        swap: bool = False,
        validate_args: bool = False,
        name: str = "channel_coupling",
    ) -> None:
        parameters = dict(locals())
        self.layer = layer
        self.swap = swap
        super().__init__(parameters=parameters, name=name, validate_args=validate_args)

    def _forward_and_ildj(self, x):
        a, b = self._split(x)
        shift, log_scale = self.layer(a)
        if log_scale is not None:
            b = b * tf.exp(-log_scale)
        return self._join(a, b - shift), self._ildj(x, log_scale)

    def _inverse_and_ildj(self, y):
        a, b = self._split(y)
        shift, log_scale = self.layer(a)
        b = b + shift
        if log_scale is not None:
            b = b * tf.exp(log_scale)
        return self._join(a, b), self._ildj(y, log_scale)

    def _ildj(self, images, log_scale):
        if log_scale is None:
            return tf.zeros(tf.shape(images)[:-3], images.dtype)
        return tf.reduce_sum(log_scale, axis=[-3, -2, -1])

    def _split(self, images):
        first, last = split_channels(images, 2)
        return (last, first) if self.swap else (first, last)

    def _join(self, a, b):
        return join_channels([b, a] if self.swap else [a, b])
