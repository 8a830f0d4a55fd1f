"""The scaling of pictures to the units of a network, and back to a dtype."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfflowdn import data
from tfflowdn.inference.noise_level import Blocks, block_statistics, fit_photon_noise
from tfflowdn.inference.transforms import Transform, find_transform

__all__ = ["Scaling", "find_scaling"]

PixelRange = str | Sequence[float]
SOUND = "0.1%,99.9%"
_TOLERANCE, _MOST_OUTSIDE = 0.05, 0.01
_MOST_STATISTICS = 16  # Pictures of a stack.
_LARGE_GROWTH = 4.0
_FEW_STEPS = 3.0  # Noise in steps of an integer below which rounding shifts means.
_MORE_THAN_ROUNDING = 0.5
_DARK = 32  # Pictures of integers that are no brighter hold counts.
_LEAST_WIDTH = 8.0  # Of the range of a transform, in units of its noise.


class Scaling(NamedTuple):
    """The map from pixels to the units of a network, and back.

    Attributes:
      limits: The (transformed) values that become 0 and 1; None for "dtype".
      transform: The map of the pixels before; None for none.
      is_low_count: Whether the pixels are integers with so few counts that rounding
        would shift the means. Local means are then kept, and results that are integers
        are rounded so that the errors of neighbors cancel.
      notes: Sentences about the choice, for the user.
    """

    limits: tuple[float, float] | None
    transform: Transform | None = None
    is_low_count: bool = False
    notes: tuple[str, ...] = ()

    def to_unit(self, pixels: np.ndarray) -> np.ndarray:
        """Returns pixels as the network sees them, float32."""
        if self.transform is None:
            return data.to_float(pixels, self.limits)
        return data.to_float(self.transform.forward(pixels), self.limits)

    def from_unit(
        self, values: np.ndarray, dtype: np.dtype, source: np.dtype
    ) -> np.ndarray:
        """Inverts `to_unit`, rounds for integers, and clips at the limits of `dtype`.

        Args:
          values: The output of the network.
          dtype: The dtype of the result.
          source: The dtype of the pixels that were scaled.
        """
        if self.transform is not None:
            values = data.from_float(values, np.float64, self.limits)
            return _as_dtype(self.transform.inverse(values), dtype)
        if dtype == source:
            return data.from_float(values, dtype, self.limits)
        limits = self.limits or data.dtype_limits(source)
        return _as_dtype(data.from_float(values, np.float64, limits), dtype)

    def deviation(
        self, values: np.ndarray, std: np.ndarray, source: np.dtype
    ) -> np.ndarray:
        """Returns standard deviations in pixel units, float64.

        Args:
          values: What the network returned.
          std: The standard deviations of its errors, in the same units.
          source: The dtype of the pixels that were scaled.
        """
        low, high = (
            self.from_unit(np.float64(limit), np.dtype(np.float64), source)
            for limit in (values - std, values + std)
        )
        return (high - low) / 2


def find_scaling(
    pictures: Sequence[np.ndarray],
    pixel_range: PixelRange | None,
    *,
    default_range: PixelRange = "dtype",
    dtype: np.typing.DTypeLike | None = None,
    transform: str | Transform = "none",
    gain: float | None = None,
    offset: float | None = None,
    has_alpha: bool | None = None,
) -> Scaling:
    """Chooses one scaling for several pictures.

    Args:
      pictures: Pixels [H, W, C], with alpha; a sequence that may read them lazily.
      pixel_range: See `data.check_range`; None for the default range or, where a
        sizeable part of the pixels lies outside of it, for percentiles.
      default_range: The range of the model.
      dtype: The dtype of the result, by default the dtype of the pictures.
      transform: A transform, "none" or a key of `transforms.TRANSFORMS`.
      gain: The gain of the transform; None to estimate it.
      offset: The offset of the transform; None to estimate it.
      has_alpha: Whether the last channel is alpha; by default if there are 2 or 4.

    Raises:
      ValueError: If the range or the transform is not valid or cannot be estimated.
    """
    source = pictures[0].dtype
    dtype = np.dtype(source if dtype is None else dtype)
    blocks = _statistics(pictures, has_alpha)
    if isinstance(transform, str):
        transform = find_transform(transform, blocks, gain, offset)
    notes, words = [], default_range if pixel_range is None else pixel_range
    if transform is not None and pixel_range is None:
        words = SOUND
    elif pixel_range is None and (share := _share_outside(words, source, blocks)):
        limits = data.find_limits(SOUND, pictures, len(pictures), has_alpha)
        notes.append(
            f"{share:.0%} of the pixels lie outside of the model's range, {words}; "
            f"--range={limits[0]:.6g},{limits[1]:.6g} is used ({SOUND}). Give --range "
            "to choose another one"
        )
        words = limits
    limits = data.find_limits(words, pictures, len(pictures), has_alpha)
    if transform is not None:
        low, high = transform.forward(limits or data.dtype_limits(source))
        limits = float(low), float(max(high, low + _LEAST_WIDTH))
    elif default_range == "dtype":  # Models with a range have learned their noise.
        notes += _photon_note(source, blocks)
    is_low_count = _is_low_count(source, blocks)
    if is_low_count and dtype.kind in "iu":
        notes.append(
            f"the noise, {blocks.sigma:.2g}, is of the order of the step of "
            f"{dtype.name}; rounding keeps only the means. Give --dtype=float32 to "
            "keep the values"
        )
    return Scaling(limits, transform, is_low_count, tuple(notes))


def _statistics(pictures, has_alpha):
    count = len(pictures)
    indices = range(0, count, math.ceil(count / _MOST_STATISTICS))
    colors = (data.split_alpha(pictures[index], has_alpha)[0] for index in indices)
    parts = [block_statistics(color) for color in colors if color.dtype.kind != "b"]
    parts = parts or [Blocks(np.zeros(0), np.zeros(0))]
    return Blocks(*map(np.concatenate, zip(*parts, strict=True)))


def _share_outside(words, source, blocks):
    """Returns the share of blocks outside of a range, 0 if it is not sizeable."""
    limits = data.find_limits(words, [], 1) if "%" not in str(words) else None
    if "%" in str(words) or not blocks.mean.size:
        return 0
    if limits is None and not data.has_limits(source):
        return 0  # The scaling says that a range is needed.
    low, high = limits or data.dtype_limits(source)
    spread = np.ptp(np.quantile(blocks.mean, [0.01, 0.99]))
    margin = max(blocks.sigma, _TOLERANCE * min(spread, high - low))
    share = np.mean((blocks.mean < low - margin) | (blocks.mean > high + margin))
    return share if share > _MOST_OUTSIDE else 0


def _photon_note(source, blocks):
    if source.itemsize == 1:
        return []
    fit = fit_photon_noise(blocks)
    if fit is None or fit.growth < _LARGE_GROWTH:
        return []
    return [
        f"the noise grows {fit.growth:.0f} times from typical to bright places; "
        "--transform=anscombe (for counts) or asinh makes it uniform"
    ]


def _is_low_count(dtype, blocks):
    """Returns whether the noise of integers is less than a few of their steps.

    Bright pictures of 8 bits are photographs, and smooth bright pictures of 16 bits
    have the noise of their rounding; neither holds counts.
    """
    if dtype.kind not in "iu" or not blocks.mean.size:
        return False
    is_dark = np.quantile(blocks.mean, 0.99) <= _DARK
    if not is_dark and dtype.itemsize == 1:
        return False
    sigma, is_noisy = (
        np.sqrt(blocks.variance.mean()),
        np.mean(blocks.variance > 0) > 0.2,
    )
    least = 0 if is_dark else _MORE_THAN_ROUNDING
    return bool(is_noisy and least <= sigma < _FEW_STEPS)


def _as_dtype(values, dtype):
    """Returns pixel values, float64, as a dtype: rounded, clipped at its limits."""
    return data.from_float(values, dtype, (0, 1))
