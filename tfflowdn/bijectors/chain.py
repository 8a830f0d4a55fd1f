"""Chain: one bijector after the other."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import keras
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfflowdn.bijectors.one_pass import OnePassBijector

__all__ = ["Chain"]


class Chain(OnePassBijector):
    """Applies bijectors one after the other.

    `bijectors` are listed from image to latent: `inverse` runs them in this order,
    `forward` in the opposite order, as `tfb.Chain` does. Any `tfb.Bijector` may be a
    part. Parts that are `ImageBijector`s are also initialized from data.

    - forward: `y = g_1(... g_n(x))`
    - forward log-det: the sum of the log-dets of the parts
    - inverse: `x = g_n^-1(... g_1^-1(y))`
    - inverse log-det: the sum of the log-dets of the parts
    """

    def __init__(
        self,
        bijectors: Sequence[tfb.Bijector],
        *,
        validate_args: bool = False,
        name: str = "chain",
    ) -> None:
        parameters = dict(locals())
        self.bijectors = tuple(bijectors)
        super().__init__(parameters=parameters, name=name, validate_args=validate_args)

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """The Keras layers that own the weights, in order from image to latent."""
        return [
            layer for part in self.bijectors for layer in getattr(part, "layers", ())
        ]

    def initialize(self, y: tf.Tensor) -> tf.Tensor:
        """Initializes the parts, each from the output of the parts before it."""
        for part in self.bijectors:
            y = getattr(part, "initialize", part.inverse)(y)
        return y

    def _forward_and_ildj(self, x):
        ildj = tf.zeros([], x.dtype)
        for part in reversed(self.bijectors):
            y = part.forward(x)
            ildj -= part.forward_log_det_jacobian(x, event_ndims=3)
            x = y
        return x, ildj

    def _inverse_and_ildj(self, y):
        ildj = tf.zeros([], y.dtype)
        for part in self.bijectors:
            x = part.inverse(y)
            ildj += part.inverse_log_det_jacobian(y, event_ndims=3)
            y = x
        return y, ildj

    def _forward_event_shape(self, input_shape):
        return self._shape("forward_event_shape", input_shape)

    def _forward_event_shape_tensor(self, input_shape):
        return self._shape("forward_event_shape_tensor", input_shape)

    def _inverse_event_shape(self, output_shape):
        return self._shape("inverse_event_shape", output_shape)

    def _inverse_event_shape_tensor(self, output_shape):
        return self._shape("inverse_event_shape_tensor", output_shape)

    def _shape(self, method, shape):
        forward = method.startswith("forward")
        parts = reversed(self.bijectors) if forward else self.bijectors
        return functools.reduce(lambda s, part: getattr(part, method)(s), parts, shape)
