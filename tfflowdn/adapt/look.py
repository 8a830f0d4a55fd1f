"""What noisy pictures are like: values, noise, sharpness and defects."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfflowdn import data
from tfflowdn.adapt.pictures import Plane, to_units

__all__ = ["Look", "choose_range", "describe", "look_at"]

BLOCK = 16  # Side of the blocks whose noise is measured, in pixels.
CALM_SHARE = 0.1
NUM_BINS = 10
MAX_LAG = 4
CORRELATED, LEANING, CLIPPED, HOT = 0.1, 0.3, 1e-3, 1e-4
BLOCKY = 1.15
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
    brightness, noise = _calm_noise(pictures)
    bins, levels = _level_by_brightness(brightness, noise)
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
        correlation=(_correlation(noise, 1), _correlation(noise, 2)),
        color_correlation=_color_correlation(noise),
        skewness=_skewness(noise),
        jpeg=_is_jpeg(planes, pictures),
        clipped=_clipped(stored),
        hot=_hot(pictures, float(np.median(levels))),
    )


def describe(look: Look) -> list[str]:
    """Returns ten plain sentences about the pictures, in their own units."""
    unit = unit_name(look)
    kind = "gray" if look.channels == 1 else "color"
    low, high = look.sizes
    dark, bright = look.noise[0], look.noise[-1]
    rows, columns = look.correlation
    reach = max(rows[0], columns[0])
    bits = int(np.ceil(np.log2(max(look.highest, 1) + 1)))
    integers = np.dtype(look.dtype).kind in "iu"
    used = f", {bits} bits are used" if integers else ""
    growth = (
        "grows with the brightness"
        if bright > 1.25 * dark
        else (
            "falls with the brightness"
            if bright < 0.8 * dark
            else "is about the same at all brightnesses"
        )
    )
    return [
        f"{look.num_files} files, {kind}, sides of {low} to {high} pixels; "
        f"{look.num_planes} planes were looked at.",
        f"Values: {look.dtype}, from {_short(look.lowest)} to {_short(look.highest)}"
        f"{used}.",
        f"Range: the networks see {_short(look.origin)} as 0 and "
        f"{_short(look.origin + look.unit)} as 1.",
        f"Noise: about {_short(np.median(look.noise))} {unit} in calm places.",
        f"By brightness: the noise {growth} ({_short(dark)} {unit} at "
        f"{_short(look.brightness[0])}, {_short(bright)} at "
        f"{_short(look.brightness[-1])}).",
        "Correlation: neighboring pixels have "
        + (
            f"similar noise ({reach:.2f})."
            if look.is_correlated
            else f"independent noise ({reach:.2f})."
        ),
        "Colors: "
        + (
            "the pictures are gray."
            if look.channels == 1
            else "the noise of the channels is correlated by "
            f"{look.color_correlation:.2f}."
        ),
        "Lean: the noise "
        + (
            f"leans to one side (skewness {look.skewness:.2f})."
            if abs(look.skewness) > LEANING
            else f"is about as often above as below (skewness {look.skewness:.2f})."
        ),
        "JPEG: the pictures "
        + (
            "were compressed as JPEG, which changes their noise."
            if look.jpeg
            else "show no JPEG compression."
        ),
        f"Defects: {100 * look.clipped[0]:.2g} % of the pixels are at the lowest and "
        f"{100 * look.clipped[1]:.2g} % at the highest value, and "
        f"{100 * look.hot:.2g} % are far from all their neighbors.",
    ]


def unit_name(look: Look) -> str:
    """Returns the name of the unit of stored values."""
    if look.dtype == "uint8":
        return "gray levels"
    return "counts" if np.dtype(look.dtype).kind in "iu" else "units"


def _scale(plane: Plane, pixel_range: str) -> tuple[float, float]:
    if pixel_range == "dtype":
        kind = plane.pixels.dtype
        return 0.0, float(np.iinfo(kind).max) if kind.kind in "iu" else 1.0
    if "%" in pixel_range:  # Each picture has its own; the first one stands for all.
        low, high = data.find_limits(pixel_range, [plane.pixels])
    else:
        low, high = map(float, pixel_range.split(","))
    return low, high - low


def _calm_noise(pictures: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns brightness [n] and noise [n, block, block, C] of calm blocks."""
    brightness, noise = [], []
    for picture in pictures:
        blocks = _blocks(picture)
        rest = blocks - _planes(blocks)
        mean, variance = blocks.mean((1, 2, 3)), (rest**2).mean((1, 2, 3))
        extreme = (blocks <= picture.min()) | (blocks >= picture.max())
        usable = (extreme.mean((1, 2, 3)) < 0.2) & (variance > 0)
        for part in np.array_split(np.argsort(mean), NUM_BINS):
            part = part[usable[part]]
            calm = part[np.argsort(variance[part])][: max(1, len(part) // 10)]
            brightness.append(mean[calm])
            noise.append(rest[calm])
    brightness, noise = np.concatenate(brightness), np.concatenate(noise)
    if not len(brightness):
        shape = (1, BLOCK, BLOCK, pictures[0].shape[-1])
        return np.array([pictures[0].mean()]), np.zeros(shape, np.float32)
    return brightness, noise


def _blocks(picture: np.ndarray) -> np.ndarray:
    rows, columns = (size // BLOCK for size in picture.shape[:2])
    picture = picture[: rows * BLOCK, : columns * BLOCK]
    blocks = picture.reshape(rows, BLOCK, columns, BLOCK, -1).swapaxes(1, 2)
    return blocks.reshape(rows * columns, BLOCK, BLOCK, -1)


def _planes(blocks: np.ndarray) -> np.ndarray:
    """Returns the least-squares plane of each block and channel."""
    ramp = np.linspace(-1, 1, BLOCK, dtype=np.float32)
    ramp /= np.sqrt(np.mean(ramp**2))
    rows, columns = ramp[:, np.newaxis, np.newaxis], ramp[:, np.newaxis]
    slopes = [(blocks * r).mean((1, 2), keepdims=True) * r for r in (rows, columns)]
    return blocks.mean((1, 2), keepdims=True) + sum(slopes)


def _level_by_brightness(
    brightness: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    variance = (noise**2).mean((1, 2, 3)) * BLOCK**2 / (BLOCK**2 - 3)
    parts = np.array_split(np.argsort(brightness), min(NUM_BINS, len(brightness)))
    bins = np.array([brightness[part].mean() for part in parts])
    return bins, np.sqrt([np.median(variance[part]) for part in parts])


def _correlation(noise: np.ndarray, axis: int) -> tuple[float, ...]:
    power = max(float((noise**2).mean()), 1e-20)
    length = noise.shape[axis]
    moved = np.moveaxis(noise, axis, 0)
    return _floats(
        (moved[lag:] * moved[: length - lag]).mean() / power
        for lag in range(1, MAX_LAG + 1)
    )


def _color_correlation(noise: np.ndarray) -> float:
    if noise.shape[-1] == 1 or not noise.any():
        return 0.0
    matrix = np.corrcoef(noise.reshape(-1, noise.shape[-1]).T)
    return float(matrix[np.triu_indices(len(matrix), 1)].mean())


def _skewness(noise: np.ndarray) -> float:
    power = (noise**2).mean((1, 2, 3), keepdims=True)
    return float(((noise / np.sqrt(power + 1e-20)) ** 3).mean())


def _is_jpeg(planes: Sequence[Plane], pictures: Sequence[np.ndarray]) -> bool:
    names = {plane.path.suffix.lower() for plane in planes}
    if names <= {".jpg", ".jpeg", ".jfif", ".jpe"}:
        return True
    return float(np.median([_blockiness(picture) for picture in pictures])) > BLOCKY


def _blockiness(picture: np.ndarray) -> float:
    """Returns the steps at multiples of 8 pixels over the other steps."""
    steps = [np.abs(np.diff(picture, axis=axis)).mean((1 - axis, 2)) for axis in (0, 1)]
    edges = np.mean([step[7::8].mean() for step in steps])
    others = [np.delete(step, np.s_[7::8]).mean() for step in steps]
    return float(edges / max(np.mean(others), 1e-12))


def _clipped(stored: Sequence[np.ndarray]) -> tuple[float, float]:
    low, high = (f([f(p) for p in stored]) for f in (np.min, np.max))
    count = sum(p.size for p in stored)
    at = [sum(int((p == limit).sum()) for p in stored) for limit in (low, high)]
    return at[0] / count, at[1] / count


def _hot(pictures: Sequence[np.ndarray], level: float) -> float:
    """Returns the share of pixels that are far above or below all neighbors."""
    count = total = 0
    for picture in pictures:
        windows = np.lib.stride_tricks.sliding_window_view(picture, (3, 3), (0, 1))
        around = windows.reshape(*windows.shape[:3], 9)
        middle = around[..., 4]
        others = np.delete(around, 4, -1)
        far = 6 * max(level, 1e-6)
        above, below = middle - others.max(-1), others.min(-1) - middle
        count += int(((above > far) | (below > far)).sum())
        total += middle.size
    return count / total


def _floats(values) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _short(value: float) -> str:
    """Returns a number with at most four digits, whole if it is large."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
