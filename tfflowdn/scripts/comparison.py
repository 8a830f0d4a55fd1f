"""The changes by `denoise`, picture by picture: lines and contact sheets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

import tfflowdn

__all__ = ["describe_pair", "write_sheets"]

SIDE, GAP = 512, 8
Pair = tuple[Path, Path]


def describe_pair(source: Path, target: Path, axes: str | None = None) -> str:
    """Returns a line about the part that was removed from a picture.

    Args:
      source: The picture before.
      target: The picture after; the middle plane stands for a stack.
      axes: The meaning of the axes of arrays and stacks.
    """
    before, after = _planes(source, target, axes)
    removed = np.subtract(before, after, dtype=np.float64)
    height, width, channels = before.shape
    kind = {1: "gray", 3: "color"}.get(channels, f"{channels} channels")
    integers = before.dtype.kind in "iu"
    unit = ("gray levels" if before.dtype == np.uint8 else "counts") if integers else ""
    changed = 100 * np.mean(removed != 0)
    level = f"{removed.std():.3g} {unit}".rstrip()
    return (
        f"{source}: {width} x {height}, {kind}, {before.dtype.name}; removed noise of "
        f"{level}, changed {changed:.0f} % of the values"
    )


def write_sheets(
    pairs: Sequence[Pair], root: Path, folder: Path, axes: str | None = None
) -> list[Path]:
    """Writes a PNG for each picture, with its middle before and after.

    Args:
      pairs: Pictures before and after.
      root: The folder of the pictures after, whose tree is repeated.
      folder: The folder to write; sheets of earlier calls are replaced.
      axes: The meaning of the axes of arrays and stacks.

    Returns:
      The paths written.
    """
    paths = []
    for source, target in pairs:
        before, after = _planes(source, target, axes)
        chosen = tfflowdn.adapt.choose_range(
            [tfflowdn.adapt.Plane(source.name, source, before)]
        )
        limits = tfflowdn.data.find_limits(chosen, [before])
        if after.dtype != before.dtype:  # The output has another type.
            limits = None
        halves = [_unit(half, limits) for half in (before, after)]
        gap = np.ones((halves[0].shape[0], GAP, halves[0].shape[2]), np.float32)
        sheet = np.concatenate([halves[0], gap, halves[1]], axis=1)
        path = folder / f"{target.relative_to(root)}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet = tfflowdn.data.shown_colors(np.clip(sheet, 0, 1))
        pixels = tfflowdn.data.from_float(sheet, np.uint8)
        tfflowdn.data.write_image(path, pixels)
        paths.append(path)
    return paths


def _planes(source, target, axes):
    """Returns the middle of a plane before and after."""
    planes = []
    for path in (source, target):
        found, failures = tfflowdn.adapt.read_planes([path], 1, side=SIDE, axes=axes)
        if failures:
            raise ValueError(
                f"The picture must be readable. Received: {failures[path.name]}"
            )
        planes.append(found[0].pixels)
    return planes


def _unit(picture, limits):
    if limits is None and not tfflowdn.data.has_limits(picture.dtype):
        limits = (float(picture.min()), float(picture.max()) + 1)
    return tfflowdn.data.to_float(picture, limits)
