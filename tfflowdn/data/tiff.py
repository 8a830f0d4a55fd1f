"""Reading and writing TIFF: what `images` needs, of any depth and orientation."""

import contextlib
import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tifffile

from tfflowdn.data import memory
from tfflowdn.data.orientation import ORIENTATION_TAG, orient

__all__ = [
    "conversion",
    "describe",
    "is_tiff",
    "is_stack_or_large",
    "map_pages",
    "num_pages",
    "open_page",
    "read_metadata",
    "read_page",
    "read_pages",
    "write",
]

_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ICC_PROFILE, _DESCRIPTION = 34675, 270
_LOSSLESS = [tifffile.COMPRESSION[name] for name in ("LZW", "ADOBE_DEFLATE", "ZSTD")]
_GRAY = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE)
_LARGEST_RATIO = 5000  # Of pixels to their compressed data: deflate reaches 1032.
_RESOLUTION = (282, 283, 296)  # Horizontal, vertical, and their unit.
_TEXTS = (271, 272, 305, 306, 315, 33432)  # Make, model, software, date, artist, (c).


def is_tiff(path: str | os.PathLike) -> bool:
    """Whether the file's first bytes are those of a TIFF."""
    with open(path, "rb") as file:
        return file.read(4) in _SIGNATURES


def is_stack_or_large(path: str | os.PathLike) -> bool:
    """Whether a TIFF file has several pages, or one that is better left on disk."""
    with tifffile.TiffFile(path) as tiff:
        return _num_planes(tiff) > 1 or memory.is_large(tiff.pages[0].nbytes)


def map_pages(
    source: str | os.PathLike,
    target: str | os.PathLike,
    function: Callable[[np.ndarray, np.ndarray], None],
) -> int:
    """Writes `function` of every page of a TIFF file, one page at a time.

    A page that is large for the memory is left on disk, as is its result. Order,
    kind, metadata, tiles, compression (as far as it is lossless) and the size of the
    file's offsets (BigTIFF) are kept; pages within pages (pyramids) are not.

    Args:
      source: The file to read.
      target: The file to write.
      function: Takes pixels [H, W, C], the orientation applied, and an array of the
        same shape and dtype to fill.

    Returns:
      The number of pixels of all pages.

    Raises:
      ValueError: If a page is of an unsupported kind.
    """
    num_pixels = 0
    with (
        tifffile.TiffFile(source) as reader,
        tifffile.TiffWriter(target, bigtiff=reader.is_bigtiff) as writer,
    ):
        folder = os.path.dirname(os.path.abspath(target))
        for page, array in _planes(reader, folder):
            with _array_like(array, folder) as result:
                function(array, result)
                _write_page(writer.write, _squeezed(result), **read_metadata(page))
            num_pixels += array.shape[0] * array.shape[1]
    return num_pixels


def read_pages(path: str | os.PathLike, folder: str | os.PathLike) -> Iterator:
    """Yields the pixels of every page of a file, see `map_pages`.

    Args:
      path: The file to read.
      folder: Where a page that is large lies meanwhile.
    """
    with tifffile.TiffFile(path) as tiff:
        yield from (array for _, array in _planes(tiff, os.fspath(folder)))


def num_pages(path: str | os.PathLike) -> int:
    """Returns the number of pages of a file."""
    with tifffile.TiffFile(path) as tiff:
        return _num_planes(tiff)


@contextlib.contextmanager
def _array_like(array, folder):
    """Gives an array to fill, on disk if it is large."""
    if not memory.is_large(array.nbytes):
        yield np.empty(array.shape, array.dtype)
        return
    with tempfile.TemporaryFile(dir=folder) as file:
        yield np.memmap(file, array.dtype, shape=array.shape)


def _planes(tiff, folder):
    """Yields page and pixels of each plane, large ones in a file in `folder`."""
    if _num_planes(tiff) == len(tiff.pages):
        for page in tiff.pages:
            dtype = describe(page)[-1]
            if page.photometric not in (*_GRAY, tifffile.PHOTOMETRIC.RGB):
                kind = page.photometric.name
                raise ValueError(
                    "the colours of a stack, and of a page that is large for the "
                    f"memory, must be gray or RGB. Received: photometric={kind}."
                )
            yield page, read_page(page, dtype, folder)
        return
    # ImageJ writes one page and then all planes, where they exceed 4 GiB.
    page, (height, width) = tiff.pages[0], tiff.series[0].shape[-2:]
    describe(page)
    planes = (
        tiff.series[0].asarray(out=f"memmap:{folder}").reshape(-1, height, width, 1)
    )
    yield from ((page, np.array(plane)) for plane in planes)


def _num_planes(tiff):
    num_pages = _num_pages(tiff)
    # Not of every file: a look at the series leaves pages without their tags.
    if tiff.is_imagej and num_pages == 1:
        series = tiff.series[0]
        if series.axes.endswith("YX"):
            return int(np.prod(series.shape[:-2]))
    return num_pages


def _num_pages(tiff):
    """Returns the number of pages; ValueError if the last one names another one."""
    num_pages = len(tiff.pages)
    # tifffile only logs it: of a file that was cut off, the pages before are left.
    tiff.filehandle.seek(tiff.pages.next_page_offset)
    content = tiff.filehandle.read(tiff.tiff.offsetsize)
    if content != bytes(tiff.tiff.offsetsize):
        raise ValueError(
            "every page must lie within the file, which seems cut off. "
            f"Received: {num_pages=} before one that does not."
        )
    return num_pages


@contextlib.contextmanager
def open_page(path: str | os.PathLike) -> Iterator[tifffile.TiffPage]:
    """Opens the only page of a TIFF file; ValueError if there are more."""
    with tifffile.TiffFile(path) as tiff:
        num_pages = _num_pages(tiff)
        if num_pages != 1:
            raise ValueError(f"a TIFF must hold one page. Received: {num_pages=}.")
        yield tiff.pages[0]


def describe(page: tifffile.TiffPage) -> tuple[tuple[int, int], int, int, np.dtype]:
    """Reads what a page holds, without its pixels.

    Returns:
      The stored (height, width), the EXIF orientation that is still to be applied,
      the number of channels, alpha included, and the dtype, uint8 for 1 bit.

    Raises:
      ValueError: If the page is of an unsupported kind.
    """
    dtype, bits, axes = page.dtype, page.bitspersample, page.axes
    kind = "" if dtype is None else dtype.kind
    whole = kind == "b" or (kind in "uif" and dtype.itemsize * 8 == bits)
    if not whole or (kind in "ui" and bits > 32):
        raise ValueError(
            "the pixels must be integers of 8, 16 or 32 bits, or floats. "
            f"Received: dtype={dtype!s}, {bits=}."
        )
    samples = _samples(page)
    if axes not in ("YX", "YXS", "SYX") or not 1 <= samples <= 4:
        raise ValueError(
            f"the page must be gray or RGB, 1 to 4 samples. Received: {axes=}, "
            f"{samples=}."
        )
    size = (page.imagelength, page.imagewidth)
    if 0 in page.shape or not page.dataoffsets:
        raise ValueError(f"the page must hold pixels. Received: {page.shape=}.")
    stored = np.dtype(np.uint8) if kind == "b" else dtype
    return size, _orientation(page), samples, stored


def read_page(
    page: tifffile.TiffPage, dtype: np.dtype, folder: str | os.PathLike = ""
) -> np.ndarray:
    """Reads a page's pixels, [H, W, C] of `dtype`, the orientation applied.

    If they are large, they are decoded into a temporary file in `folder`.
    """
    is_large = memory.is_large(page.nbytes)
    if is_large and page.nbytes > _LARGEST_RATIO * sum(page.databytecounts):
        raise ValueError(
            f"a page of {page.imagelength} x {page.imagewidth} pixels must have more "
            f"data. Received: {sum(page.databytecounts)} bytes."
        )
    array = page.asarray(out=f"memmap:{folder}" if is_large else None)
    if page.axes == "YX":
        array = array[..., np.newaxis]
    elif page.axes == "SYX":
        array = np.moveaxis(array, 0, -1)
    if array.dtype.kind == "b":
        array = array * np.uint8(255)
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        array = 1 - array if array.dtype.kind == "f" else np.invert(array)
    array = orient(array, _orientation(page))
    if is_large and array.dtype == dtype:
        return array
    return np.ascontiguousarray(array, dtype)


def conversion(page: tifffile.TiffPage) -> str:
    """Returns how the kind of a page's pixels changes on reading, or ""."""
    kinds = tifffile.PHOTOMETRIC
    if page.photometric in (kinds.PALETTE, kinds.SEPARATED, kinds.YCBCR):
        return f"{page.photometric.name} to RGB"
    return "1 bit to 8" if page.bitspersample == 1 else ""


def read_metadata(page: tifffile.TiffPage) -> dict:
    """Returns resolution, colour profile, description and the like, for `write`."""
    values = {tag.code: tag.value for tag in page.tags.values()}
    metadata = {}
    if all(code in values for code in _RESOLUTION):
        *resolution, unit = (values[code] for code in _RESOLUTION)
        if all(denominator for _, denominator in resolution):
            metadata |= {"resolution": tuple(resolution), "resolutionunit": unit}
    if _ICC_PROFILE in values and page.photometric != tifffile.PHOTOMETRIC.SEPARATED:
        metadata["iccprofile"] = values[_ICC_PROFILE]
    if _DESCRIPTION in values:
        metadata["description"] = str(values[_DESCRIPTION]).encode()
    if page.is_tiled:
        metadata["tile"] = (page.tilelength, page.tilewidth)
    if page.compression in _LOSSLESS:
        metadata["compression"] = page.compression
    if page.subfiletype:
        metadata["subfiletype"] = page.subfiletype
    texts = {code: str(values[code]).encode() for code in _TEXTS if code in values}
    metadata["extratags"] = [(code, 2, 0, text, True) for code, text in texts.items()]
    return metadata


def write(path: Path, pixels: np.ndarray, **metadata) -> None:
    """Writes pixels [H, W] or [H, W, C], a last one of 2 or 4 channels being alpha.

    Args:
      path: The file.
      pixels: The pixels.
      **metadata: What `read_metadata` gave.
    """
    _write_page(functools.partial(tifffile.imwrite, path), pixels, **metadata)


def _squeezed(array):
    return array[..., 0] if array.shape[-1] == 1 else array


def _write_page(write_pixels, pixels, **metadata):
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    write_pixels(
        pixels,
        photometric="minisblack" if channels < 3 else "rgb",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        metadata=None,
        software=False,
        **metadata,
    )


def _samples(page: tifffile.TiffPage) -> int:
    kind, extra = page.photometric, page.extrasamples
    kinds = tifffile.PHOTOMETRIC
    converted = (kinds.PALETTE, kinds.SEPARATED, kinds.YCBCR)
    if kind in converted and page.dtype == np.uint8:
        return 3
    if kind not in (*_GRAY, kinds.RGB):
        raise ValueError(
            f"the colours must be gray or RGB. Received: photometric={kind}."
        )
    if any(e not in tifffile.EXTRASAMPLE.__members__.values() or not e for e in extra):
        raise ValueError(
            f"an extra sample must be alpha. Received: extrasamples={extra}."
        )
    return page.samplesperpixel


def _orientation(page: tifffile.TiffPage) -> int:
    tag = page.tags.get(ORIENTATION_TAG)
    return 1 if tag is None else int(tag.value)
