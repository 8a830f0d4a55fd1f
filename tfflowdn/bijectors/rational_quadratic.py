"""Rational-quadratic splines, elementwise on images."""

from __future__ import annotations

import tensorflow as tf

__all__ = ["RationalQuadraticSpline"]


class RationalQuadraticSpline:
    """Monotone splines of [-range, range], the identity outside (Durkan et al. 2019).

    One spline for every value of an image [batch, H, W, C]; its slope is 1 at both
    ends and continuous everywhere (arXiv 1906.04032, section 3.1). All bins are
    visited in turn, each by elementwise operations: with few bins that is faster than
    to gather the right one, and XLA fuses it.

    Args:
      parameters: [batch, H, W, (3 num_bins - 1) C], bounded: the logarithms of the
        widths, then of the heights of the bins, both up to a factor, then of the
        slopes at the inner knots; C channels of each. Zeros give the identity.
      num_bins: Number of bins.
      range_max: Where the splines end.
    """

    def __init__(self, parameters: tf.Tensor, num_bins: int, range_max: float = 4.0):
        parts = tf.split(tf.exp(parameters), 3 * num_bins - 1, axis=-1)
        self._range = range_max
        self._widths = _normalised(parts[:num_bins], 2 * range_max)
        self._heights = _normalised(parts[num_bins : 2 * num_bins], 2 * range_max)
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


def _normalised(sizes, total):
    factor = total / tf.add_n(sizes)
    return [size * factor for size in sizes]


def _denominator(s, t, d0, d1):
    return s + (d0 + d1 - 2 * s) * t * (1 - t)
