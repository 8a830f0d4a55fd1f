"""Finds the pictures of a run, reads parts of them, and writes them for trainings."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from tfflowdn import data

__all__ = [
    "Plane",
    "find_files",
    "plane_names",
    "read_planes",
    "to_units",
    "write_planes",
]


@dataclasses.dataclass(frozen=True)
class Plane:
    """A picture, or a plane of a stack, with the values of its file.

    Attributes:
      name: The name of the file and, for stacks, the number of the plane.
      path: The file.
      pixels: Stored values [H, W, C], C 1 or 3.
    """

    name: str
    path: Path
    pixels: np.ndarray


def find_files(spec: str | Path, left_out: Collection[Path] = ()) -> list[Path]:
    """Returns the pictures of a folder, sorted, or one file.

    Args:
      spec: The folder or the file.
      left_out: Folders that are not entered.

    Raises:
      ValueError: If there is none.
    """
    path = Path(spec)
    if data.is_picture(path):
        return [path]
    found = []
    if path.is_dir():
        found = data.list_pictures(path, [folder.resolve() for folder in left_out])[0]
    if not found:
        raise ValueError(
            "The pictures must be a file or a folder with pictures "
            f"({', '.join(data.PICTURE_SUFFIXES)}). Received: {str(spec)!r}."
        )
    return found


def read_planes(
    files: Sequence[Path],
    count: int,
    *,
    side: int | None = None,
    axes: str | None = None,
    split: bool = False,
) -> tuple[list[Plane], dict[str, str]]:
    """Reads planes that are spread evenly over files and their pages.

    Args:
      files: The files.
      count: Largest number of planes.
      side: Larger planes are cropped to their middle; None reads them whole. The first
        pixel of a crop is the first one of a JPEG block.
      axes: The meaning of the axes of arrays and stacks, see `inference.Denoiser`.
      split: Whether channels without a meaning, such as dyes, are gray planes.

    Returns:
      The planes without alpha, and the reasons why files could not be read, by name.
    """
    step = max(1.0, len(files) / count)
    chosen = [files[int(i * step)] for i in range(min(len(files), count))]
    per_file = max(1, count // len(chosen))
    planes, failures = [], {}
    for path in chosen:
        try:
            planes += _planes_of(path, per_file, side, axes, split)
        except (ValueError, OSError, MemoryError) as error:
            failures[path.name] = str(error)
    return planes, failures


def to_units(planes: Sequence[Plane], pixel_range: str) -> list[np.ndarray]:
    """Returns the pixels of planes, float32 [H, W, C] in units of a range."""
    return [
        data.normalize(pixel_range, plane.pixels).astype(np.float32) for plane in planes
    ]


def write_planes(
    folder: Path, planes: Sequence[np.ndarray], names: Sequence[str] = ()
) -> None:
    """Writes pictures as TIFF files, or none if the folder is complete.

    Args:
      folder: The folder, made if it is absent.
      planes: [H, W, C] of any dtype.
      names: Their names, for `plane_names`.
    """
    done = folder / ".complete"
    if done.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for index, plane in enumerate(planes):
        data.write_image(folder / f"{index:04}.tif", plane)
    done.write_text(json.dumps(list(names)), "utf-8")


def plane_names(folder: Path) -> list[str]:
    """Returns the names that `write_planes` was given."""
    return json.loads((folder / ".complete").read_text("utf-8"))


def _planes_of(
    path: Path, count: int, side: int | None, axes: str | None, split: bool
) -> list[Plane]:
    planes = []
    with (
        data.open_picture(path, axes) as picture,
        tempfile.TemporaryDirectory() as folder,
    ):
        num_pages, layout = picture.num_pages, picture.layout()
        is_split = split and layout.is_independent
        count = max(1, count // layout.channels) if is_split else count
        indices = _spread(num_pages, count)
        for index, page in zip(indices, picture.pages(folder, indices), strict=True):
            color, _ = data.split_alpha(page, layout.has_alpha)
            color = data.cut_gaps(color)
            name = path.name if num_pages == 1 else f"{path.name}, plane {index + 1}"
            cropped = color if side is None else _middle(color, side)
            planes.append(Plane(name, path, np.array(cropped)))
    return _channels_of(planes) if is_split else planes


def _channels_of(planes: Sequence[Plane]) -> list[Plane]:
    """Returns the channels of planes as gray planes."""
    return [
        Plane(f"{plane.name}, channel {channel + 1}", plane.path, pixels)
        for plane in planes
        for channel, pixels in enumerate(
            np.split(plane.pixels, plane.pixels.shape[-1], -1)
        )
    ]


def _middle(picture: np.ndarray, side: int) -> np.ndarray:
    rows, columns = (
        slice(start, start + side)
        for start in (max(0, size - side) // 2 // 8 * 8 for size in picture.shape[:2])
    )
    return picture[rows, columns]


def _spread(total: int, count: int) -> list[int]:
    step = max(1.0, total / count)
    return [int((i + 0.5) * step) for i in range(min(total, count))]
