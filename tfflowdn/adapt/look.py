"""Measures noisy pictures: their values, noise, sharpness and defects."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfflowdn import data
from tfflowdn.adapt.measure import (
    BLOCK,
    calm_noise,
    clipped_shares,
    color_correlation,
    hot_share,
    is_jpeg,
    level_by_brightness,
    noise_correlation,
    noise_skewness,
)
from tfflowdn.adapt.pictures import Plane, to_units

__all__ = ["Look", "choose_range", "look_at"]

CORRELATED = 0.1
LARGEST_SAMPLE = 4_000_000  # Pixels that decide on the range.


@dataclasses.dataclass(frozen=True)
class Look:
    """Measurements of noisy pictures. Levels are in the units of the files.

    Attributes:
      num_files: Number of files.
      num_planes: Number of planes that were looked at.
      channels: 1 or 3.
      dtype: Dtype of the stored pixels.
      lowest: Lowest stored value.
      highest: Highest stored value.
      pixel_range: The values that become 0 and 1, see `choose_range`.
      unit: Size of one [0, 1] unit in stored values.
      origin: The stored value that becomes 0.
      sizes: Smallest and largest side of the planes, in pixels.
      brightness: Brightness at which the noise was measured, stored values.
      noise: Standard deviation of the noise of calm places there, stored values.
      spread: Quantiles 0, 0.1, ... 1 of the brightness, in [0, 1] units.
      correlation: Correlation of the noise with neighbors at 1, 2, ... pixels along
        rows and along columns.
      color_correlation: Correlation of the noise of the channels; 0 for gray.
      skewness: Skewness of the noise.
      jpeg: Whether the files are JPEG, or show its blocks.
      clipped: Share of the pixels at the lowest and at the highest value.
      hot: Share of single pixels far from all their neighbors.
    """

    num_files: int
    num_planes: int
    channels: int
    dtype: str
    lowest: float
    highest: float
    pixel_range: str
    unit: float
    origin: float
    sizes: tuple[int, int]
    brightness: tuple[float, ...]
    noise: tuple[float, ...]
    spread: tuple[float, ...]
    correlation: tuple[tuple[float, ...], tuple[float, ...]]
    color_correlation: float
    skewness: float
    jpeg: bool
    clipped: tuple[float, float]
    hot: float

    @property
    def level(self) -> float:
        """Typical standard deviation of the noise, in [0, 1] units."""
        return float(np.median(self.noise)) / self.unit

    @property
    def is_correlated(self) -> bool:
        """Whether neighboring pixels have similar noise."""
        return max(abs(lags[0]) for lags in self.correlation) > CORRELATED


def choose_range(planes: Sequence[Plane]) -> str:
    """Chooses the stored values that become 0 and 1 for all pictures together.

    The range of the dtype is used if the pictures use much of it. Else it begins at 0,
    or at the 0.1st percentile if that is far above 0, and ends at the largest value of
    the bits that are used, or at the 99.9th percentile.

    Returns:
      "dtype" or "LOW,HIGH", see `data.check_range`.
    """
    dtype = planes[0].pixels.dtype
    step = 1 + sum(plane.pixels.size for plane in planes) // LARGEST_SAMPLE
    values = np.concatenate([p.pixels.ravel()[::step] for p in planes])
    values = values.astype(np.float64)
    low, high = np.percentile(values, [0.1, 99.9])
    full = np.iinfo(dtype).max if dtype.kind in "iu" else 1.0
    is_used = low >= -0.1 * full and 0.3 * full < high <= 1.1 * full
    if data.has_limits(dtype) and is_used:
        return "dtype"
    if dtype.kind == "u" or (dtype.kind == "i" and low >= 0):
        bits = max(1, int(np.ceil(np.log2(max(values.max(), 1) + 1))))
        if low < 0.1 * high and high > 0.3 * 2**bits:
            return f"0,{2**bits - 1}"
    low = 0.0 if 0 <= low < 0.1 * high else low
    if high <= low:
        low, high = values.min(), values.max()
    high = high if high > low else low + 1
    return f"{_short(low)},{_short(high)}"


def look_at(planes: Sequence[Plane], num_files: int, pixel_range: str) -> Look:
    """Measures planes of noisy pictures.

    Args:
      planes: Planes with equal numbers of channels and one dtype.
      num_files: Number of all files.
      pixel_range: The values that become 0 and 1.

    Raises:
      ValueError: If no plane is 32 pixels high and wide.
    """
    pictures = to_units(planes, pixel_range)
    pictures = [p for p in pictures if min(p.shape[:2]) >= 2 * BLOCK]
    if not pictures:
        raise ValueError(
            f"A picture must be at least {2 * BLOCK} x {2 * BLOCK} pixels. "
            f"Received: sizes {sorted({p.pixels.shape[:2] for p in planes})[:5]}."
        )
    origin, unit = _scale(planes[0], pixel_range)
    brightness, noise = calm_noise(pictures)
    bins, levels = level_by_brightness(brightness, noise)
    stored = [plane.pixels for plane in planes]
    quantiles = np.quantile(
        np.concatenate([p[::4, ::4].ravel() for p in pictures]), np.linspace(0, 1, 11)
    )
    sides = [side for p in stored for side in p.shape[:2]]
    return Look(
        num_files=num_files,
        num_planes=len(planes),
        channels=pictures[0].shape[-1],
        dtype=stored[0].dtype.name,
        lowest=float(min(p.min() for p in stored)),
        highest=float(max(p.max() for p in stored)),
        pixel_range=pixel_range,
        unit=unit,
        origin=origin,
        sizes=(int(min(sides)), int(max(sides))),
        brightness=_floats(origin + unit * bins),
        noise=_floats(unit * levels),
        spread=_floats(quantiles),
        correlation=(noise_correlation(noise, 1), noise_correlation(noise, 2)),
        color_correlation=color_correlation(noise),
        skewness=noise_skewness(noise),
        jpeg=is_jpeg(planes, pictures),
        clipped=clipped_shares(stored),
        hot=hot_share(pictures, float(np.median(levels))),
    )


def _scale(plane: Plane, pixel_range: str) -> tuple[float, float]:
    if pixel_range == "dtype":
        kind = plane.pixels.dtype
        return 0.0, float(np.iinfo(kind).max) if kind.kind in "iu" else 1.0
    if "%" in pixel_range:  # Each picture has its own; the first one stands for all.
        low, high = data.find_limits(pixel_range, [plane.pixels])
    else:
        low, high = map(float, pixel_range.split(","))
    return low, high - low


def _floats(values) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _short(value: float) -> str:
    """Returns a number with at most four digits, whole if it is large."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
