"""Reading and writing single pictures: PNG, JPEG, WebP and, by `tiff`, TIFF."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import (
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from tfflowdn.data import memory, png, tiff
from tfflowdn.data.memory import check_fits
from tfflowdn.data.orientation import ORIENTATION_TAG, orient
from tfflowdn.data.pixel_range import check_finite

__all__ = [
    "IMAGE_SUFFIXES",
    "ImageHeader",
    "ImageReadError",
    "Metadata",
    "image_header",
    "is_stack_or_large",
    "map_array",
    "map_pages",
    "num_pages",
    "read_image",
    "read_metadata",
    "read_pages",
    "write_image",
]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")

# By a file's first bytes. `Image.open` would refuse all pictures of 179 megapixels.
_OPENERS = {
    b"\x89PNG": PngImagePlugin.PngImageFile,
    b"\xff\xd8\xff": JpegImagePlugin.jpeg_factory,
    b"RIFF": WebPImagePlugin.WebPImageFile,
}
_CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "I;16": 1}
_PILLOW_BYTES = 4  # Of a pixel in Pillow's own memory.
_STRIP_PIXELS = 2**22
_JPEG_OPTIONS = {"quality": 95, "subsampling": 0}  # Colours at full resolution.
_TIFF_DTYPES = (
    *("uint8", "int8", "uint16", "int16", "uint32", "int32"),
    *("float16", "float32", "float64"),
)


class ImageReadError(ValueError):
    """A picture file that cannot be read; the message names the file and the cause."""


class Metadata(NamedTuple):
    """What a file holds beside its pixels, for a file of the same family.

    Attributes:
      is_tiff: Whether it comes from a TIFF.
      values: Arguments of the functions that write the file.
      conversion: How `read_image` changes the kind of pixels, such as "CMYK to RGB".
    """

    is_tiff: bool
    values: dict
    conversion: str = ""


class ImageHeader(NamedTuple):
    """Size and kind of a picture, as `read_image` would return it.

    Attributes:
      height: rows, after the stored orientation is applied.
      width: columns, after the stored orientation is applied.
      channels: 1 (gray) or 3 (colour); alpha is not counted.
      dtype: That of the pixels.
    """

    height: int
    width: int
    channels: int
    dtype: np.dtype


def image_header(path: str | os.PathLike) -> ImageHeader:
    """Reads size, channels and dtype of a picture without decoding its pixels.

    Args:
      path: A PNG, JPEG or TIFF file.

    Returns:
      The header that fits the array of `read_image`, alpha left out.

    Raises:
      ImageReadError: The file is missing, broken, or of an unsupported kind.
    """
    with _reading(path):
        if tiff.is_tiff(path):
            with tiff.open_page(path) as page:
                return _header(*tiff.describe(page))
        with _open_pillow(path) as picture:
            size, orientation = picture.size[::-1], _orientation(picture)
            if png.is_deep_color(path):
                return _header(size, orientation, png.num_channels(path), np.uint16)
            mode = _target_mode(picture)
            dtype = np.uint16 if mode == "I;16" else np.uint8
            return _header(size, orientation, _CHANNELS[mode], dtype)


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Reads a picture at the depth it is stored with.

    Palette, CMYK and 1-bit pictures become 8-bit RGB(A) or gray, and the stored
    orientation is applied. The file's content, not its suffix, says which format it
    is. How large a picture may be depends on the memory that is free.

    Args:
      path: A PNG, JPEG, WebP or single-page TIFF file.

    Returns:
      [H, W, C] of uint8, uint16 or, from a TIFF, any integer of up to 32 bits or
      float; C is 1 (gray), 2 (gray and alpha), 3 (RGB) or 4 (RGB and alpha).

    Raises:
      ImageReadError: The file is missing, broken, of an unsupported kind, does not
        fit into memory, or holds pixels that are no finite float32.
    """
    with _reading(path):
        if png.is_deep_color(path):
            with _open_pillow(path) as picture:
                size, orientation = picture.size[::-1], _orientation(picture)
            check_fits((*size, png.num_channels(path)), np.uint16)
            return np.ascontiguousarray(orient(png.read(path), orientation))
        if not tiff.is_tiff(path):
            with _open_pillow(path) as picture:
                return _read_pillow(picture)
        with tiff.open_page(path) as page:
            header = _header(*tiff.describe(page))
            if not tiff.conversion(page):
                array = tiff.read_page(page, header.dtype)
                check_finite(array)
                return array
        # Palettes, CMYK, YCbCr and 1 bit, which Pillow converts.
        with TiffImagePlugin.TiffImageFile(os.fspath(path)) as picture:
            return _read_pillow(picture)


def read_metadata(path: str | os.PathLike) -> Metadata:
    """Reads resolution, colour profile, EXIF or TIFF's texts of a picture.

    The stored orientation is left out, since `read_image` applies it.

    Args:
      path: A PNG, JPEG, WebP or single-page TIFF file.

    Raises:
      ImageReadError: The file is missing, broken, or of an unsupported kind.
    """
    with _reading(path):
        if tiff.is_tiff(path):
            with tiff.open_page(path) as page:
                values, conversion = tiff.read_metadata(page), tiff.conversion(page)
                return Metadata(True, values, conversion)
        with _open_pillow(path) as picture:
            exif = Image.Image.getexif(picture)
            exif.pop(ORIENTATION_TAG, None)
            found = {
                "dpi": picture.info.get("dpi"),
                "icc_profile": _icc_profile(picture),
                "exif": exif.tobytes() if len(exif) else None,
            }
            mode = picture.mode if png.is_deep_color(path) else _target_mode(picture)
            is_same = picture.mode.split(";")[0] == mode.split(";")[0]
            conversion = "" if is_same else f"{picture.mode} to {mode}"
            num_frames = getattr(picture, "n_frames", 1)
            if num_frames > 1:
                conversion = f"{num_frames} frames to the first"
        values = {name: value for name, value in found.items() if value}
        return Metadata(False, values, conversion)


def is_stack_or_large(path: str | os.PathLike) -> bool:
    """Whether the file is a TIFF of several pages, or of one that is large.

    `map_pages` is for these.
    """
    with _reading(path):
        return tiff.is_tiff(path) and tiff.is_stack_or_large(path)


def map_pages(
    source: str | os.PathLike,
    target: str | os.PathLike,
    function: Callable[[np.ndarray, np.ndarray], None],
) -> int:
    """Writes `function` of every page of a TIFF, the file whole or not at all.

    Args:
      source: The TIFF file.
      target: Path of the file to write.
      function: Takes pixels [H, W, C] and an array of the same shape and dtype to
        fill, both of them on disk if they are large.

    Returns:
      The number of pixels of all pages.

    Raises:
      ImageReadError: The stack is broken, or of an unsupported kind.
    """
    with _reading(source):
        return _in_one_rename(
            Path(target), lambda file: tiff.map_pages(source, file, function)
        )


def num_pages(path: str | os.PathLike) -> int:
    """Returns the number of pages of a TIFF; ImageReadError if it is broken."""
    with _reading(path):
        return tiff.num_pages(path)


def read_pages(
    path: str | os.PathLike, folder: str | os.PathLike
) -> Iterator[np.ndarray]:
    """Yields the pixels [H, W, C] of every page of a TIFF, one at a time.

    Args:
      path: The TIFF file.
      folder: Where a page that is large lies meanwhile.

    Raises:
      ImageReadError: The stack is broken, or of an unsupported kind.
    """
    with _reading(path):
        yield from tiff.read_pages(path, folder)


def write_image(
    path: str | os.PathLike, array: np.ndarray, metadata: Metadata | None = None
) -> None:
    """Writes a picture in the format of the suffix, whole or not at all.

    The file is written under a temporary name beside `path`, then renamed.

    Args:
      path: Ends in one of `IMAGE_SUFFIXES`; its folder must exist.
      array: [H, W, C], C 1..4. TIFF takes integers of up to 32 bits and floats; PNG
        uint8 and uint16; WebP (lossless) and JPEG (quality 95) uint8, gray or RGB,
        and WebP RGB with alpha.
      metadata: What to store beside the pixels; left out in a file of another family
        than it is from.

    Raises:
      ValueError: The format cannot hold this array, or a pixel is not finite.
    """
    path = Path(path)
    save = _writer(path, array, metadata or Metadata(False, {}))
    _in_one_rename(path, save)


def map_array(
    source: str | os.PathLike,
    target: str | os.PathLike,
    function: Callable[[np.ndarray, np.ndarray], None],
) -> int:
    """Writes `function` of a `.npy` file's array, the file whole or not at all.

    Args:
      source: The file to read, where its values are used.
      target: Path of the file to write.
      function: Takes the array and one of the same shape and dtype to fill, the
        latter on disk if it is large.

    Returns:
      The number of values.

    Raises:
      ImageReadError: The file is missing or broken, or holds no array of numbers.
    """
    with _reading(source):
        array = np.load(source, mmap_mode="r", allow_pickle=False)

    def save(temporary):
        if memory.is_large(array.nbytes):
            kind = {"dtype": array.dtype, "shape": array.shape}
            result = np.lib.format.open_memmap(temporary, "w+", **kind)
            function(array, result)
            result.flush()
            return
        result = np.empty(array.shape, array.dtype)
        function(array, result)
        with open(temporary, "wb") as file:
            np.save(file, result)

    _in_one_rename(Path(target), save)
    return array.size


def _in_one_rename(path: Path, save: Callable):
    # One name for all runs: the next one replaces what a killed one has left.
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        result = save(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return result


@contextlib.contextmanager
def _reading(path: str | os.PathLike) -> Iterator[None]:
    try:
        yield
    # Broken files raise nearly anything: SyntaxError, zlib.error, struct.error, ...
    except Exception as error:
        raise ImageReadError(
            f"The picture must be readable. Received: path={os.fspath(path)!r}, "
            f"which fails with {type(error).__name__}: {error}"
        ) from error


def _header(size: tuple, orientation: int, channels: int, dtype) -> ImageHeader:
    height, width = size if orientation < 5 else size[::-1]
    colour = channels - (channels in (2, 4))
    return ImageHeader(int(height), int(width), colour, np.dtype(dtype))


@contextlib.contextmanager
def _open_pillow(path: str | os.PathLike) -> Iterator[Image.Image]:
    with open(path, "rb") as file:
        start = file.read(4)
    openers = [opener for first, opener in _OPENERS.items() if start.startswith(first)]
    if not openers:
        raise ValueError("cannot identify the file: none of PNG, JPEG, WebP, TIFF.")
    with openers[0](os.fspath(path)) as picture:
        yield picture


def _orientation(picture: Image.Image) -> int:
    # The PNG class's own getexif() decodes the pixels to look behind them.
    return Image.Image.getexif(picture).get(ORIENTATION_TAG, 1)


def _icc_profile(picture: Image.Image) -> bytes | None:
    # A picture that is converted to RGB has left the profile of its inks behind.
    return None if picture.mode == "CMYK" else picture.info.get("icc_profile")


def _target_mode(picture: Image.Image) -> str:
    mode = picture.mode
    if mode in _CHANNELS:
        return mode
    if mode in ("P", "PA"):
        return "RGBA" if picture.has_transparency_data else "RGB"
    modes = {"1": "L", "I": "I;16", "I;16B": "I;16", "CMYK": "RGB", "YCbCr": "RGB"}
    if mode not in modes:
        raise ValueError(f"the pixels must be gray or RGB. Received: {mode=}.")
    return modes[mode]


def _read_pillow(picture: Image.Image) -> np.ndarray:
    mode = _target_mode(picture)
    width, height = picture.size
    dtype = np.dtype(np.uint16 if mode == "I;16" else np.uint8)
    shape = (height, width, _CHANNELS[mode])
    check_fits(shape, dtype, beside=_PILLOW_BYTES * height * width)
    picture.load()
    orientation = _orientation(picture)
    array = np.empty(shape, dtype)
    step = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, step):  # A conversion as a whole would be another copy.
        rows = slice(top, min(top + step, height))
        strip = picture.crop((0, rows.start, width, rows.stop))
        strip = strip if strip.mode == mode else strip.convert(mode)
        array[rows] = np.asarray(strip).reshape(array[rows].shape)
    return np.ascontiguousarray(orient(array, orientation))


def _writer(
    path: Path, array: np.ndarray, metadata: Metadata
) -> Callable[[Path], None]:
    if array.ndim != 3 or not 1 <= array.shape[2] <= 4 or 0 in array.shape:
        raise ValueError(f"array must be [H, W, 1..4]. Received: {array.shape=}.")
    check_finite(array)
    suffix, dtype, channels = path.suffix.lower(), array.dtype.name, array.shape[2]
    if suffix not in IMAGE_SUFFIXES:
        raise ValueError(f"path must end in {IMAGE_SUFFIXES}. Received: {path=!s}.")
    is_tiff = suffix in (".tif", ".tiff")
    options = metadata.values if metadata.is_tiff == is_tiff else {}
    pixels = array[..., 0] if channels == 1 else array

    def save(file, **encoding):
        Image.fromarray(pixels).save(file, **encoding, **options)

    if is_tiff and dtype in _TIFF_DTYPES:
        return lambda file: tiff.write(file, pixels, **options)
    if suffix == ".png" and dtype == "uint16" and channels > 1:
        return lambda file: png.write(file, pixels, **options)
    if suffix == ".png" and dtype in ("uint8", "uint16"):
        return functools.partial(save, format="PNG")
    if suffix == ".webp" and dtype == "uint8" and channels != 2:
        return functools.partial(save, format="WEBP", lossless=True, exact=True)
    if suffix in (".jpg", ".jpeg") and dtype == "uint8" and channels in (1, 3):
        return functools.partial(save, format="JPEG", **_JPEG_OPTIONS)
    raise ValueError(
        "The format must hold these pixels: TIFF takes integers of up to 32 bits and "
        "floats; PNG uint8 and uint16; WebP uint8 with 1, 3 or 4 channels; JPEG uint8 "
        f"with 1 or 3 channels. Received: {suffix=}, {dtype=}, {channels=}."
    )
