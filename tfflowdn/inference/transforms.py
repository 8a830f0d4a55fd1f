"""Maps of pixel values under which noise that grows with the signal is uniform."""

from __future__ import annotations

import abc
import functools

import numpy as np

from tfflowdn.inference.noise_level import Blocks, fit_photon_noise
from tfflowdn.inference.unbiased import PixelNoise, corrections, photon_means

__all__ = ["TRANSFORMS", "Anscombe", "Asinh", "Log", "Transform", "find_transform"]


class Transform(abc.ABC):
    """A rising map of pixel values in the units of a picture, and its inverse.

    Args:
      gain: The scale, in units of the picture.
      offset: The value without light.
    """

    def __init__(self, gain: float, offset: float = 0.0) -> None:
        if not (gain > 0 and np.isfinite([gain, offset]).all()):
            raise ValueError(
                "gain must be above 0, and offset finite. "
                f"Received: {gain=}, {offset=}."
            )
        self.gain, self.offset = float(gain), float(offset)

    @classmethod
    @abc.abstractmethod
    def from_blocks(
        cls, blocks: Blocks, gain: float | None, offset: float | None
    ) -> Transform:
        """Returns the transform of a picture; an argument of None is estimated.

        Raises:
          ValueError: If it cannot be estimated.
        """

    @abc.abstractmethod
    def forward(self, values: np.ndarray) -> np.ndarray:
        """Returns the transformed values, float64."""

    @abc.abstractmethod
    def inverse(self, values: np.ndarray) -> np.ndarray:
        """Returns the pixel values of denoised, transformed values, float64."""

    def _relative(self, values: np.ndarray) -> np.ndarray:
        return (np.asarray(values, np.float64) - self.offset) / self.gain

    def _absolute(self, values: np.ndarray) -> np.ndarray:
        return values * self.gain + self.offset


class Anscombe(Transform):
    """The generalized Anscombe transform of photon counts.

    With counts k = (value - offset) / gain, the value is mapped to
    2 sqrt(k + 3/8), whose noise has the standard deviation 1. Read-out noise of
    variance v is part of the offset, which is then lower by v / gain. The inverse is
    the exact unbiased one of Makitalo and Foi, "Optimal Inversion of the Generalized
    Anscombe Transformation for Poisson-Gaussian Noise", TIP 2013: the photon number
    whose transformed counts have the given mean.
    """

    @classmethod
    def from_blocks(
        cls, blocks: Blocks, gain: float | None, offset: float | None
    ) -> Anscombe:
        """See `Transform`.

        Raises:
          ValueError: If no gain is given and the noise does not grow.
        """
        if gain is None or offset is None:
            fit = fit_photon_noise(blocks)
            if fit is None and gain is None:
                raise ValueError(
                    "The noise must grow with the signal so that the gain of the "
                    "camera can be estimated; give --gain and --offset. Received: "
                    f"{gain=}, {offset=}, noise of {blocks.sigma:.4g} everywhere."
                )
            if gain is not None:  # The offset at which the noise has the known gain.
                variance = blocks.sigma**2
                offset = float(np.median(blocks.mean)) - variance / gain
            else:
                offset = fit.offset if offset is None else offset
                gain = fit.gain
        return cls(gain, offset)

    def forward(self, values: np.ndarray) -> np.ndarray:
        """See `Transform`."""
        return 2 * np.sqrt(np.maximum(self._relative(values) + 0.375, 0))

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """See `Transform`."""
        means, photons = _table()
        values = np.asarray(values, np.float64)
        # The squares are nearly proportional to the photon numbers.
        counts = np.interp(np.maximum(values, 0) ** 2, means**2, photons)
        return self._absolute(counts)


class _Unbiased(Transform):
    """A transform with a plain inverse, which is corrected for the noise.

    Args:
      gain: The scale, in units of the picture.
      offset: The value around which the transform is linear.
      noise: The noise of the pixels; None for the plain inverse.
    """

    def __init__(
        self, gain: float, offset: float = 0.0, noise: PixelNoise | None = None
    ) -> None:
        super().__init__(gain, offset)
        self.noise = noise

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """See `Transform`."""
        values = np.asarray(values, np.float64)
        if self.noise is None:
            return self._plain_inverse(values)
        means, missing = self._corrections
        return self._plain_inverse(values) + np.interp(values, means, missing)

    @functools.cached_property
    def _corrections(self) -> tuple[np.ndarray, np.ndarray]:
        functions = self.forward, self._plain_inverse
        return corrections(*functions, self.noise, self.gain, self.offset)

    @abc.abstractmethod
    def _plain_inverse(self, values: np.ndarray) -> np.ndarray:
        """Returns the pixel values whose transforms are `values`."""


class Asinh(_Unbiased):
    """asinh((value - offset) / gain): linear near the offset, logarithmic far away.

    By default the offset is the typical brightness and the gain is the noise there.
    With the noise of the picture the inverse is exact and unbiased: the pixel value
    whose noisy, transformed values have the given mean.
    """

    @classmethod
    def from_blocks(
        cls, blocks: Blocks, gain: float | None, offset: float | None
    ) -> Asinh:
        """See `Transform`."""
        if offset is None:
            offset = float(np.median(blocks.mean))
        return cls(_scale(blocks, gain), offset, PixelNoise.from_blocks(blocks))

    def forward(self, values: np.ndarray) -> np.ndarray:
        """See `Transform`."""
        return np.arcsinh(self._relative(values))

    def _plain_inverse(self, values: np.ndarray) -> np.ndarray:
        return self._absolute(np.sinh(values))


class Log(_Unbiased):
    """log(1 + |k|) with the sign of k = (value - offset) / gain.

    By default the offset is the brightness of dark places and the gain is the noise
    in a typical place. The inverse is unbiased as for `Asinh`.
    """

    @classmethod
    def from_blocks(
        cls, blocks: Blocks, gain: float | None, offset: float | None
    ) -> Log:
        """See `Transform`."""
        if offset is None:
            offset = float(np.quantile(blocks.mean, 0.01))
        return cls(_scale(blocks, gain), offset, PixelNoise.from_blocks(blocks))

    def forward(self, values: np.ndarray) -> np.ndarray:
        """See `Transform`."""
        relative = self._relative(values)
        return np.sign(relative) * np.log1p(np.abs(relative))

    def _plain_inverse(self, values: np.ndarray) -> np.ndarray:
        return self._absolute(np.sign(values) * np.expm1(np.abs(values)))


TRANSFORMS = {"anscombe": Anscombe, "asinh": Asinh, "log": Log}
"""The transforms by name."""


def find_transform(
    name: str, blocks: Blocks, gain: float | None = None, offset: float | None = None
) -> Transform | None:
    """Returns the transform of a picture, None for "none".

    Args:
      name: "none" or a key of `TRANSFORMS`.
      blocks: The statistics of the picture.
      gain: Its scale; None to estimate it.
      offset: The value without light; None to estimate it.

    Raises:
      ValueError: For another name, or if an estimate fails.
    """
    if name == "none":
        return None
    if name not in TRANSFORMS:
        raise ValueError(
            f"transform must be one of {('none', *TRANSFORMS)}. "
            f"Received: transform={name!r}."
        )
    if not blocks.mean.size and None in (gain, offset):
        raise ValueError(
            "A picture must have at least 8 x 8 pixels for an estimate of its noise; "
            f"give --gain and --offset. Received: {gain=}, {offset=}."
        )
    return TRANSFORMS[name].from_blocks(blocks, gain, offset)


def _scale(blocks: Blocks, gain: float | None) -> float:
    if gain is not None:
        return gain
    spread = float(np.ptp(blocks.mean)) if blocks.mean.size else 0.0
    return blocks.sigma or spread / 1000 or 1.0


@functools.cache
def _table() -> tuple[np.ndarray, np.ndarray]:
    """Returns means of 2 sqrt(k + 3/8) and the photon numbers that have them."""
    return photon_means(lambda counts: 2 * np.sqrt(np.maximum(counts + 0.375, 0)))
