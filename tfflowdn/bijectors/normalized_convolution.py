"""ActNorm and invertible 1x1 convolution in one."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfflowdn.bijectors.one_pass import OnePassBijector, num_pixels

__all__ = ["NormalizedConvolution"]


class NormalizedConvolution(OnePassBijector):
    """ActNorm, then an invertible 1x1 convolution, as one product.

    This is the chain of `ActNorm` and `InvertibleConvolution` (Kingma and Dhariwal
    2018, section 3), in one pass over the pixels instead of three. Transforms images
    [batch, H, W, C]; the matrix M, offset, M^-1, shift and log-det come from `layer`.
    The log-dets have shape [], because they are the same for every image.

    - forward: `y = x M^-1 - shift`
    - forward log-det: `-H W log |det M|`
    - inverse: `x = y M + offset`, with `offset = shift M`
    - inverse log-det: `H W log |det M|`
    """

    def __init__(
        self,
        layer: Callable,
        *,
        validate_args: bool = False,
        name: str = "normalized_convolution",
    ) -> None:
        parameters = dict(locals())
        self.layer = layer
        super().__init__(parameters=parameters, name=name, validate_args=validate_args)

    def initialize(self, y: tf.Tensor) -> tf.Tensor:
        """Sets the ActNorm from images [batch, H, W, C] and returns `inverse(y)`."""
        self.layer.initialize(y)
        return self.inverse(y)

    def _forward_and_ildj(self, x):
        _, _, inverse, shift, log_det = self.layer(x)
        return _affine(x, inverse, -shift), num_pixels(x) * log_det

    def _inverse_and_ildj(self, y):
        matrix, offset, _, _, log_det = self.layer(y)
        return _affine(y, matrix, offset), num_pixels(y) * log_det


def _affine(images, matrix, offset):
    rows = tf.matmul(tf.reshape(images, [-1, matrix.shape[0]]), matrix)
    return tf.reshape(tf.nn.bias_add(rows, offset), tf.shape(images))
