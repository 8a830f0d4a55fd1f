"""Crops of noise, from which a noise model is learned."""

from __future__ import annotations

import dataclasses

import numpy as np

__all__ = ["NoiseCrops", "tapered"]


@dataclasses.dataclass(frozen=True)
class NoiseCrops:
    """Crops of noise and of the pictures without noise.

    Attributes:
      index: Number of the picture of each crop, int32 [n].
      signal: Crops without noise, float32 [n, H, W, C] in [0, 1] units.
      noise: Noise of the same shape.
      weight: Weight of each crop in the fit, float32 [n].
    """

    index: np.ndarray
    signal: np.ndarray
    noise: np.ndarray
    weight: np.ndarray

    def __getitem__(self, chosen: slice | np.ndarray) -> NoiseCrops:
        """Returns the crops that a slice, a mask or an array of numbers selects."""
        fields = dataclasses.fields(self)
        return NoiseCrops(*(getattr(self, field.name)[chosen] for field in fields))

    def renumbered(self, index: np.ndarray) -> NoiseCrops:
        """Returns the same crops with new numbers of their pictures."""
        return dataclasses.replace(self, index=index)


def tapered(crops: NoiseCrops) -> NoiseCrops:
    """Returns crops whose noise fades out toward the borders, at the same mean power.

    The correlation of the flow is periodic; without a taper the step between opposite
    borders of a crop would hide how smooth correlated noise is.
    """
    taper = _taper(crops.noise.shape[1])
    return dataclasses.replace(crops, noise=crops.noise * taper)


def _taper(size):
    """Returns a Hann window [size, size, 1] of mean power 1."""
    window = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    window /= np.sqrt(np.mean(window**2))
    return np.float32(window[:, np.newaxis] * window)[..., np.newaxis]
