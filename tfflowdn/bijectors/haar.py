"""Haar squeeze: one level of the orthonormal Haar wavelet transform."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfflowdn.bijectors.squeeze import Squeeze

__all__ = ["HaarSqueeze"]

# Rows: average, horizontal, vertical and diagonal difference of a 2x2 block, whose
# pixels come row by row. Symmetric and orthogonal, hence its own inverse.
_HAAR = 0.5 * np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])


class HaarSqueeze(Squeeze):
    """Trades space for channels, low frequencies first (Ardizzone et al. 2019).

    `inverse` turns every 2x2 block of an image [batch, H, W, C] into one pixel of 4C
    channels: C averages, then C horizontal, vertical and diagonal differences, scaled
    so that the map `h` is orthonormal; `forward` puts it back. The last half of the
    channels is the finer one, and `FactorOut` factors it out. H and W must be even.

    - forward: `y = depth_to_space(h(x))`
    - forward log-det: 0
    - inverse: `x = h(space_to_depth(y))`
    - inverse log-det: 0
    """

    def __init__(
        self, *, validate_args: bool = False, name: str = "haar_squeeze"
    ) -> None:
        super().__init__(validate_args=validate_args, name=name)

    def _forward(self, x):
        return super()._forward(_mix(x))

    def _inverse(self, y):
        return _mix(super()._inverse(y))


def _mix(blocks):
    """Applies the Haar matrix to blocks [batch, H, W, 4C], channel by channel."""
    matrix = np.kron(_HAAR, np.eye(blocks.shape[-1] // 4))
    return blocks @ tf.constant(matrix, blocks.dtype)
