"""One page of a TIFF: layout, pixels and metadata."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tifffile

from tfflowdn.data import memory
from tfflowdn.data.formats import tiff_tags
from tfflowdn.data.formats.base import UNIFORM_PIXELS, UNIFORM_RATIO, Layout
from tfflowdn.data.orientation import ORIENTATION_TAG, orient, valid_orientation

__all__ = [
    "check_is_direct",
    "conversion",
    "decoded",
    "is_truncated",
    "layout",
    "left_out",
    "mapped",
    "missing_values",
    "orientation",
    "pixels",
    "read_metadata",
    "write",
]

_ICC_PROFILE, _DESCRIPTION = 34675, 270
_CODECS = tifffile.COMPRESSION
_WITH_PREDICTOR = (
    *(_CODECS.LZW, _CODECS.ADOBE_DEFLATE, _CODECS.DEFLATE),
    *(_CODECS.ZSTD, _CODECS.LZMA),
)
_LOSSLESS = (*_WITH_PREDICTOR, _CODECS.PACKBITS)
_LOSSLESS_OF_SOME = {  # Lossless as tifffile writes them, for these dtypes.
    _CODECS.JPEG2000: ("uint8", "uint16"),
    _CODECS.LERC: ("uint8", "int8", "uint16", "int16", "float32", "float64"),
}
_CHANNELS_OF_LOSSY = {_CODECS.JPEG: (1, 3), _CODECS.WEBP: (3, 4)}
_JPEG_QUALITY = 95
_TILE_MULTIPLE = 16
_GRAY = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE)
_LARGEST_RATIO = 5000  # Of pixels to their compressed data: deflate reaches 1032.
_OME_TYPE = re.compile(rb'(?<=\s)Type="(?:u?int\d+|float|double)"')
_OME_TYPES = {"float32": "float", "float64": "double"} | {
    name: name for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32")
}
_GDAL_NODATA = 42113
_RESOLUTION = (282, 283, 296)  # Horizontal, vertical, and their unit.
_TEXTS = (271, 272, 305, 306, 315, 33432)  # Make, model, software, date, artist, (c).


def layout(page: tifffile.TiffPage) -> Layout:
    """Returns the layout of a page.

    Raises:
      ValueError: If the layout is not supported.
    """
    dtype, bits, axes = page.dtype, page.bitspersample, page.axes
    kind = "" if dtype is None else dtype.kind
    is_whole = kind == "b" or (kind in "uif" and dtype.itemsize * 8 == bits)
    if not (is_whole or _is_packed(page)):
        raise ValueError(
            "the pixels must be integers of up to 64 bits, or floats. "
            f"Received: dtype={dtype!s}, {bits=}."
        )
    samples, is_independent = _samples(page), _is_independent(page)
    if axes not in ("YX", "YXS", "SYX"):
        raise ValueError(f"the page must be one plane. Received: {axes=}, {samples=}.")
    if 0 in page.shape or not page.dataoffsets:
        raise ValueError(f"the page must hold pixels. Received: {page.shape=}.")
    stored = np.dtype(np.uint8) if kind == "b" else dtype
    size = (page.imagelength, page.imagewidth)
    return Layout(*size, samples, stored, orientation(page), is_independent)


def orientation(page: tifffile.TiffPage) -> int:
    """Returns the orientation, 1 to 8."""
    tag = page.tags.get(ORIENTATION_TAG)
    return 1 if tag is None else valid_orientation(tag.value)


def missing_values(page: tifffile.TiffPage) -> tuple[float, float] | None:
    """Returns the value of missing pixels as a range of pixels; GDAL stores it as text.

    Values that the pixels cannot have, and NaN, are left out.
    """
    tag = page.tags.get(_GDAL_NODATA)
    if tag is None or page.dtype is None or page.dtype.kind == "b" or conversion(page):
        return None
    text = str(tag.value).strip("\0 ")
    is_integer = page.dtype.kind in "iu"
    try:
        value = float(text)
        value = int(text) if is_integer and text.lstrip("+-").isdigit() else value
    except ValueError:
        return None
    if math.isnan(value) or (is_integer and not _is_held(value, page.dtype)):
        return None
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        value = 1 - value if not is_integer else int(np.invert(page.dtype.type(value)))
    return value, value


def _inverted(
    tag: tiff_tags.RawTag, page: tifffile.TiffPage
) -> tiff_tags.RawTag | tuple[int, int, int, bytes, bool]:
    """Returns a tag of a page in which 0 becomes black."""
    limits = missing_values(page)
    if tag.code != _GDAL_NODATA or limits is None:
        return tag
    return tag._replace(value=f"{limits[0]}".encode() + b"\0", count=0)


def _is_held(value: float, dtype: np.dtype) -> bool:
    info = np.iinfo(dtype)
    return info.min <= value <= info.max and int(value) == value


def conversion(page: tifffile.TiffPage) -> str:
    """Returns how the kind of the pixels changes on reading, or ""."""
    kinds = tifffile.PHOTOMETRIC
    if page.photometric in (kinds.PALETTE, kinds.SEPARATED, kinds.YCBCR):
        return f"{page.photometric.name} to RGB"
    return "1 bit to 8" if page.bitspersample == 1 else ""


def _is_packed(page: tifffile.TiffPage) -> bool:
    """Returns whether integers of 2 to 15 bits are stored without gaps."""
    bits = page.bitspersample
    is_number = page.dtype is not None and page.dtype.kind == "u"
    return is_number and isinstance(bits, int) and bits not in (8, 16) and 1 < bits < 16


def left_out(page: tifffile.TiffPage) -> str:
    """Returns the metadata that are not kept, or ""."""
    names = ", ".join(tiff_tags.left_out(page))
    notes = [f"{page.bitspersample} bits to {8 * page.dtype.itemsize}"]
    notes = notes if _is_packed(page) else []
    return ", ".join([*notes, *([f"{names} are left out"] if names else [])])


def check_is_direct(page: tifffile.TiffPage) -> None:
    """Checks that the page is gray or RGB, as a stack must be.

    Raises:
      ValueError: If it is not.
    """
    layout(page)
    if page.photometric not in (*_GRAY, tifffile.PHOTOMETRIC.RGB):
        raise ValueError(
            "the colors of a stack, and of a page that is large for the memory, must "
            f"be gray or RGB. Received: photometric={page.photometric.name}."
        )


def is_truncated(page: tifffile.TiffPage) -> bool:
    """Returns whether the page describes planes that have no pages."""
    return bool(_shape_of(page.description).get("truncated", False))


def pixels(page: tifffile.TiffPage, folder: str | None = None) -> np.ndarray:
    """Returns the pixels [H, W, C] as they are stored.

    Args:
      page: The page, gray or RGB.
      folder: A directory for a temporary file with pixels that are large for the
        memory; by default they are decoded into memory.

    Raises:
      ValueError: If the page declares far more pixels than its data can hold.
    """
    stays_on_disk = folder is not None and memory.is_large(page.nbytes)
    num_stored = sum(page.databytecounts)
    ratio, unchecked = (
        (_LARGEST_RATIO, 0) if stays_on_disk else (UNIFORM_RATIO, UNIFORM_PIXELS)
    )
    if page.nbytes > max(unchecked, ratio * num_stored):
        raise ValueError(
            f"a page of {page.imagelength} x {page.imagewidth} pixels must have more "
            f"data. Received: {num_stored} bytes."
        )
    out = memory.mapped_array(page.shape, page.dtype, folder) if stays_on_disk else None
    array = page.asarray(out=out)
    if page.axes == "YX":
        array = array[..., np.newaxis]
    elif page.axes == "SYX":
        array = np.moveaxis(array, 0, -1)
    return decoded(array, page)


def mapped(page: tifffile.TiffPage, path: str | os.PathLike) -> np.ndarray | None:
    """Returns the oriented pixels [H, W, C] on disk, or None if they are encoded.

    Args:
      page: The page.
      path: The path of its file.
    """
    kinds = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB)
    is_plain = page.is_memmappable and page.photometric in kinds
    if not is_plain or page.axes == "SYX":
        return None
    stored = layout(page)
    dtype = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
    array = np.memmap(path, dtype, "r", page.dataoffsets[0], stored[:3])
    return orient(array, stored.orientation)


def decoded(array: np.ndarray, page: tifffile.TiffPage) -> np.ndarray:
    """Returns stored values of a page as pixels: 0 is black, 1 bit becomes 8."""
    if array.dtype.kind == "b":
        array = array * np.uint8(255)
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        array = 1 - array if array.dtype.kind == "f" else np.invert(array)
    return array


def read_metadata(
    page: tifffile.TiffPage, is_first_of_many: bool = False
) -> dict[str, Any]:
    """Returns resolution, color profile, texts and encoding, for `write`.

    Args:
      page: The page.
      is_first_of_many: Whether the page describes planes that become pages.
    """
    values = {tag.code: tag.value for tag in page.tags.values()}
    metadata = _encoding(page)
    if all(code in values for code in _RESOLUTION):
        *resolution, unit = (values[code] for code in _RESOLUTION)
        if all(denominator for _, denominator in resolution):
            metadata |= {"resolution": tuple(resolution), "resolutionunit": unit}
    if _ICC_PROFILE in values and page.photometric != tifffile.PHOTOMETRIC.SEPARATED:
        metadata["iccprofile"] = values[_ICC_PROFILE]
    if _DESCRIPTION in values:
        text = str(values[_DESCRIPTION])
        text = _without_truncation(text) if is_first_of_many else text
        metadata["description"] = text.encode()
    if page.subfiletype:
        metadata["subfiletype"] = page.subfiletype
    texts = {code: str(values[code]).encode() for code in _TEXTS if code in values}
    tags = [(code, 2, 0, text, True) for code, text in texts.items()]
    copied = tiff_tags.read_tags(page)
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        copied = [_inverted(tag, page) for tag in copied]
    metadata["extratags"] = [*tags, *copied]
    metadata["byteorder"] = page.parent.byteorder
    if directories := tiff_tags.read_directories(page):
        metadata["directories"] = directories
    return metadata


def write(
    write_page: Callable[..., Any],
    array: np.ndarray,
    metadata: Mapping[str, Any],
    is_big: bool = False,
) -> Mapping[int, Any]:
    """Writes pixels [H, W, C]; the last one of 2 or 4 channels is alpha.

    Args:
      write_page: `tifffile.TiffWriter.write`.
      array: The pixels.
      metadata: The result of `read_metadata`, or {}.
      is_big: Whether the file is a BigTIFF.

    Returns:
      The directories for `tiff_tags.write_directories`.
    """
    channels, options = array.shape[-1], _fitted(dict(metadata), array)
    options.pop("byteorder", None)
    directories = options.pop("directories", {})
    if directories:
        kind = tifffile.DATATYPE.LONG8 if is_big else tifffile.DATATYPE.LONG
        pointers = [
            (tiff_tags.placeholder(code), int(kind), 1, 0, True) for code in directories
        ]
        options["extratags"] = [*options.get("extratags", ()), *pointers]
    alpha = options.pop("alpha", tifffile.EXTRASAMPLE.UNASSALPHA)
    is_gray = channels < 3 or channels > 4
    options.setdefault("photometric", "minisblack" if is_gray else "rgb")
    is_plain = channels in (1, 3)
    extras = [0] * (channels - 1) if channels > 4 else [] if is_plain else [alpha]
    extras = options.pop("extras", extras)
    is_planar = options.pop("planar", False) and channels > 1
    pixels = np.moveaxis(array, -1, 0) if is_planar else array
    planar = "separate" if is_planar else "contig"
    write_page(
        array[..., 0] if channels == 1 else pixels,
        planarconfig=planar if channels > 1 else None,
        extrasamples=extras or None,
        metadata=None,
        software=False,
        **options,
    )
    return directories


def _fitted(options: dict[str, Any], array: np.ndarray) -> dict[str, Any]:
    """Returns options of `write` that fit pixels of another kind than the file's."""
    dtype, codec = array.dtype, options.get("compression")
    channels = _CHANNELS_OF_LOSSY.get(codec)
    if channels and (dtype != np.uint8 or array.shape[-1] not in channels):
        options["compression"] = _CODECS.ADOBE_DEFLATE
        del options["compressionargs"]
    if "predictor" in options:
        kinds = tifffile.PREDICTOR
        is_float = dtype.kind == "f"
        options["predictor"] = kinds.FLOATINGPOINT if is_float else kinds.HORIZONTAL
    codec = options.get("compression")
    if codec in _LOSSLESS_OF_SOME and dtype.name not in _LOSSLESS_OF_SOME[codec]:
        options["compression"] = _CODECS.ADOBE_DEFLATE
    description = options.get("description", b"")
    if b"<OME" in description and dtype.name in _OME_TYPES:
        kind = f'Type="{_OME_TYPES[dtype.name]}"'.encode()
        options["description"] = _OME_TYPE.sub(kind, description)
    return options


def _encoding(page: tifffile.TiffPage) -> dict[str, Any]:
    """Returns tiles, compression and predictor as far as they can be kept."""
    encoding: dict[str, Any] = {}
    tile = (page.tilelength, page.tilewidth)
    if page.is_tiled and not any(side % _TILE_MULTIPLE for side in tile):
        encoding["tile"] = tile
    codec, dtype = page.compression, str(page.dtype)
    if page.axes == "SYX" and not conversion(page) and codec not in _CHANNELS_OF_LOSSY:
        encoding["planar"] = True
    is_kept = dtype in _LOSSLESS_OF_SOME.get(codec, ()) and not conversion(page)
    if codec in _LOSSLESS or is_kept:
        encoding["compression"] = codec
    if codec == _CODECS.JPEG and dtype == "uint8" and page.bitspersample == 8:
        encoding |= {"compression": codec, "compressionargs": {"level": _JPEG_QUALITY}}
    if codec in _WITH_PREDICTOR and page.predictor != 1 and page.bitspersample >= 8:
        encoding["predictor"] = page.predictor
    if codec == _CODECS.WEBP and dtype == "uint8":
        encoding |= {"compression": codec, "compressionargs": {"lossless": True}}
    if len(page.extrasamples) == 1:
        encoding["alpha"] = page.extrasamples[0]
    if _is_independent(page):
        encoding["extras"] = tuple(page.extrasamples)
        encoding["photometric"] = page.photometric
    return encoding


def _shape_of(description: str) -> dict[str, Any]:
    """Returns the shape that tifffile writes as JSON, or {}."""
    try:
        values = json.loads(description)
    except ValueError:
        return {}
    return values if isinstance(values, dict) and "shape" in values else {}


def _without_truncation(description: str) -> str:
    values = _shape_of(description)
    if not values.pop("truncated", False):
        return description
    return json.dumps(values)


def _samples(page: tifffile.TiffPage) -> int:
    kind = page.photometric
    kinds = tifffile.PHOTOMETRIC
    is_converted = kind in (kinds.PALETTE, kinds.SEPARATED, kinds.YCBCR)
    if is_converted and page.dtype == np.uint8:
        return 3
    if kind not in (*_GRAY, kinds.RGB):
        raise ValueError(
            f"the colors must be gray or RGB. Received: photometric={kind}."
        )
    return page.samplesperpixel


def _is_independent(page: tifffile.TiffPage) -> bool:
    """Returns whether the samples are neither gray nor RGB, with or without alpha."""
    alphas = (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA)
    return any(kind not in alphas for kind in page.extrasamples) or (
        page.samplesperpixel > 4
    )
