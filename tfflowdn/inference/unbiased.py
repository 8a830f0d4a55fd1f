"""Means of transformed noisy values, and the signals that have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tfflowdn.inference.noise_level import Blocks, fit_photon_noise

__all__ = ["PixelNoise", "corrections", "photon_means"]

Function = Callable[[np.ndarray], np.ndarray]
_FEW_PHOTONS = 60.0
_NUM_ENTRIES, _MOST_PHOTONS = 400, 1e12
_LARGEST_NODE, _NUM_NODES = 8.0, 321
_LARGEST_EXPONENT = 25.0


class PixelNoise(NamedTuple):
    """The noise of a pixel: of photons, or equal everywhere.

    Attributes:
      gain: Units of the picture for each photon; None if the noise is equal everywhere.
      offset: The value without light, minus the variance of the read-out noise over
        the gain.
      sigma: The standard deviation of noise that is equal everywhere.
    """

    gain: float | None = None
    offset: float = 0.0
    sigma: float = 0.0

    @classmethod
    def from_blocks(cls, blocks: Blocks) -> PixelNoise:
        """Estimates the noise of a picture."""
        fit = fit_photon_noise(blocks)
        if fit is None:
            return cls(sigma=blocks.sigma)
        return cls(gain=fit.gain, offset=fit.offset)


def photon_means(function: Function) -> tuple[np.ndarray, np.ndarray]:
    """Returns means of `function(k)` for photon counts k, and their mean numbers.

    Few photons have the Poisson distribution. For more, the counts are k + sqrt(k) z +
    (z^2 - 1) / 6 with a normal z, which has the same three moments.
    """
    few = np.linspace(0, np.sqrt(_FEW_PHOTONS), _NUM_ENTRIES) ** 2
    counts = np.arange(int(4 * _FEW_PHOTONS))
    log_factorials = np.concatenate([[0], np.cumsum(np.log(counts[1:]))])
    with np.errstate(divide="ignore", invalid="ignore"):
        log_chances = counts * np.log(few[:, np.newaxis]) - log_factorials
    log_chances[:, 0] = 0  # 0 log 0 is 0.
    chances = np.exp(log_chances - few[:, np.newaxis])
    many = np.geomspace(_FEW_PHOTONS, _MOST_PHOTONS, 4 * _NUM_ENTRIES)[1:]
    nodes, weights = _normal()
    spread = many[:, np.newaxis] + np.sqrt(many)[:, np.newaxis] * nodes
    means = [
        chances @ function(counts),
        function(spread + (nodes**2 - 1) / 6) @ weights,
    ]
    return np.concatenate(means), np.concatenate([few, many])


def corrections(
    forward: Function, inverse: Function, noise: PixelNoise, scale: float, zero: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns means of transformed pixels, and what `inverse` of these lacks.

    Args:
      forward: The transform of pixel values.
      inverse: Its plain inverse.
      noise: The noise of the pixels.
      scale: The unit of the transform, in units of the picture.
      zero: The pixel value around which the transform is finest.
    """
    if noise.gain is not None:
        gain, offset = noise.gain, noise.offset
        means, photons = photon_means(lambda counts: forward(offset + gain * counts))
        signals = offset + gain * photons
    else:
        exponents = np.linspace(-_LARGEST_EXPONENT, _LARGEST_EXPONENT, 2001)
        signals = zero + scale * np.sinh(exponents)
        nodes, weights = _normal()
        means = forward(signals[:, np.newaxis] + noise.sigma * nodes) @ weights
    return means, signals - inverse(means)


def _normal():
    """Returns nodes and weights for means under the normal distribution."""
    nodes = np.linspace(-_LARGEST_NODE, _LARGEST_NODE, _NUM_NODES)
    weights = np.exp(-(nodes**2) / 2)
    return nodes, weights / weights.sum()
