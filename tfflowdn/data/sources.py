"""Collections of pictures in files, and the opening of any collection."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import glob
import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import tensorflow as tf

from tfflowdn.checks import check_choice
from tfflowdn.data import gaps, images
from tfflowdn.data import pixel_range as ranges
from tfflowdn.data.axes import MOST_CHANNELS
from tfflowdn.data.formats import ImageHeader, Picture
from tfflowdn.data.formats.base import reading
from tfflowdn.data.image_source import ImageSource, check_channels
from tfflowdn.data.listing import (
    PICTURE_SUFFIXES,
    is_picture,
    list_pictures,
    log_omitted,
)
from tfflowdn.data.tfds_source import open_tfds

__all__ = ["FileSource", "open_source"]

_MOST_SAMPLED = 64  # Pages of a stack, for its percentiles.
_TREATMENTS = {
    "fill": gaps.fill_gaps,
    "mark": gaps.mark_gaps,
    "cut": gaps.cut_gaps,
}
_OPEN = threading.local()
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class FileSource(ImageSource):
    """Pages of files whose headers have been checked; see `open_source`.

    Attributes:
      paths: The file of each picture.
      pages: The number of the page in its file.
      names: Their paths relative to the folder asked for, `/` between the parts; page
        7 of `a/b.tif` is `a/b/0007.tif` if there are several.
      channels: 1 to 16.
      sizes: (height, width) of each.
      dtype: "uint8", "uint16" or "float32", the dtype of `dataset()`.
      pixel_range: The values that become 0 and 1, see `data.check_range`.
      axes: The axes of `.npy` files.
      percentiles_by: "file" or "page".
      gaps: The treatment of missing pixels, see `with_gaps`.
      together: The numbers of channels that are seen together; () for `channels`.
    """

    paths: tuple[Path, ...]
    pages: tuple[int, ...]
    names: tuple[str, ...]
    channels: int
    sizes: tuple[tuple[int, int], ...]
    dtype: str
    pixel_range: str
    axes: str | None = None
    percentiles_by: str = "file"
    gaps: str = "fill"
    together: tuple[int, ...] = ()

    def dataset(self) -> tf.data.Dataset:
        """See `ImageSource.dataset`."""
        indices = tf.data.Dataset.range(len(self.paths))
        return indices.map(self._load, num_parallel_calls=tf.data.AUTOTUNE)

    def verify(self) -> None:
        """See `ImageSource.verify`."""
        _each(range(len(self.paths)), self._verify)

    def with_gaps(self, gaps: str) -> FileSource:
        """See `ImageSource.with_gaps`."""
        return dataclasses.replace(self, gaps=gaps)

    def select(self, indices: list[int]) -> FileSource:
        """The source of the pictures at `indices`, in that order."""
        picked = {
            field: tuple(getattr(self, field)[i] for i in indices)
            for field in ("paths", "pages", "names", "sizes")
        }
        return dataclasses.replace(self, **picked)

    def stored(self, index: int) -> np.ndarray:
        """Returns the pixels [H, W, C] of a picture as they are stored, without alpha.

        Raises:
          ImageReadError: If the picture is broken.
        """
        path = self.paths[index]
        with self._opened(index) as picture, reading(path):
            return _copy(self._color(picture.view(self.pages[index])))

    def repaired(self, index: int) -> np.ndarray:
        """Returns the stored pixels [H, W, C] with the treatment of missing pixels.

        Raises:
          ImageReadError: If the picture is broken, or more than half is missing.
        """
        with reading(self.paths[index]):
            pixels = self.stored(index)
            gaps.count_gaps(pixels)
            return _TREATMENTS[self.gaps](pixels)

    def limits(self, index: int) -> tuple[float, float] | None:
        """Returns the values of a picture that become 0 and 1; None for "dtype"."""
        by_file = self.percentiles_by == "file"
        page = None if by_file else self.pages[index]
        reading = (self.axes, self.together or (self.channels,), self.channels)
        return _limits(self.paths[index], page, *reading, self.pixel_range)

    def read_crop(
        self, index: int, rows: np.ndarray, columns: np.ndarray
    ) -> np.ndarray:
        """See `ImageSource.read_crop`."""
        path = self.paths[index]
        with self._opened(index) as picture, reading(path):
            pixels = picture.crop(self.pages[index], rows, columns)
            pixels = gaps.mark_gaps(self._color(pixels))
        return self._scaled(index, pixels)

    def _opened(self, index: int) -> contextlib.AbstractContextManager[Picture]:
        return _opened(self.paths[index], self.axes, self.together or (self.channels,))

    def _verify(self, index: int) -> None:
        """Decodes a picture, which is not kept."""
        with reading(self.paths[index]):
            gaps.count_gaps(self.stored(index))

    def _color(self, pixels: np.ndarray) -> np.ndarray:
        color, _ = ranges.split_alpha(pixels, pixels.shape[-1] > self.channels)
        return color

    def _load(self, index: tf.Tensor) -> tf.Tensor:
        image = tf.numpy_function(self._read, [index], self.dtype, stateful=False)
        return tf.ensure_shape(image, [None, None, self.channels])

    def _read(self, index: int) -> np.ndarray:
        return self._scaled(index, self.repaired(index))

    def _scaled(self, index: int, pixels: np.ndarray) -> np.ndarray:
        gap, pixels = np.ma.getmask(pixels), np.ma.getdata(pixels)
        color = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
        if self.dtype == "float32":
            scaled = ranges.to_float(color, self.limits(index))
            return np.where(gap, np.float32(np.nan), scaled) if gap.any() else scaled
        is_shallow = color.dtype == np.uint8 and self.dtype == "uint16"
        return np.uint16(257) * color if is_shallow else np.ascontiguousarray(color)


@contextlib.contextmanager
def _opened(
    path: Path, axes: str | None, together: tuple[int, ...]
) -> Iterator[Picture]:
    """Yields a picture; a stack stays open until the thread opens another one."""
    options = (axes, together)
    key = (path, options, path.stat().st_mtime_ns) if path.exists() else None
    if key is not None and getattr(_OPEN, "key", None) == key:
        yield _OPEN.picture
        return
    picture = images.open_picture(path, *options)
    try:
        is_stack = picture.num_pages > 1
        if is_stack:
            _OPEN.key, _OPEN.picture = key, picture
        yield picture
    finally:
        if getattr(_OPEN, "picture", None) is not picture:
            picture.close()


@functools.lru_cache(maxsize=4096)
def _limits(
    path: Path,
    page: int | None,
    axes: str | None,
    together: tuple[int, ...],
    channels: int,
    pixel_range: str,
) -> tuple[float, float] | None:
    """Returns the limits of a page, or of all pages if it is None."""
    if "%" not in pixel_range:
        return ranges.find_limits(pixel_range, [])
    with _opened(path, axes, together) as picture:
        step = -(-picture.num_pages // _MOST_SAMPLED)
        pages = range(0, picture.num_pages, step) if page is None else [page]
        views = (picture.view(index) for index in pages)
        has_alpha = picture.view(0).shape[-1] > channels
        return ranges.find_limits(pixel_range, views, len(pages), has_alpha)


def _copy(pixels: np.ndarray) -> np.ndarray:
    """Returns pixels in memory, with their mask."""
    return np.array(pixels, subok=np.ma.isMaskedArray(pixels))


def open_source(
    spec: str,
    *,
    channels: int | None,
    data_dir: str | os.PathLike | None = None,
    pixel_range: str | Sequence[float] = "dtype",
    axes: str | None = None,
    percentiles_by: str = "file",
    together: Collection[int] | None = None,
) -> ImageSource:
    """Opens a collection of pictures and checks it before any long work.

    Each page of a TIFF and each plane of an array is a picture, and is read when it
    is needed. Pages along an axis C are the channels of one picture, unless `channels`
    is 1.

    Args:
      spec: A folder (all pictures below it, sorted by relative path; hidden files
        are left out), a glob pattern (`**` allowed), one file, or
        `tfds:NAME[:SPLIT]` (split "train" by default) for a data set that TFDS
        has already prepared.
      channels: The number of channels of every picture, 1 (gray), 3 (RGB) or another
        one up to 16; by default the number of the first one. Alpha is dropped: the last
        channel of files that declare it, and of arrays with one channel more.
      data_dir: Where TFDS keeps its data sets; unused otherwise.
      pixel_range: The values that become 0 and 1, see `data.check_range`.
      axes: The axes of arrays and stacks, such as "TZYX"; see `Denoiser.__call__`. C
        is the axis of the channels unless `channels` is 1.
      percentiles_by: Whether percentiles are taken over a whole "file" (of at most 64
        of its pages, spread evenly) or of each "page".
      together: The numbers of channels that are seen together where `channels` is
        None, such as the channels of the networks of a denoiser; any by default.

    Returns:
      The source. Every file's header has been read, no pixel has.

    Raises:
      FileNotFoundError: Nothing exists at `spec`, or TFDS has not prepared it.
      ValueError: No picture there, one with other channels or of a dtype without a
        range of its own, or a bad range.
      ImageReadError: A file whose header cannot be read.
    """
    if channels is not None and channels not in range(1, MOST_CHANNELS + 1):
        raise ValueError(
            f"channels must be 1 to {MOST_CHANNELS}, or None. Received: {channels=}."
        )
    pixel_range = ranges.check_range(pixel_range)
    if spec.startswith("tfds:"):
        return open_tfds(spec, channels, data_dir, pixel_range)
    check_choice("percentiles_by", percentiles_by, ("file", "page"))
    root, files = _find(spec)
    paths, pages, names, headers = [], [], [], []
    together = together if channels is None else (channels,)
    of_files = _each(files, lambda path: _page_headers(path, axes, together))
    has_missing = any(is_missing for _, is_missing in of_files)
    for path, (of_file, _) in zip(files, of_files, strict=True):
        paths += [path] * len(of_file)
        pages += range(len(of_file))
        names += _page_names(path.relative_to(root), len(of_file))
        headers += of_file
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
        pages=tuple(pages),
        names=tuple(names),
        channels=channels,
        sizes=tuple((header.height, header.width) for header in headers),
        dtype=_common_dtype(
            {header.dtype.name for header in headers}, pixel_range, has_missing
        ),
        pixel_range=pixel_range,
        axes=axes,
        percentiles_by=percentiles_by,
        together=tuple(together or ()),
    )


def _page_headers(
    path: Path, axes: str | None, together: Collection[int] | None
) -> tuple[list[ImageHeader], bool]:
    """Returns the headers, and whether pixels can be missing in integers."""
    with images.open_picture(path, axes, together) as picture:
        return picture.page_headers(), picture.missing_values() is not None


def _page_names(relative: Path, count: int) -> list[str]:
    if count == 1:
        return [relative.as_posix()]
    stem = relative.with_suffix("").as_posix()
    width = max(4, len(str(count - 1)))
    return [f"{stem}/{page:0{width}}{relative.suffix}" for page in range(count)]


def _each(items: Sequence[Item], function: Callable[[Item], Result]) -> list[Result]:
    """Returns the results for all files or pictures.

    Raises:
      ImageReadError: For all files that cannot be read, each with its reason.
    """
    results, errors = [], []
    for item in items:
        try:
            results.append(function(item))
        except images.ImageReadError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        lines = "\n".join(map(str, errors))
        raise images.ImageReadError(
            f"All pictures must be readable; {len(errors)} of {len(items)} are not. "
            f"Received:\n{lines}"
        ) from errors[0]
    return results


def _find(spec: str) -> tuple[Path, list[Path]]:
    path = Path(spec)
    if path.is_dir() and not is_picture(path):
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
    paths = [p for p in found if _is_picture(p.relative_to(root)) and is_picture(p)]
    if not paths:
        raise ValueError(
            f"The source must hold a picture, a file that ends in one of "
            f"{', '.join(PICTURE_SUFFIXES)}. Received: {spec=}."
        )
    return root, sorted(paths, key=lambda p: p.relative_to(root).as_posix())


def _is_picture(relative: Path) -> bool:
    hidden = any(part.startswith(".") for part in relative.parts)
    return relative.suffix.lower() in PICTURE_SUFFIXES and not hidden


def _common_dtype(dtypes: set[str], pixel_range: str, has_missing: bool) -> str:
    if has_missing or pixel_range != "dtype" or not dtypes <= {"uint8", "uint16"}:
        return "float32"
    return max(dtypes, key=len)
