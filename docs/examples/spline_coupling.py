"""Glow with rational-quadratic spline couplings, written outside of the package.

Import this file before a prior of it is made or loaded: it adds "spline_glow" to the
flows (Durkan et al. 2019, arXiv 1906.04032). A configuration file can import it, so
that `train_prior` finds the flow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfflowdn import bijectors, flows

__all__ = ["SplineConditioner", "SplineCoupling", "SplineStep", "spline_glow"]


class RationalQuadraticSpline:
    """Monotone splines of [-range, range], the identity outside (Durkan et al. 2019).

    One spline for every value of an image [batch, H, W, C]; its slope is 1 at both
    ends and continuous everywhere (arXiv 1906.04032, section 3.1). All bins are
    visited in turn, each by elementwise operations: with few bins this is faster than
    a gather of the right one.

    Args:
      parameters: [batch, H, W, (3 num_bins - 1) C], bounded: the logarithms of the
        widths, then of the heights of the bins, both up to a factor, then of the
        slopes at the inner knots; C channels of each. Zeros give the identity.
      num_bins: Number of bins.
      range_max: Where the splines end.
    """

    def __init__(
        self, parameters: tf.Tensor, num_bins: int, range_max: float = 4.0
    ) -> None:
        parts = tf.split(tf.exp(parameters), 3 * num_bins - 1, axis=-1)
        self._range = range_max
        self._widths = _normalized(parts[:num_bins], 2 * range_max)
        self._heights = _normalized(parts[num_bins : 2 * num_bins], 2 * range_max)
        one = tf.ones_like(parts[0])
        self._slopes = [one, *parts[2 * num_bins :], one]

    def forward(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the splines' values at x and log dy/dx, both [batch, H, W, C]."""
        inside = self._clip(x)
        x0, y0, width, height, d0, d1 = self._bin(inside, self._widths)
        s, t = height / width, (inside - x0) / width
        numerator = height * t * (s * t + d0 * (1 - t))
        y = y0 + numerator / _denominator(s, t, d0, d1)
        return y + (x - inside), self._log_slope(x, inside, s, t, d0, d1)

    def inverse(self, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns x whose value is y, and log dy/dx at x, both [batch, H, W, C]."""
        inside = self._clip(y)
        x0, y0, width, height, d0, d1 = self._bin(inside, self._heights)
        s, rest = height / width, inside - y0
        bend = rest * (d0 + d1 - 2 * s)
        a, b, c = height * (s - d0) + bend, height * d0 - bend, -s * rest
        t = 2 * c / (-b - tf.sqrt(tf.maximum(b * b - 4 * a * c, 0)))
        x = x0 + t * width
        return x + (y - inside), self._log_slope(y, inside, s, t, d0, d1)

    def _clip(self, values):
        return tf.clip_by_value(values, -self._range, self._range)

    def _bin(self, values, sizes):
        """Returns x0, y0, width, height and both slopes of the bins of `values`."""
        bins = list(
            zip(
                self._widths,
                self._heights,
                self._slopes,
                self._slopes[1:],
                strict=False,
            )
        )
        start = tf.fill(tf.shape(values), tf.constant(-self._range, values.dtype))
        chosen = [start, start, *bins[0]]
        x0 = y0 = edge = start
        for before, after, size in zip(bins, bins[1:], sizes, strict=False):
            x0, y0, edge = x0 + before[0], y0 + before[1], edge + size
            beyond = values >= edge
            candidates = [x0, y0, *after]
            chosen = [
                tf.where(beyond, new, old)
                for new, old in zip(candidates, chosen, strict=True)
            ]
        return chosen

    def _log_slope(self, values, inside, s, t, d0, d1):
        slope = d1 * t * t + 2 * s * t * (1 - t) + d0 * (1 - t) * (1 - t)
        log_slope = tf.math.log(slope * tf.square(s / _denominator(s, t, d0, d1)))
        return tf.where(values == inside, log_slope, tf.zeros_like(log_slope))


def _normalized(sizes, total):
    factor = total / tf.add_n(sizes)
    return [size * factor for size in sizes]


def _denominator(s, t, d0, d1):
    return s + (d0 + d1 - 2 * s) * t * (1 - t)


@keras.saving.register_keras_serializable("examples")
class SplineConditioner(keras.layers.Layer):
    """Gives shift, log-scale and the parameters of the splines.

    Args:
      out_channels: Channels of shift and of log-scale.
      num_bins: Bins of each spline.
      hidden_channels: Width of the hidden layers.
      bound: Largest magnitude of a log-scale and of a parameter.
      seed: Seed of the weights.
      **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(
        self,
        out_channels: int,
        *,
        num_bins: int = 4,
        hidden_channels: int = 64,
        bound: float = 2.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bound = bound
        initializers = [keras.initializers.HeNormal(seed + i) for i in range(2)]
        sizes = (hidden_channels, 3), (hidden_channels, 1)
        outputs = (2 * out_channels, 3), (out_channels * (3 * num_bins - 1), 1)
        self.hidden = [
            self._convolution(*size, activation="relu", kernel_initializer=initializer)
            for size, initializer in zip(sizes, initializers, strict=True)
        ]
        self.affine, self.spline = (
            self._convolution(*size, kernel_initializer="zeros") for size in outputs
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Builds every convolution for images [batch, H, W, C]."""
        shape = tuple(input_shape)
        for layer in self.hidden:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self.affine.build(shape)
        self.spline.build(shape)

    def call(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns shift, log_scale and parameters, within the bound."""
        for layer in self.hidden:
            images = layer(images)
        affine = tf.cast(self.affine(images), self.variable_dtype)
        spline = tf.cast(self.spline(images), self.variable_dtype)
        shift, log_scale = tf.split(affine, 2, axis=-1)
        return shift, self._bounded(log_scale), self._bounded(spline)

    def _bounded(self, values):
        return self.bound * tf.tanh(values / self.bound)

    def _convolution(self, filters, size, **options):
        return keras.layers.Conv2D(
            filters, size, padding="same", dtype=self.dtype_policy, **options
        )


class SplineCoupling(bijectors.OnePassBijector):
    """Affine coupling, then a spline `g` of every value (Durkan et al. 2019).

    Images [batch, H, W, C] are split into `a`, which passes through, and `b`.
    `layer(a)` gives `shift`, `log_scale` and the parameters of `g`.

    - forward: `y_a = x_a`, `y_b = g^-1(x_b) exp(-log_scale) - shift`
    - forward log-det: `-sum(log_scale + log g'(g^-1(x_b)))`
    - inverse: `x_a = y_a`, `x_b = g((y_b + shift) exp(log_scale))`
    - inverse log-det: `sum(log_scale + log g'(g^-1(x_b)))`
    """

    def __init__(
        self,
        layer: Callable,
        *,
        validate_args: bool = False,
        name: str = "spline_coupling",
    ) -> None:
        parameters = dict(locals())
        self.layer = layer
        super().__init__(parameters=parameters, name=name, validate_args=validate_args)

    def _forward_and_ildj(self, x):
        a, b = tf.split(x, 2, axis=-1)
        shift, log_scale, spline = self._condition(a)
        b, log_slope = spline.inverse(b)
        b = b * tf.exp(-log_scale) - shift
        return tf.concat([a, b], -1), tf.reduce_sum(log_scale + log_slope, [1, 2, 3])

    def _inverse_and_ildj(self, y):
        a, b = tf.split(y, 2, axis=-1)
        shift, log_scale, spline = self._condition(a)
        b, log_slope = spline.forward((b + shift) * tf.exp(log_scale))
        return tf.concat([a, b], -1), tf.reduce_sum(log_scale + log_slope, [1, 2, 3])

    def _condition(self, a):
        shift, log_scale, parameters = self.layer(a)
        num_bins = (parameters.shape[-1] // shift.shape[-1] + 1) // 3
        return shift, log_scale, RationalQuadraticSpline(parameters, num_bins)


class SplineStep(flows.GlowStep):
    """A step of Glow whose coupling has splines."""

    def layers(
        self, build: flows.FlowBuilder, channels: int, width: int
    ) -> Sequence[keras.layers.Layer]:
        """Makes the layers of `GlowStep`, with another conditioner."""
        matrix, _ = super().layers(build, channels, width)
        conditioner = SplineConditioner(
            channels // 2,
            hidden_channels=width,
            bound=build.options.log_scale_bound,
            seed=build.next_seed(),
            dtype=build.options.precision or build.options.dtype,
        )
        return matrix, build.built(conditioner, channels // 2)

    def bijectors(
        self, matrix: Callable, conditioner: Callable
    ) -> Sequence[tfb.Bijector]:
        """Returns the convolution and the coupling."""
        return bijectors.NormalizedConvolution(matrix), SplineCoupling(conditioner)


def spline_glow(
    image_shape: tuple[int, int, int], **options: Any
) -> tfd.TransformedDistribution:
    """Glow with `SplineStep`; takes the options of `flows.glow`."""
    return flows.glow(image_shape, step=SplineStep(), **options)


flows.FLOWS["spline_glow"] = spline_glow
