"""Invertible 1x1 convolution."""

from __future__ import annotations

import tensorflow as tf

from tfflowdn.bijectors.one_pass import OnePassBijector

__all__ = ["InvertibleConvolution"]


class InvertibleConvolution(OnePassBijector):
    """Mixes the channels by a learned C x C matrix W = P L U (Kingma 2018, eq. 10).

    Transforms images [batch, H, W, C]; the factors belong to `layer`, which keeps the
    logarithm of U's diagonal, so that the log-det is a sum (no `slogdet`, XLA has
    none).

    - forward: `y = x W^-1`, by two triangular solves
    - forward log-det: `-H W sum(log_diagonal)`
    - inverse: `x = y W`
    - inverse log-det: `H W sum(log_diagonal)`
    """

    def __init__(
        self,
        layer,
        *,
        validate_args: bool = False,
        name: str = "invertible_convolution",
    ):
        parameters = dict(locals())
        self.layer = layer
        super().__init__(parameters=parameters, name=name, validate_args=validate_args)

    def _forward_and_ildj(self, x):
        permutation, lower, upper, log_diagonal = self.layer(x)
        inverse_weight = tf.linalg.triangular_solve(
            upper,
            tf.linalg.triangular_solve(lower, tf.transpose(permutation)),
            lower=False,
        )
        return _convolve(x, inverse_weight), self._ildj(x, log_diagonal)

    def _inverse_and_ildj(self, y):
        permutation, lower, upper, log_diagonal = self.layer(y)
        weight = permutation @ lower @ upper
        return _convolve(y, weight), self._ildj(y, log_diagonal)

    def _ildj(self, images, log_diagonal):
        shape = tf.shape(images)
        num_pixels = tf.cast(shape[-3] * shape[-2], images.dtype)
        return tf.fill(shape[:-3], num_pixels * tf.reduce_sum(log_diagonal))


def _convolve(images, weight):
    return tf.nn.conv2d(images, weight[tf.newaxis, tf.newaxis], 1, "VALID")
