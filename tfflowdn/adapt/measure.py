"""Measurements of noise, compression and defects in pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfflowdn.adapt.pictures import Plane

__all__ = [
    "BLOCK",
    "blockiness",
    "calm_noise",
    "clipped_shares",
    "color_correlation",
    "hot_share",
    "is_jpeg",
    "level_by_brightness",
    "noise_correlation",
    "noise_skewness",
]

BLOCK = 16  # Side of the blocks whose noise is measured, in pixels.
NUM_BINS = 10
MAX_LAG = 4
BLOCKY = 1.15  # Steps at the borders of JPEG blocks over other steps.


def calm_noise(pictures: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
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


def level_by_brightness(
    brightness: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns up to ten brightnesses and the noise level at each."""
    variance = (noise**2).mean((1, 2, 3)) * BLOCK**2 / (BLOCK**2 - 3)
    parts = np.array_split(np.argsort(brightness), min(NUM_BINS, len(brightness)))
    bins = np.array([brightness[part].mean() for part in parts])
    return bins, np.sqrt([np.median(variance[part]) for part in parts])


def noise_correlation(noise: np.ndarray, axis: int) -> tuple[float, ...]:
    """Returns the correlation at 1, 2, ... pixels along an axis of noise."""
    power = max(float((noise**2).mean()), 1e-20)
    length = noise.shape[axis]
    moved = np.moveaxis(noise, axis, 0)
    return _floats(
        (moved[lag:] * moved[: length - lag]).mean() / power
        for lag in range(1, MAX_LAG + 1)
    )


def color_correlation(noise: np.ndarray) -> float:
    """Returns the mean correlation of the noise of two channels; 0 for gray."""
    if noise.shape[-1] == 1 or not noise.any():
        return 0.0
    matrix = np.corrcoef(noise.reshape(-1, noise.shape[-1]).T)
    return float(matrix[np.triu_indices(len(matrix), 1)].mean())


def noise_skewness(noise: np.ndarray) -> float:
    """Returns the skewness of noise [n, block, block, C]."""
    power = (noise**2).mean((1, 2, 3), keepdims=True)
    return float(((noise / np.sqrt(power + 1e-20)) ** 3).mean())


def is_jpeg(planes: Sequence[Plane], pictures: Sequence[np.ndarray]) -> bool:
    """Returns whether the files are JPEG, or the pictures show its blocks."""
    names = {plane.path.suffix.lower() for plane in planes}
    if names <= {".jpg", ".jpeg", ".jfif", ".jpe"}:
        return True
    return float(np.median([blockiness(picture) for picture in pictures])) > BLOCKY


def blockiness(picture: np.ndarray) -> float:
    """Returns the steps at multiples of 8 pixels over the other steps.

    Args:
      picture: [H, W, C]; its first pixel must be the first one of a JPEG block.
    """
    steps = [np.abs(np.diff(picture, axis=axis)).mean((1 - axis, 2)) for axis in (0, 1)]
    edges = np.mean([step[7::8].mean() for step in steps])
    others = [np.delete(step, np.s_[7::8]).mean() for step in steps]
    return float(edges / max(np.mean(others), 1e-12))


def clipped_shares(stored: Sequence[np.ndarray]) -> tuple[float, float]:
    """Returns the shares of the pixels at the lowest and at the highest value."""
    low, high = (f([f(p) for p in stored]) for f in (np.min, np.max))
    count = sum(p.size for p in stored)
    at = [sum(int((p == limit).sum()) for p in stored) for limit in (low, high)]
    return at[0] / count, at[1] / count


def hot_share(pictures: Sequence[np.ndarray], level: float) -> float:
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
