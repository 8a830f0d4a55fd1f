"""Level of the noise of a picture and its growth with the signal."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tfflowdn import data

__all__ = ["Blocks", "PhotonNoise", "block_statistics", "fit_photon_noise"]

_SIDE = 6  # Of a block, pixels.
_MOST_PIXELS = 2**20
_NUM_LEVELS = 24
_FEWEST_BLOCKS = 12  # Of a level of brightness.
_NUM_ROUNDS = 8
_MEDIAN_OF_BLOCK = 0.94  # Median of the variance of a block of white noise.


class Blocks(NamedTuple):
    """Blocks of pixels of one brightness each, in the units of the picture.

    Attributes:
      mean: Mean of each block, float64 [n].
      variance: Variance of its noise; smooth structure does not count.
    """

    mean: np.ndarray
    variance: np.ndarray

    @property
    def sigma(self) -> float:
        """The standard deviation of the noise in a typical block."""
        if not self.mean.size:
            return 0.0
        return float(np.sqrt(np.median(self.variance) / _MEDIAN_OF_BLOCK))


class PhotonNoise(NamedTuple):
    """Noise whose variance is `gain * (value - offset)`.

    Attributes:
      gain: Units of the picture for each detected photon.
      offset: The value at which the noise ends: the value without light, minus the
        variance of the read-out noise over the gain.
      growth: The factor by which the noise grows from typical to bright places.
    """

    gain: float
    offset: float
    growth: float


def block_statistics(picture: np.ndarray) -> Blocks:
    """Returns mean and noise variance of blocks of a picture.

    The variance is the mean square of the second differences along both axes
    (Immerkaer 1996), in which planes and ramps do not count. White noise is assumed.
    Blocks with missing pixels are left out.

    Args:
      picture: Pixels [H, W, C] without alpha, of any dtype. Large pictures are reduced
        to every n-th strip of blocks.
    """
    height, width, channels = picture.shape
    rows, columns = (size // _SIDE for size in (height, width))
    if rows < 1 or columns < 1:
        return Blocks(np.zeros(0), np.zeros(0))
    step = -(-height * width * channels // _MOST_PIXELS)
    strips = range(0, rows, step)
    parts = [_strip(picture, top * _SIDE, columns * _SIDE) for top in strips]
    mean, variance = (np.concatenate(values) for values in zip(*parts, strict=True))
    is_known = np.isfinite(mean + variance)
    return Blocks(mean[is_known], variance[is_known])


def fit_photon_noise(blocks: Blocks) -> PhotonNoise | None:
    """Fits a line to the noise variance by brightness.

    Levels of brightness with texture, whose variance is too high, are left out one
    by one.

    Returns:
      The fit, or None if the variance does not grow with the brightness.
    """
    levels = _levels(blocks)
    if len(levels) < 3 or not levels[:, 1].any():
        return None
    mean, variance, count = levels.T
    weights, tiny = np.sqrt(count), 1e-6 * variance.max() + np.finfo(float).tiny
    for _ in range(_NUM_ROUNDS):
        slope, intercept = _line(mean, variance, weights)
        fitted = np.maximum(slope * mean + intercept, 0.1 * variance + tiny)
        weights = np.sqrt(count) / fitted / np.maximum(variance / fitted, 1) ** 2
    if slope <= 0:
        return None
    offset = -intercept / slope
    typical, bright = np.median(blocks.mean), np.quantile(blocks.mean, 0.999)
    least = max(slope * (typical - offset), 0.25 * blocks.sigma**2)
    if least <= 0:
        return None
    growth = np.sqrt(max(slope * (bright - offset), 0) / least)
    return PhotonNoise(float(slope), float(offset), float(growth))


def _strip(picture, top, width):
    """Returns mean and variance of the blocks of a strip, float64 [n] each."""
    rows = data.as_float64(picture[max(top - 1, 0) : top + _SIDE + 1, :width])
    inner = rows[top - max(top - 1, 0) :][:_SIDE]
    second = np.diff(np.diff(rows, 2, 0), 2, 1) / 6
    usable = second[:, : second.shape[1] // _SIDE * _SIDE or None]
    shape = (len(usable), -1, min(_SIDE, usable.shape[1]), picture.shape[-1])
    variance = (usable**2).reshape(shape).mean((0, 2))
    means = inner.reshape(_SIDE, -1, _SIDE, picture.shape[-1]).mean((0, 2))
    return means[: len(variance)].ravel(), variance.ravel()


def _levels(blocks):
    """Returns mean brightness, noise variance and number of blocks by level."""
    order = np.argsort(blocks.mean)
    most = max(3, min(_NUM_LEVELS, blocks.mean.size // _FEWEST_BLOCKS))
    # Half of the levels have as many blocks each; bright ones are split further.
    cuts = np.unique(1 - np.geomspace(1, _FEWEST_BLOCKS / max(order.size, 13), most))
    edges = np.unique((np.append(cuts, 1) * order.size).astype(int))
    groups = [order[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    rows = [
        (
            blocks.mean[g].mean(),
            np.median(blocks.variance[g]) / _MEDIAN_OF_BLOCK,
            g.size,
        )
        for g in groups
        if g.size >= _FEWEST_BLOCKS // 2
    ]
    return np.array(rows).reshape(-1, 3)


def _line(x, y, weights):
    matrix = np.stack([x, np.ones_like(x)], 1) * weights[:, np.newaxis]
    (slope, intercept), *_ = np.linalg.lstsq(matrix, y * weights, rcond=None)
    return slope, intercept
