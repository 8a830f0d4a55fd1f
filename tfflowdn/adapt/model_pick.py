"""Picks a general denoiser by looking at a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfflowdn import data
from tfflowdn.adapt.measure import blockiness, calm_noise, noise_correlation
from tfflowdn.inference import GENERAL_DENOISERS

__all__ = ["CAMERA", "ModelPick", "may_be_camera", "pick_model", "suits_camera"]

CAMERA = "denoiser_camera"
JPEG_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".jpe")
SMALLEST, LOOKED_AT = 64, 512  # Sides, pixels.
MIN_BLOCKINESS, MIN_CORRELATION, MAX_SHARPNESS = 1.25, 0.5, 0.5
TRIED, BLOCK = 128, 8  # Sides of the crops of the trial and of their blocks.
MANY_PIXELS = 2**20  # A larger picture is tried in four places.
MAX_REMOVED, MAX_UNEVENNESS = 4.5 / 255, 2.6


class ModelPick(NamedTuple):
    """A model and the reason for it.

    Attributes:
      model: The name of the model.
      reason: A clause.
    """

    model: str
    reason: str


def may_be_camera(path: str | Path) -> bool:
    """Returns whether a file may get `denoiser_camera`, from its name."""
    return Path(path).suffix.lower() in JPEG_SUFFIXES


def pick_model(
    path: str | Path,
    pixels: np.ndarray,
    camera: Callable[[np.ndarray], np.ndarray],
) -> ModelPick:
    """Picks the denoiser that suits a picture.

    `denoiser_camera` is for JPEG files with the noise of cameras, see `suits_camera`.
    All others get the general denoiser for their channels.

    Args:
      path: The file.
      pixels: Its pixels [H, W, C], with or without alpha.
      camera: Applies `denoiser_camera` to a picture in [0, 1] units.
    """
    gray, general = GENERAL_DENOISERS
    color, _ = data.split_alpha(pixels)
    if color.shape[-1] != 3:
        return ModelPick(gray, "gray")
    if not may_be_camera(path):
        return ModelPick(general, "no JPEG file")
    if min(color.shape[:2]) < SMALLEST or color.dtype != np.uint8:
        return ModelPick(general, "too small to look at")
    if not suits_camera(color, camera):
        return ModelPick(general, "sharper than a camera's own JPEG file")
    return ModelPick(CAMERA, "soft as a JPEG file of the camera's own size")


def suits_camera(
    pixels: np.ndarray, camera: Callable[[np.ndarray], np.ndarray]
) -> bool:
    """Returns whether `denoiser_camera` suits a color picture.

    It is for photographs at the camera's own size that were compressed as JPEG. Their
    noise reaches over several pixels, and they are so soft that the borders of JPEG
    blocks stand out. On sharp pictures it removes texture, so a picture that looks
    like a camera's is tried: the part that the model removes from small crops must be
    weak, and about as strong everywhere.

    Args:
      pixels: uint8 [H, W, 3]; the first pixel must be the first one of a JPEG block.
      camera: Applies `denoiser_camera` to a picture in [0, 1] units.
    """
    if min(pixels.shape[:2]) < SMALLEST or pixels.dtype != np.uint8:
        return False
    return _looks_soft(pixels) and _is_evenly_noisy(pixels, camera)


def _looks_soft(pixels: np.ndarray) -> bool:
    part = _aligned_crop(pixels, LOOKED_AT, (0.5, 0.5))
    return (
        blockiness(part) >= MIN_BLOCKINESS
        and _sharpness(part) <= MAX_SHARPNESS
        and _noise_reach(part) >= MIN_CORRELATION
    )


def _is_evenly_noisy(
    pixels: np.ndarray, camera: Callable[[np.ndarray], np.ndarray]
) -> bool:
    """Returns whether the model removes noise, and not texture, from crops."""
    is_large = pixels.shape[0] * pixels.shape[1] > MANY_PIXELS
    shares = (0.25, 0.75) if is_large else (0.5,)
    places = [(row, column) for row in shares for column in shares]
    crops = [_aligned_crop(pixels, TRIED, place) for place in places]
    removed = np.concatenate([_blocks(crop - camera(crop)) for crop in crops])
    levels = np.sqrt((removed**2).mean(1))
    unevenness = np.quantile(levels, 0.95) / max(float(np.median(levels)), 1e-6)
    level = np.sqrt((levels**2).mean())
    return bool(level <= MAX_REMOVED and unevenness <= MAX_UNEVENNESS)


def _aligned_crop(
    pixels: np.ndarray, side: int, place: tuple[float, float]
) -> np.ndarray:
    """Returns a crop in [0, 1] units that begins at the corner of a JPEG block."""
    starts = [
        int(share * max(0, size - side)) // BLOCK * BLOCK
        for share, size in zip(place, pixels.shape[:2], strict=True)
    ]
    rows, columns = (slice(start, start + side) for start in starts)
    return data.to_float(np.asarray(pixels[rows, columns]))


def _sharpness(picture: np.ndarray) -> float:
    """Returns the power of steps to neighbors over the power of steps of two pixels.

    It is about 1/4 for smooth pictures, and 1 for white noise.
    """
    gray = picture.mean(-1)
    ratios = []
    for plane in (gray, gray.T):
        near, far = plane[1:] - plane[:-1], plane[2:] - plane[:-2]
        ratios.append((near**2).mean() / max(float((far**2).mean()), 1e-12))
    return float(np.mean(ratios))


def _noise_reach(picture: np.ndarray) -> float:
    _, noise = calm_noise([picture])
    return max(noise_correlation(noise, axis)[0] for axis in (1, 2))


def _blocks(picture: np.ndarray) -> np.ndarray:
    """Returns the values of blocks, [n, values]."""
    rows, columns = (size // BLOCK for size in picture.shape[:2])
    picture = picture[: rows * BLOCK, : columns * BLOCK]
    blocks = picture.reshape(rows, BLOCK, columns, BLOCK, -1).swapaxes(1, 2)
    return blocks.reshape(rows * columns, -1)
