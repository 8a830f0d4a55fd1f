"""Line scale: gives the pixels of a row, or of a column, a common part."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfflowdn.bijectors.one_pass import OnePassBijector

__all__ = ["LineScale"]


class LineScale(OnePassBijector):
    """Multiplies the mean of each row and of each column of pixels.

    Transforms images [batch, H, W, C]; `layer` gives the logarithms `log_variance`
    [2, C] of the variances `v` of the common parts of a row and of a column, relative
    to a pixel. White noise x of unit variance becomes the sum of white noise, a value
    of variance `v_rows` for each row and a value of variance `v_columns` for each
    column. Three parts of an image have a gain; they are orthogonal:

    - the means of rows minus the mean of all pixels: `g_rows = sqrt(1 + v_rows W)`
    - the means of columns minus it: `g_columns = sqrt(1 + v_columns H)`
    - the mean of all pixels: `g_mean = sqrt(1 + v_rows W + v_columns H)`

    The gains depend on the size of the image, and the noise in a crop of it does not.
    The log-dets are the same for every image, of shape [].

    - forward: `y = x + sum of (g - 1) part(x)`
    - forward log-det: the sum over the channels of
      `(H - 1) log g_rows + (W - 1) log g_columns + log g_mean`
    - inverse: `x = y + sum of (1 / g - 1) part(y)`
    - inverse log-det: the forward log-det, negated
    """

    def __init__(
        self,
        layer: Callable,
        *,
        validate_args: bool = False,
        name: str = "line_scale",
    ) -> None:
        parameters = dict(locals())
        self.layer = layer
        super().__init__(parameters=parameters, name=name, validate_args=validate_args)

    def _forward_and_ildj(self, x):
        log_gains, ildj = self._log_gains(x)
        return _scale_parts(x, [tf.exp(log_gain) for log_gain in log_gains]), ildj

    def _inverse_and_ildj(self, y):
        log_gains, ildj = self._log_gains(y)
        return _scale_parts(y, [tf.exp(-log_gain) for log_gain in log_gains]), ildj

    def _log_gains(self, images):
        """Returns log g of rows, columns and the mean, [C], and the inverse log-det."""
        height, width = tf.unstack(tf.cast(tf.shape(images)[1:3], images.dtype))
        rows, columns = tf.unstack(tf.exp(self.layer(images)))
        rows, columns = rows * width, columns * height
        logs = [tf.math.log1p(v) / 2 for v in (rows, columns, rows + columns)]
        counts = (height - 1, width - 1, 1.0)
        log_det = sum(n * log for n, log in zip(counts, logs, strict=True))
        return logs, -tf.reduce_sum(log_det)


def _scale_parts(images, gains):
    """Multiplies the means of rows, the means of columns and the mean by gains [C]."""
    rows = tf.reduce_mean(images, 2, keepdims=True)
    columns = tf.reduce_mean(images, 1, keepdims=True)
    mean = tf.reduce_mean(rows, 1, keepdims=True)
    parts = rows - mean, columns - mean, mean
    return images + sum((g - 1) * part for g, part in zip(gains, parts, strict=True))
