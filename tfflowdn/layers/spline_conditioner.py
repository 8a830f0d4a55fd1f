"""Conditioner of a spline coupling."""

from __future__ import annotations

import keras
from keras import ops

from tfflowdn.layers.conditioner import Conditioner

__all__ = ["SplineConditioner"]


@keras.saving.register_keras_serializable("tfflowdn")
class SplineConditioner(Conditioner):
    """Conditioner that gives the parameters of splines, too.

    Called with images [batch, H, W, C], returns `shift`, `log_scale` as `Conditioner`
    does, and `spline` [batch, H, W, (3 num_bins - 1) out_channels], within
    +-`log_scale_bound`: a 1x1 convolution of the hidden features, which starts at
    zero, since a 3x3 one would cost more than all the rest.

    Args:
      out_channels: Channels of shift and of log_scale.
      num_bins: Bins of each spline.
      **kwargs: Further arguments of `Conditioner`; `affine` must be True.
    """

    def __init__(self, out_channels: int, *, num_bins: int = 4, **kwargs):
        super().__init__(out_channels, **kwargs)
        self.num_bins = num_bins
        self.spline = keras.layers.Conv2D(
            out_channels * (3 * num_bins - 1),
            1,
            kernel_initializer="zeros",
            dtype=self.dtype_policy,
            name="spline",
        )

    def build(self, input_shape):
        """Builds every convolution for images [batch, H, W, C]."""
        super().build(input_shape)
        self.spline.build((*input_shape[:-1], self.hidden_channels))

    def call(self, images):
        """Returns (shift, log_scale, spline)."""
        hidden = self._features(images)
        spline = ops.cast(self.spline(hidden), self.variable_dtype)
        return *self._shift_and_log_scale(hidden), self._bounded(spline)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "num_bins": self.num_bins}
