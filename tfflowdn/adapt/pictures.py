"""The pictures of a run: found, read in part, and written for the trainings."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from tfflowdn import data
from tfflowdn.inference.risk import middle

__all__ = [
    "Plane",
    "find_files",
    "plane_names",
    "read_planes",
    "to_units",
    "write_planes",
]

ARRAY_SUFFIX = ".npy"


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
    if path.is_file():
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
) -> tuple[list[Plane], dict[str, str]]:
    """Reads planes that are spread evenly over files and their pages.

    Args:
      files: The files.
      count: Largest number of planes.
      side: Larger planes are cropped to their middle; None reads them whole.
      axes: The meaning of the axes of .npy files, see `inference.Denoiser`.

    Returns:
      The planes without alpha, and the reasons why files could not be read, by name.
    """
    step = max(1.0, len(files) / count)
    chosen = [files[int(i * step)] for i in range(min(len(files), count))]
    per_file = max(1, count // len(chosen))
    planes, failures = [], {}
    for path in chosen:
        try:
            planes += _planes_of(path, per_file, side, axes)
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
    path: Path, count: int, side: int | None, axes: str | None
) -> list[Plane]:
    if path.suffix.lower() == ARRAY_SUFFIX:
        pages = _array_planes(path, axes)
        indices = _spread(len(pages), count)
        pixels = {index: pages[index] for index in indices}
        num_pages = len(pages)
    else:
        num_pages, pixels = _page_planes(path, count)
    planes = []
    for index, values in pixels.items():
        color, _ = data.split_alpha(np.asarray(values))
        name = path.name if num_pages == 1 else f"{path.name}, plane {index + 1}"
        cropped = color if side is None else middle(color, side)
        planes.append(Plane(name, path, np.array(cropped)))
    return planes


def _page_planes(path: Path, count: int) -> tuple[int, dict[int, np.ndarray]]:
    num_pages = data.num_pages(path)
    wanted = set(_spread(num_pages, count))
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for index, page in enumerate(data.read_pages(path, folder)):
            if index in wanted:
                found[index] = np.array(page)
            if index == max(wanted):
                break
    return num_pages, found


def _spread(total: int, count: int) -> list[int]:
    step = max(1.0, total / count)
    return [int((i + 0.5) * step) for i in range(min(total, count))]


def _array_planes(path: Path, axes: str | None) -> list[np.ndarray]:
    """Returns views [H, W, C] of the planes of an array in a file."""
    array = np.load(path, mmap_mode="r")
    if axes is None:
        axes = {2: "YX", 3: "YXS"}.get(array.ndim, "")
        if array.ndim == 3 and array.shape[-1] > 4:
            axes = ""
    is_valid = len(axes) == array.ndim and set("YX") <= set(axes)
    if not is_valid or len(set(axes)) < len(axes):
        raise ValueError(
            "axes must name each axis of the array by a different letter, among them "
            f"Y and X. Received: {axes=}, shape={array.shape} in {path.name!r}."
        )
    inner = [axes.index(name) for name in "YXS" if name in axes]
    outer = [axis for axis in range(array.ndim) if axis not in inner]
    moved = np.transpose(array, outer + inner)
    moved = moved if "S" in axes else moved[..., np.newaxis]
    return [moved[index] for index in np.ndindex(moved.shape[:-3])]
