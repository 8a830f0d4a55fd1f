"""The interface of a picture format: an open picture, and a codec that writes it."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import errno
import functools
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from tfflowdn.data import gaps
from tfflowdn.data.memory import check_fits
from tfflowdn.data.orientation import orient

__all__ = [
    "UNIFORM_PIXELS",
    "UNIFORM_RATIO",
    "Codec",
    "ImageHeader",
    "ImageReadError",
    "Layout",
    "Metadata",
    "PageFunction",
    "Picture",
    "reading",
]

# For codecs that need no data where pixels are equal: 110,000 pixels for each byte of a
# uniform picture of 36 megapixels were measured.
UNIFORM_RATIO, UNIFORM_PIXELS = 2.0**17, 2**24
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

PageFunction = Callable[[np.ndarray, np.ndarray], None]


class ImageReadError(ValueError):
    """A picture file that cannot be read; the message names the file and the cause."""


class ImageHeader(NamedTuple):
    """Size and kind of a picture, as `read_image` would return it.

    Attributes:
      height: Rows, after the stored orientation is applied.
      width: Columns, after the stored orientation is applied.
      channels: 1 (gray) or 3 (color), alpha is not counted; or the number of
        channels without a meaning.
      dtype: The dtype of the pixels.
    """

    height: int
    width: int
    channels: int
    dtype: np.dtype


class Metadata(NamedTuple):
    """The contents of a file except for its pixels.

    Attributes:
      family: The family of the codec that read the values.
      values: Values by name, for the codecs of the same family.
      conversion: How reading changes the kind of pixels, such as "CMYK to RGB".
    """

    family: str = ""
    values: Mapping[str, Any] = {}
    conversion: str = ""


class Layout(NamedTuple):
    """The pixels of a picture as they are stored.

    Attributes:
      height: Rows, before the orientation is applied.
      width: Columns, before the orientation is applied.
      channels: Their number, with alpha.
      dtype: The dtype of the pixels after decoding.
      orientation: The EXIF orientation, 1 to 8, that must be applied.
      is_independent: Whether the channels have no meaning, and none is alpha.
    """

    height: int
    width: int
    channels: int
    dtype: np.dtype
    orientation: int
    is_independent: bool = False

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is alpha."""
        return self.channels in (2, 4) and not self.is_independent

    @property
    def header(self) -> ImageHeader:
        """The header of the picture after the orientation is applied."""
        size = (int(self.height), int(self.width))
        height, width = size if self.orientation < 5 else size[::-1]
        colors = self.channels - self.has_alpha
        return ImageHeader(height, width, colors, np.dtype(self.dtype))


class Picture(abc.ABC):
    """A picture file that is open; a context manager that closes it.

    A format implements `_layout`, `_pixels` and `_metadata`. A format with pages or
    with pixels that can stay on disk also implements the methods of pages.
    """

    is_stack_or_large = False  # Whether `map_pages` must be used instead of `read`.
    num_pages = 1
    axes: str | None = None  # See `channel_pages.with_axes`, as for the next ones.
    channels: Collection[int] | None = ()
    has_all_axes = False  # Whether `axes` has a letter for each axis, as of an array.
    notes = ""  # How results written by pages differ from the file, in words.
    # A complete file has a byte for this number of pixels, or for fewer. Codecs without
    # such a limit get one that applies to pictures of more than `unchecked_pixels`.
    largest_ratio: float | None = None
    unchecked_pixels = 0

    def __init__(self, path: str | os.PathLike, file: BinaryIO | None) -> None:
        """Parses the header of a file.

        Args:
          path: The path, for messages.
          file: The open file, which is closed with the picture; None for a folder.
        """
        self.path = Path(path)
        self._file = file

    def __enter__(self) -> Picture:
        """Returns the picture itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the file."""
        self.close()

    def __del__(self) -> None:
        """Closes the file of a picture that is no longer used."""
        if file := getattr(self, "_file", None):
            file.close()

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()

    def header(self) -> ImageHeader:
        """Returns size, channels and dtype; no pixel is decoded."""
        with reading(self.path):
            return self._layout().header

    def page_headers(self) -> list[ImageHeader]:
        """Returns the header of each page; no pixel is decoded."""
        with reading(self.path):
            return [layout.header for layout in self._page_layouts()]

    def view(self, index: int) -> np.ndarray:
        """Returns the pixels [H, W, C] of a page, on disk where they can stay there.

        Args:
          index: The number of the page.
        """
        with reading(self.path):
            return self._masked(self._view(index))

    def crop(self, index: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Returns pixels of a page; others stay on disk where they can.

        Args:
          index: The number of the page.
          rows: Rows, an array of any shape.
          columns: Columns, of the same shape.
        """
        with reading(self.path):
            pixels = self._view(index)[rows, columns]
            return self._masked(np.array(pixels, subok=np.ma.isMaskedArray(pixels)))

    def page_axes(self) -> tuple[str, tuple[int, ...]]:
        """Returns a letter and the length of each axis that counts pages."""
        count = self.num_pages
        return ("I", (count,)) if count > 1 else ("", ())

    def missing_values(self) -> tuple[float, float] | None:
        """Returns the range of the stored values that stand for missing pixels.

        None if the file names no such values.
        """
        with reading(self.path):
            return self._missing

    def layout(self) -> Layout:
        """Returns the layout of the first page."""
        with reading(self.path):
            return self._page_layouts()[0]

    def metadata(self) -> Metadata:
        """Returns the metadata that a file of the same family can store."""
        with reading(self.path):
            return self._metadata()

    def read(self) -> np.ndarray:
        """Returns the pixels [H, W, C] with the orientation applied.

        Raises:
          ImageReadError: If the file is broken or does not fit into memory.
        """
        with reading(self.path):
            layout = self._layout()
            self._check_ratio(layout)
            extra_bytes = self._decoder_bytes() * layout.height * layout.width
            check_fits(layout[:3], layout.dtype, extra_bytes)
            array = orient(self._pixels(), layout.orientation)
            return self._masked(np.ascontiguousarray(array, layout.dtype))

    def pages(
        self, folder: str | os.PathLike, indices: Sequence[int] | None = None
    ) -> Iterator[np.ndarray]:
        """Yields the pixels [H, W, C] of pages.

        Args:
          folder: A directory for temporary files with the pixels of large pages.
          indices: The numbers of the pages, all by default; others are not decoded.
        """
        with reading(self.path):
            yield from map(self._masked, self._pages(folder, indices))

    def map_pages(
        self,
        target: Path,
        function: PageFunction,
        dtype: np.typing.DTypeLike | None = None,
    ) -> int:
        """Writes a file with the result of `function` for each page.

        Args:
          target: The file to write.
          function: Takes pixels [H, W, C] and an array of the same shape, which it
            fills. Both are on disk if they are large.
          dtype: The dtype of the results, by default the dtype of each page.

        Returns:
          The number of pixels of all pages.
        """
        with reading(self.path):
            return self._map_pages(target, function, dtype)

    @abc.abstractmethod
    def _layout(self) -> Layout:
        """Returns the layout of the only page; ValueError if it is not supported."""

    @abc.abstractmethod
    def _pixels(self) -> np.ndarray:
        """Returns the pixels [height, width, channels] as they are stored."""

    @abc.abstractmethod
    def _metadata(self) -> Metadata:
        """See `metadata`."""

    def _page_layouts(self) -> list[Layout]:
        return [self._layout()]

    def _view(self, index: int) -> np.ndarray:
        del index  # The only page.
        return self.read()

    @functools.cached_property
    def _missing(self) -> tuple[float, float] | None:
        """See `missing_values`."""
        return self._read_missing()

    def _read_missing(self) -> tuple[float, float] | None:
        return None

    @functools.cached_property
    def _has_alpha_channel(self) -> bool:
        return self._page_layouts()[0].has_alpha

    def _masked(self, pixels: np.ndarray) -> np.ndarray:
        """Returns pixels [..., C] with a mask if some of them are missing."""
        if self._missing is None or np.ma.isMaskedArray(pixels):
            return pixels
        return gaps.mask_values(pixels, *self._missing, self._has_alpha_channel)

    def _check_ratio(self, layout: Layout, num_pages: int = 1) -> None:
        """Checks that the file can hold the pixels that its header declares.

        Raises:
          ValueError: If it is too small for them.
        """
        if self.largest_ratio is None:
            return
        num_bytes = self._num_bytes()
        num_pixels = num_pages * layout.height * layout.width
        if num_pixels > max(self.largest_ratio * num_bytes, self.unchecked_pixels):
            pages = f"{num_pages} x " if num_pages > 1 else ""
            raise ValueError(
                f"a picture of {pages}{layout.height} x {layout.width} pixels must "
                f"have more data. Received: {num_bytes} bytes."
            )

    def _num_bytes(self) -> int:
        """Returns the size of the file."""
        return os.fstat(self._file.fileno()).st_size

    def _decoder_bytes(self) -> int:
        """Returns the bytes per pixel that the decoder needs next to the result."""
        return 0

    def _pages(
        self, folder: str | os.PathLike, indices: Sequence[int] | None
    ) -> Iterator[np.ndarray]:
        del folder  # The only page is in memory.
        yield from (self.read() for _ in ([0] if indices is None else indices))

    def _map_pages(
        self,
        target: Path,
        function: PageFunction,
        dtype: np.typing.DTypeLike | None,
    ) -> int:
        del target, function, dtype
        raise ValueError("the file must be a TIFF or an array to be mapped by pages.")


@dataclasses.dataclass(frozen=True)
class Codec:
    """A picture format.

    Attributes:
      name: The name in messages.
      family: Metadata are exchanged between the codecs of one family.
      suffixes: Of file names, in lower case.
      magics: The first bytes of a file; `?` stands for any byte.
      open: Creates the picture from a path and an open file.
      write: Writes pixels [H, W, C] to a path, with the values of `Metadata`.
      kinds: The numbers of channels that the format can store, by dtype.
      result_suffix: Of results, where no library writes the format; by default the
        suffix of the file.
      is_folder: Whether a picture is a folder, which has no first bytes.
    """

    name: str
    family: str
    suffixes: tuple[str, ...]
    magics: tuple[bytes, ...]
    open: Callable[[str | os.PathLike, BinaryIO | None], Picture]
    write: Callable[[Path, np.ndarray, Mapping[str, Any]], None]
    kinds: Mapping[str, tuple[int, ...]]
    result_suffix: str = ""
    is_folder: bool = False

    def recognizes(self, start: bytes) -> bool:
        """Returns whether a file with these first bytes has the format."""
        return any(_matches(start, magic) for magic in self.magics)

    def check_kind(self, array: np.ndarray, suffix: str) -> None:
        """Checks that the format can store the pixels [H, W, C].

        Raises:
          ValueError: If it cannot.
        """
        dtype, channels = array.dtype.name, array.shape[-1]
        if channels not in self.kinds.get(dtype, ()):
            kinds = "; ".join(
                f"{kind} with {', '.join(map(str, counts))} channels"
                for kind, counts in self.kinds.items()
            )
            raise ValueError(
                f"The format must hold these pixels; {self.name} holds {kinds}. "
                f"Received: {suffix=}, {dtype=}, {channels=}."
            )


@contextlib.contextmanager
def reading(path: str | os.PathLike) -> Iterator[None]:
    """Turns every error into an ImageReadError that names the file.

    An error of a full disk is raised as it is, because it concerns another file.

    Raises:
      ImageReadError: For every error inside, with the name of the file.
    """
    try:
        yield
    except ImageReadError:
        raise
    # Broken files raise nearly anything: SyntaxError, zlib.error, struct.error, ...
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            raise
        raise ImageReadError(
            f"The picture must be readable. Received: path={os.fspath(path)!r}, "
            f"which fails with {type(error).__name__}: {error}"
        ) from error


def _matches(start: bytes, magic: bytes) -> bool:
    pairs = zip(start, magic, strict=False)
    return len(start) >= len(magic) and all(m in (s, ord("?")) for s, m in pairs)
