"""Collections of pictures in files, and the opening of any collection."""

from __future__ import annotations

import dataclasses
import glob
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfflowdn.data import images
from tfflowdn.data import pixel_range as ranges
from tfflowdn.data.image_source import ImageSource, check_channels
from tfflowdn.data.listing import list_pictures, log_omitted
from tfflowdn.data.tfds_source import open_tfds

__all__ = ["FileSource", "open_source"]


@dataclasses.dataclass(frozen=True)
class FileSource(ImageSource):
    """Pictures in files whose headers have been checked; see `open_source`.

    Attributes:
      paths: The files.
      names: Their paths relative to the folder asked for, `/` between the parts.
      channels: 1 or 3.
      sizes: (height, width) of each.
      dtype: "uint8", "uint16" or "float32", the dtype of `dataset()`.
      pixel_range: The values that become 0 and 1, see `data.check_range`.
    """

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    channels: int
    sizes: tuple[tuple[int, int], ...]
    dtype: str
    pixel_range: str

    def dataset(self) -> tf.data.Dataset:
        """See `ImageSource.dataset`."""
        paths = tf.data.Dataset.from_tensor_slices([os.fspath(p) for p in self.paths])
        return paths.map(self._load, num_parallel_calls=tf.data.AUTOTUNE)

    def verify(self) -> None:
        """See `ImageSource.verify`."""
        for path in self.paths:
            images.read_image(path)

    def select(self, indices: list[int]) -> FileSource:
        """Returns the source of the pictures at `indices`, in that order."""
        picked = {
            field: tuple(getattr(self, field)[i] for i in indices)
            for field in ("paths", "names", "sizes")
        }
        return dataclasses.replace(self, **picked)

    def _load(self, path: tf.Tensor) -> tf.Tensor:
        image = tf.numpy_function(self._read, [path], self.dtype, stateful=False)
        return tf.ensure_shape(image, [None, None, self.channels])

    def _read(self, path: bytes) -> np.ndarray:
        color, _ = ranges.split_alpha(images.read_image(os.fsdecode(path)))
        if self.dtype == "float32":
            return ranges.normalize(self.pixel_range, color)
        is_shallow = color.dtype == np.uint8 and self.dtype == "uint16"
        return np.uint16(257) * color if is_shallow else color


def open_source(
    spec: str,
    *,
    channels: int | None,
    data_dir: str | os.PathLike | None = None,
    pixel_range: str | Sequence[float] = "dtype",
) -> ImageSource:
    """Opens a collection of pictures and checks it before any long work.

    Args:
      spec: A folder (all pictures below it, sorted by relative path; hidden files
        are left out), a glob pattern (`**` allowed), one file, or
        `tfds:NAME[:SPLIT]` (split "train" by default) for a data set that TFDS
        has already prepared.
      channels: The number of channels of every picture, 1 (gray) or 3 (RGB); by
        default the number of the first one. Alpha is dropped.
      data_dir: Where TFDS keeps its data sets; unused otherwise.
      pixel_range: The values that become 0 and 1, see `data.check_range`.

    Returns:
      The source. Every file's header has been read, no pixel has.

    Raises:
      FileNotFoundError: Nothing exists at `spec`, or TFDS has not prepared it.
      ValueError: No picture there, one with other channels or of a dtype without a
        range of its own, or a bad range.
      ImageReadError: A file whose header cannot be read.
    """
    if channels not in (1, 3, None):
        raise ValueError(f"channels must be 1, 3 or None. Received: {channels=}.")
    pixel_range = ranges.check_range(pixel_range)
    if spec.startswith("tfds:"):
        return open_tfds(spec, channels, data_dir, pixel_range)
    root, paths = _find(spec)
    headers = [images.image_header(path) for path in paths]
    channels = channels or headers[0].channels
    for path, header in zip(paths, headers, strict=True):
        check_channels(os.fspath(path), header.channels, channels)
        if pixel_range == "dtype" and not ranges.has_limits(header.dtype):
            raise ValueError(
                "32-bit integers must come with a pixel_range. "
                f"Received: {header.dtype.name} in {os.fspath(path)!r}."
            )
    return FileSource(
        paths=tuple(paths),
        names=tuple(path.relative_to(root).as_posix() for path in paths),
        channels=channels,
        sizes=tuple((header.height, header.width) for header in headers),
        dtype=_common_dtype({header.dtype.name for header in headers}, pixel_range),
        pixel_range=pixel_range,
    )


def _find(spec: str) -> tuple[Path, list[Path]]:
    path = Path(spec)
    if path.is_dir():
        listing = list_pictures(path)
        log_omitted(listing.omitted)
        root, found = path, listing.pictures
    elif path.exists():
        root, found = path.parent, [path]
    elif glob.has_magic(spec):
        found = [Path(match) for match in glob.glob(spec, recursive=True)]
        root = Path(os.path.commonpath([p.parent for p in found])) if found else path
    else:
        raise FileNotFoundError(
            "The source must be an existing folder or file, a glob pattern, or "
            f"tfds:NAME[:SPLIT]. Received: {spec=}."
        )
    paths = [p for p in found if _is_picture(p.relative_to(root)) and p.is_file()]
    if not paths:
        raise ValueError(
            f"The source must hold a picture, a file that ends in one of "
            f"{', '.join(images.IMAGE_SUFFIXES)}. Received: {spec=}."
        )
    return root, sorted(paths, key=lambda p: p.relative_to(root).as_posix())


def _is_picture(relative: Path) -> bool:
    hidden = any(part.startswith(".") for part in relative.parts)
    return relative.suffix.lower() in images.IMAGE_SUFFIXES and not hidden


def _common_dtype(dtypes: set[str], pixel_range: str) -> str:
    if pixel_range != "dtype" or not dtypes <= {"uint8", "uint16"}:
        return "float32"
    return max(dtypes, key=len)
