"""Writes the noisy and the clean pictures of an adaptation to its folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from absl import logging

from tfflowdn import data
from tfflowdn.adapt import clean, pictures
from tfflowdn.adapt.pictures import Plane

__all__ = ["HELD_OUT", "prepare_clean", "prepare_noisy", "read_folder"]

NUM_NOISY, NUM_CHECK, NUM_CLEAN = 48, 8, 128
NOISY_SIDE, CLEAN_SIDE = 512, 512
HELD_OUT, HELD_OUT_EVERY, MIN_TO_HOLD_OUT = "held_out", 8, 4


def prepare_noisy(
    workdir: Path, files: Sequence[Path], axes: str | None
) -> list[Plane]:
    """Writes noisy planes to `noisy/` for the training and to `check/`.

    Args:
      workdir: The folder of the run.
      files: The files of noisy pictures.
      axes: The meaning of the axes of .npy files, see `inference.Denoiser`.

    Returns:
      The planes of the most common kind.

    Raises:
      ValueError: If no file is readable.
    """
    count = NUM_NOISY + NUM_CHECK
    planes, failures = pictures.read_planes(
        files, count, side=NOISY_SIDE, axes=axes, split=True
    )
    for name, reason in failures.items():
        logging.warning("%s cannot be read: %s", name, reason)
    planes = _largest_group(planes)
    if not planes:
        raise ValueError(
            "At least one picture must be readable. Received: "
            f"{next(iter(failures.values()), 'none')}"
        )
    check, train = _split(planes)
    pictures.write_planes(workdir / "noisy", [p.pixels for p in train])
    names = [p.name for p in check]
    pictures.write_planes(workdir / "check", [p.pixels for p in check], names)
    return planes


def prepare_clean(
    folder: Path,
    spec: str | Path | None,
    *,
    axes: str | None,
    channels: int,
    examples: Callable[[], Sequence[np.ndarray]] | None = None,
) -> None:
    """Writes clean pictures to a folder, unless they are complete.

    Every eighth picture, and at least one, goes to the folder `held_out` next to it,
    for the comparison. This folder is empty if there are fewer than four pictures.

    Args:
      folder: The folder to write.
      spec: A folder of clean pictures, or None for the photographs of the package.
      axes: The meaning of the axes of .npy files, see `inference.Denoiser`.
      channels: 1 or 3.
      examples: Returns denoised pictures whose brightness the clean ones get, or None
        to keep theirs.

    Raises:
      ValueError: If a file is not readable.
    """
    if (folder / ".complete").exists():
        return
    planes, failures = pictures.read_planes(
        pictures.find_files(spec or data.PHOTOGRAPHS),
        NUM_CLEAN,
        side=CLEAN_SIDE,
        axes=axes,
        split=True,
    )
    if failures:
        name, reason = next(iter(failures.items()))
        raise ValueError(f"{name} must be readable. Received: {reason}")
    result = clean.clean_pictures(planes, channels)
    if examples is not None:
        result = clean.with_brightness_of(result, examples())
    held_out = []
    if len(result) >= MIN_TO_HOLD_OUT:
        every = min(HELD_OUT_EVERY, len(result))
        held_out = result[every - 1 :: every]
        result = [p for i, p in enumerate(result) if (i + 1) % every]
    pictures.write_planes(folder.with_name(HELD_OUT), held_out)
    pictures.write_planes(folder, result)


def read_folder(folder: Path, pixel_range: str) -> list[np.ndarray]:
    """Returns the planes of a folder of `write_planes`, float32 in [0, 1] units."""
    files_found = sorted(folder.glob("*.tif"))
    if not files_found:
        return []
    planes, _ = pictures.read_planes(files_found, len(files_found))
    return pictures.to_units(planes, pixel_range)


def _largest_group(planes: Sequence[Plane]) -> list[Plane]:
    """Returns the planes of the most common kind; warns if there are others."""
    kinds = [(p.pixels.shape[-1], p.pixels.dtype.name) for p in planes]
    if not kinds:
        return []
    most = max(set(kinds), key=kinds.count)
    others = len(kinds) - kinds.count(most)
    if others:
        logging.warning(
            "%d of %d pictures are not of the most common kind (%d channels, %s); the "
            "denoiser is not adapted to them.",
            others,
            len(kinds),
            *most,
        )
    return [p for p, kind in zip(planes, kinds, strict=True) if kind == most]


def _split(planes: Sequence[Plane]) -> tuple[list[Plane], list[Plane]]:
    """Returns planes for the comparison and for the training; few serve for both."""
    every = max(4, len(planes) // NUM_CHECK)
    if len(planes) <= every:
        return list(planes), list(planes)
    train = [p for i, p in enumerate(planes) if (i + 1) % every]
    return list(planes[every - 1 :: every]), train
