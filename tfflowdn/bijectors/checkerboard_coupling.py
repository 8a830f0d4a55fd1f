"""Coupling over a checkerboard: every second pixel moves the others."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfflowdn.bijectors.one_pass import OnePassBijector

__all__ = ["CheckerboardCoupling"]


class CheckerboardCoupling(OnePassBijector):
    """Additive or affine coupling of pixels on a checkerboard (Dinh et al. 2017).

    In images [batch, H, W, C] the pixels with `mask` 1 pass through, and the pixels
    with `mask` 0 are transformed; `conditioner(mask x)` gives `shift` and a bounded
    `log_scale` of the image's shape (None for an additive coupling). The pixel in the
    upper left corner passes through, or is transformed where `swap` is set.

    - forward: `y = mask x + (1 - mask) (x exp(-log_scale) - shift)`
    - forward log-det: `-sum((1 - mask) log_scale)`
    - inverse: `x = mask y + (1 - mask) (y + shift) exp(log_scale)`
    - inverse log-det: `sum((1 - mask) log_scale)`
    """

    def __init__(
        self,
        layer: Callable,
        *,
        swap: bool = False,
        validate_args: bool = False,
        name: str = "checkerboard_coupling",
    ) -> None:
        parameters = dict(locals())
        self.layer = layer
        self.swap = swap
        super().__init__(parameters=parameters, name=name, validate_args=validate_args)

    def _forward_and_ildj(self, x):
        shift, log_scale = self._condition(x)
        y = x if log_scale is None else x * tf.exp(-log_scale)
        return y - shift, self._ildj(x, log_scale)

    def _inverse_and_ildj(self, y):
        shift, log_scale = self._condition(y)
        x = y + shift
        if log_scale is not None:
            x = x * tf.exp(log_scale)
        return x, self._ildj(y, log_scale)

    def _condition(self, images):
        """Returns shift and log_scale, zero at the pixels that pass through."""
        mask = self._mask(images)
        shift, log_scale = self.layer(images * mask)
        moved = 1 - mask
        return shift * moved, None if log_scale is None else log_scale * moved

    def _ildj(self, images, log_scale):
        if log_scale is None:
            return tf.zeros(tf.shape(images)[:-3], images.dtype)
        return tf.reduce_sum(log_scale, axis=[-3, -2, -1])

    def _mask(self, images):
        shape = tf.shape(images)
        rows = tf.range(shape[-3])[:, tf.newaxis, tf.newaxis]
        columns = tf.range(shape[-2])[tf.newaxis, :, tf.newaxis]
        return tf.cast((rows + columns + 1 + int(self.swap)) % 2, images.dtype)
