"""TIFF of any depth, with one page or many."""

from __future__ import annotations

import contextlib
import functools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from PIL import TiffImagePlugin

from tfflowdn.data import memory
from tfflowdn.data.formats import tiff_page, tiff_tags
from tfflowdn.data.formats.base import (
    Codec,
    Layout,
    Metadata,
    PageFunction,
    Picture,
    reading,
)
from tfflowdn.data.formats.pillow import pillow_pixels
from tfflowdn.data.orientation import orient

__all__ = ["TIFF"]

_FAMILY = "tiff"
_CLASSIC_BYTES = 2**32 - 2**25  # Offsets have 32 bits; some room is for the tags.
_LARGEST_GROWTH = 1.5  # Of pixels that a codec cannot compress.
_KINDS = (
    *("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"),
    *("float16", "float32", "float64"),
)
_INVERSE_ORIENTATIONS = {6: 8, 8: 6}  # The others are their own inverses.
_RAW_PHOTOMETRICS = (tifffile.PHOTOMETRIC.CFA, tifffile.PHOTOMETRIC.LINEAR_RAW)


class _TiffPicture(Picture):
    def __init__(self, path: str | os.PathLike, file: BinaryIO) -> None:
        super().__init__(path, file)
        self._tiff = tifffile.TiffFile(file)
        if self._tiff.pages[0].photometric in _RAW_PHOTOMETRICS:
            raise ValueError("RAW is not supported; convert the file to TIFF.")

    @property
    def num_pages(self) -> int:
        """The number of planes, which are usually pages."""
        with reading(self.path):
            return self._num_planes

    @property
    def is_stack_or_large(self) -> bool:
        """Whether there are several planes, or one that should stay on disk."""
        with reading(self.path):
            num_bytes = self._tiff.pages[0].nbytes
            return self._num_planes > 1 or memory.is_large(num_bytes)

    def page_axes(self) -> tuple[str, tuple[int, ...]]:
        """See `Picture`; the axes of OME, ImageJ and tifffile are known."""
        with reading(self.path):
            count = self._num_planes
            known = self._series_axes() if count > 1 else ("", ())
            return known if math.prod(known[1]) == count else ("I", (count,))

    def _series_axes(self) -> tuple[str, tuple[int, ...]]:
        self._file.seek(0)
        with tifffile.TiffFile(self._file) as tiff:  # See `_check_series`.
            if not (tiff.is_ome or tiff.is_imagej or tiff.is_shaped or tiff.is_lsm):
                return "", (0,)
            kinds = {(series.axes, series.shape) for series in tiff.series}
            pages = [page for series in tiff.series for page in series.pages]
            numbers = [getattr(page, "index", None) for page in pages]
            if len(kinds) != 1 or numbers != list(range(len(tiff.pages))):
                return "", (0,)
            ((axes, shape),) = kinds
            pairs = list(zip(axes, shape, strict=True))
            pairs = [("P", len(tiff.series))] * (len(tiff.series) > 1) + pairs
        outer = [pair for pair in pairs if pair[0] not in "YXS"]
        return "".join(axis for axis, _ in outer), tuple(n for _, n in outer)

    def _read_missing(self) -> tuple[float, float] | None:
        return tiff_page.missing_values(self._tiff.pages[0])

    def _layout(self) -> Layout:
        return tiff_page.layout(self._page())

    def _page_layouts(self) -> list[Layout]:
        pages = self._tiff.pages
        if self._num_planes == 1:
            return [self._layout()]
        if self._num_planes != len(pages):
            return [tiff_page.layout(pages[0])] * self._num_planes
        return [tiff_page.layout(page) for page in pages]

    def _view(self, index: int) -> np.ndarray:
        if self._num_planes == 1:
            page = self._page()
            mapped = tiff_page.mapped(page, self.path)
            return self.read() if mapped is None else mapped
        if self._num_planes == len(self._tiff.pages):
            page = self._tiff.pages[index]
            tiff_page.check_is_direct(page)
            mapped = tiff_page.mapped(page, self.path)
            if mapped is not None:
                return mapped
        ((_, array),) = self._planes(os.path.dirname(self.path), [index])
        return array

    def _pixels(self) -> np.ndarray:
        page = self._page()
        if not tiff_page.conversion(page):
            return tiff_page.pixels(page)
        # Pillow converts palettes, CMYK, YCbCr and 1 bit. It applies the orientation.
        self._file.seek(0)
        array = pillow_pixels(TiffImagePlugin.TiffImageFile(self._file))
        orientation = tiff_page.orientation(page)
        return orient(array, _INVERSE_ORIENTATIONS.get(orientation, orientation))

    def _decoder_bytes(self) -> int:
        return 4 if tiff_page.conversion(self._page()) else 0

    def _metadata(self) -> Metadata:
        page = self._page()
        values = tiff_page.read_metadata(page)
        notes = (tiff_page.conversion(page), tiff_page.left_out(page))
        return Metadata(_FAMILY, values, ", ".join(filter(None, notes)))

    def _pages(
        self, folder: str | os.PathLike, indices: Sequence[int] | None
    ) -> Iterator[np.ndarray]:
        planes = self._planes(os.fspath(folder), indices)
        yield from (array for _, array in planes)

    def _map_pages(
        self,
        target: Path,
        function: PageFunction,
        dtype: np.typing.DTypeLike | None,
    ) -> int:
        """See `map_pages`.

        Order, kind, metadata, tiles, predictor and lossless compression are kept;
        pages within pages (pyramids) are not. The result is a BigTIFF if the source
        is, or if it may be larger than 4 GiB.
        """
        num_pixels, folder = 0, os.path.dirname(os.path.abspath(target))
        is_big = self._tiff.is_bigtiff or self._needs_bigtiff()
        order, directories = self._tiff.byteorder, []
        with tifffile.TiffWriter(target, bigtiff=is_big, byteorder=order) as writer:
            for values, array in self._planes(folder):
                with _array_like(array, dtype, folder) as result:
                    function(self._masked(array), result)
                    written = tiff_page.write(writer.write, result, values, is_big)
                directories.append(written)
                num_pixels += array.shape[0] * array.shape[1]
        tiff_tags.write_directories(target, directories)
        return num_pixels

    def _page(self) -> tifffile.TiffPage:
        """Returns the only page; ValueError if there are several planes."""
        num_pages = self._num_planes
        if num_pages != 1:
            raise ValueError(f"a TIFF must hold one page. Received: {num_pages=}.")
        return self._tiff.pages[0]

    def _planes(
        self, folder: str, indices: Sequence[int] | None = None
    ) -> Iterator[tuple[dict, np.ndarray]]:
        """Yields metadata and oriented pixels of planes, by default of all."""
        indices = range(self._num_planes) if indices is None else indices
        if self._num_planes != len(self._tiff.pages):
            yield from self._planes_of_one_page(indices)
            return
        for page in (self._tiff.pages[index] for index in indices):
            tiff_page.check_is_direct(page)
            array = tiff_page.pixels(page, folder)
            array = orient(array, tiff_page.orientation(page))
            if not isinstance(array, np.memmap):
                array = np.ascontiguousarray(array)
            yield tiff_page.read_metadata(page), array

    def _planes_of_one_page(
        self, indices: Sequence[int]
    ) -> Iterator[tuple[dict, np.ndarray]]:
        """Yields the planes of a page, which follow one another in the file."""
        page, series = self._tiff.pages[0], self._tiff.series[0]
        tiff_page.check_is_direct(page)
        stored = tiff_page.layout(page)
        if series.dataoffset is None:
            raise ValueError("the planes of a page must not be compressed.")
        dtype = np.dtype(series.dtype).newbyteorder(self._tiff.byteorder)
        shape = (self._num_planes, *stored[:3])
        stack = np.memmap(self.path, dtype, "r", series.dataoffset, shape)
        values = tiff_page.read_metadata(page, is_first_of_many=True)
        for index in indices:
            plane = stack[index].astype(dtype.newbyteorder("="))
            array = orient(tiff_page.decoded(plane, page), stored.orientation)
            yield values, np.ascontiguousarray(array, stored.dtype)
            values = {k: v for k, v in values.items() if k != "description"}

    @functools.cached_property
    def _num_planes(self) -> int:
        """Returns the number of planes; raises ValueError if some are missing."""
        tiff, num_pages = self._tiff, self._num_pages()
        if tiff.is_ome:  # A series may refer to other files.
            return num_pages
        if num_pages > 1:
            if tiff.is_shaped or tiff.is_imagej:
                self._check_series(num_pages)
            return num_pages
        page, series = tiff.pages[0], tiff.series[0]
        num_planes = int(series.size) // max(1, page.size)
        axes = page.axes
        if num_planes > 1 and (axes == "SYX" or not series.axes.endswith(axes)):
            raise ValueError(
                "the planes of a page must be gray or have interleaved colors. "
                f"Received: axes={series.axes!r}."
            )
        return max(1, num_planes)

    def _check_series(self, num_pages: int) -> None:
        self._file.seek(0)
        # The series are read by a second object: they leave pages without tags.
        with tifffile.TiffFile(self._file) as tiff:
            is_truncated = any(tiff_page.is_truncated(page) for page in tiff.pages)
            num_planes = sum(
                int(series.size) // max(1, series.keyframe.size)
                for series in tiff.series
            )
        if is_truncated or num_planes > num_pages:
            raise ValueError(
                "every plane of a file with several pages must have a page. "
                f"Received: {num_planes=}, {num_pages=}, {is_truncated=}."
            )

    def _num_pages(self) -> int:
        """Returns the number of pages; ValueError if the last one names another one."""
        tiff = self._tiff
        num_pages = len(tiff.pages)
        # tifffile only logs it, and leaves the pages before the place of the cut.
        tiff.filehandle.seek(tiff.pages.next_page_offset)
        content = tiff.filehandle.read(tiff.tiff.offsetsize)
        if content != bytes(tiff.tiff.offsetsize):
            raise ValueError(
                "every page must lie within the file, which seems cut off. "
                f"Received: {num_pages=} before one that does not."
            )
        return num_pages

    def _needs_bigtiff(self) -> bool:
        pages, num_planes = self._tiff.pages, self._num_planes
        factor = num_planes if num_planes > len(pages) else 1
        num_bytes = factor * sum(page.nbytes for page in pages)
        return _may_exceed_classic(num_bytes, pages[0].compression != 1)


def _may_exceed_classic(num_bytes: int, is_compressed: bool) -> bool:
    return num_bytes * (_LARGEST_GROWTH if is_compressed else 1) > _CLASSIC_BYTES


@contextlib.contextmanager
def _array_like(
    array: np.ndarray, dtype: np.typing.DTypeLike | None, folder: str
) -> Iterator[np.ndarray]:
    """Yields an array to fill, on disk if it is large."""
    dtype = np.dtype(array.dtype.newbyteorder("=") if dtype is None else dtype)
    if not memory.is_large(array.size * dtype.itemsize):
        yield np.empty(array.shape, dtype)
        return
    yield memory.mapped_array(array.shape, dtype, folder)


def _write(path: Path, array: np.ndarray, values: Mapping[str, Any]) -> None:
    is_big = _may_exceed_classic(array.nbytes, "compression" in values)
    order = values.get("byteorder")
    with tifffile.TiffWriter(path, bigtiff=is_big, byteorder=order) as writer:
        directories = tiff_page.write(writer.write, array, values, is_big)
    tiff_tags.write_directories(path, [directories])


TIFF = Codec(
    name="TIFF",
    family=_FAMILY,
    suffixes=(".tif", ".tiff"),
    magics=(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    open=_TiffPicture,
    write=_write,
    kinds=dict.fromkeys(_KINDS, range(1, 65)),
)
