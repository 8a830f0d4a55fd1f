"""Reads and writes picture files, each by one call; see `formats` for the codecs."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tfflowdn import files
from tfflowdn.data.formats import (
    FOLDER_SUFFIXES,
    IMAGE_SUFFIXES,
    ImageHeader,
    ImageReadError,
    Metadata,
    PageFunction,
    codec_of_suffix,
    open_picture,
    result_name,
)
from tfflowdn.data.formats.pillow import pillow_pixels

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
    "open_picture",
    "pixels_of",
    "read_image",
    "read_metadata",
    "read_pages",
    "result_name",
    "write_image",
]


def pixels_of(image: np.typing.ArrayLike) -> np.ndarray:
    """Returns an array; a palette picture of Pillow becomes RGB or RGBA."""
    if isinstance(image, Image.Image) and image.mode in ("P", "PA"):
        return pillow_pixels(image)
    return image if np.ma.isMaskedArray(image) else np.asarray(image)


def image_header(
    path: str | os.PathLike,
    axes: str | None = None,
    channels: Collection[int] | None = (),
) -> ImageHeader:
    """Reads size, channels and dtype of a picture without decoding its pixels.

    Args:
      path: A picture file with one page.
      axes: See `formats.open_picture`.
      channels: See `formats.open_picture`.

    Returns:
      The header that fits the array of `read_image` without its alpha.

    Raises:
      ImageReadError: If the file is missing, broken, or of an unsupported kind.
    """
    with open_picture(path, axes, channels) as picture:
        return picture.header()


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Reads a picture at the depth it is stored with.

    Palette, CMYK and 1-bit pictures become 8-bit RGB(A) or gray, and the stored
    orientation is applied. The content of the file, not its suffix, decides on the
    format. The free memory limits the size of the picture.

    Args:
      path: A picture file with one page.

    Returns:
      [H, W, C] of uint8, uint16 or, from a TIFF, any integer of up to 32 bits or
      float; C is 1 (gray), 2 (gray and alpha), 3 (RGB), 4 (RGB and alpha), or the
      number of channels without a meaning. Pixels may be missing, see `find_gaps`; a
      file that names a value for missing pixels gives a masked array.

    Raises:
      ImageReadError: If the file is missing, broken, or of an unsupported kind, or does
        not fit into memory.
    """
    with open_picture(path) as picture:
        return picture.read()


def read_metadata(path: str | os.PathLike) -> Metadata:
    """Reads resolution, color profile, EXIF and the texts of a TIFF.

    The stored orientation is left out, because `read_image` applies it.

    Args:
      path: A picture file with one page.

    Raises:
      ImageReadError: If the file is missing, broken, or of an unsupported kind.
    """
    with open_picture(path) as picture:
        return picture.metadata()


def is_stack_or_large(
    path: str | os.PathLike,
    axes: str | None = None,
    channels: Collection[int] | None = (),
) -> bool:
    """Returns whether `map_pages` must be used: for several pages, or a large one.

    Args:
      path: The picture file.
      axes: See `formats.open_picture`.
      channels: See `formats.open_picture`.
    """
    with open_picture(path, axes, channels) as picture:
        return picture.is_stack_or_large


def map_pages(
    source: str | os.PathLike,
    target: str | os.PathLike,
    function: PageFunction,
    dtype: np.typing.DTypeLike | None = None,
    axes: str | None = None,
    channels: Collection[int] | None = (),
) -> int:
    """Writes a file with the result of `function` for each page of a stack.

    The file is written completely or not at all.

    Args:
      source: The file, a stack or a large picture.
      target: The path of the file to write.
      function: Takes pixels [H, W, C] and an array of the same shape, which it fills.
        Both are on disk if they are large.
      dtype: The dtype of the results, by default the dtype of each page.
      axes: See `formats.open_picture`.
      channels: See `formats.open_picture`.

    Returns:
      The number of pixels of all pages.

    Raises:
      ImageReadError: If the file is broken, or of an unsupported kind.
    """
    is_folder = Path(target).suffix.lower() in FOLDER_SUFFIXES
    replace = files.replace_folder if is_folder else files.replace
    with open_picture(source, axes, channels) as picture:
        return replace(target, lambda file: picture.map_pages(file, function, dtype))


def map_array(
    source: str | os.PathLike,
    target: str | os.PathLike,
    function: PageFunction,
    dtype: np.typing.DTypeLike | None = None,
) -> int:
    """Writes a `.npy` file with the result of `function` for the array of another.

    The file is written completely or not at all.

    Args:
      source: The `.npy` file to read; its values are loaded where they are used.
      target: The path of the file to write.
      function: Takes the array and one of the same shape, which it fills; the latter
        is on disk if it is large.
      dtype: The dtype of the results, by default the dtype of the array.

    Returns:
      The number of values.

    Raises:
      ImageReadError: If the file is missing or broken.
    """
    with open_picture(source) as picture:
        return files.replace(
            target, lambda file: picture.map_array(file, function, dtype)
        )


def num_pages(
    path: str | os.PathLike,
    axes: str | None = None,
    channels: Collection[int] | None = (),
) -> int:
    """Returns the number of pages; raises ImageReadError if the file is broken.

    Args:
      path: The picture file.
      axes: See `formats.open_picture`.
      channels: See `formats.open_picture`.
    """
    with open_picture(path, axes, channels) as picture:
        return picture.num_pages


def read_pages(
    path: str | os.PathLike,
    folder: str | os.PathLike,
    indices: Sequence[int] | None = None,
    axes: str | None = None,
    channels: Collection[int] | None = (),
) -> Iterator[np.ndarray]:
    """Yields the pixels [H, W, C] of pages, one at a time.

    Args:
      path: The picture file.
      folder: A directory for temporary files with the pixels of large pages.
      indices: The numbers of the pages, all by default.
      axes: See `formats.open_picture`.
      channels: See `formats.open_picture`.

    Raises:
      ImageReadError: If the file is broken, or of an unsupported kind.
    """
    with open_picture(path, axes, channels) as picture:
        yield from picture.pages(folder, indices)


def write_image(
    path: str | os.PathLike, array: np.ndarray, metadata: Metadata | None = None
) -> None:
    """Writes a picture in the format of the suffix, completely or not at all.

    Args:
      path: Ends in one of `IMAGE_SUFFIXES`; its folder must exist.
      array: [H, W, C] of a kind that the format holds, see
        `formats.Codec.kinds`.
      metadata: The values to store next to the pixels; they are left out if they come
        from a format of another family.

    Raises:
      ValueError: If the format cannot hold the array.
      OSError: If the file cannot be written.
    """
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(f"array must be [H, W, C]. Received: {array.shape=}.")
    codec, metadata = codec_of_suffix(path), metadata or Metadata()
    array = np.ma.getdata(array)
    codec.check_kind(array, Path(path).suffix.lower())
    values = metadata.values if metadata.family == codec.family else {}
    files.replace(path, lambda file: codec.write(file, array, values))
