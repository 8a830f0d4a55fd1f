"""The picture formats, one module each.

A new format is one module with a `Codec`, and one entry in `FORMATS`.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from tfflowdn.data.formats.avif import AVIF
from tfflowdn.data.formats.base import (
    Codec,
    ImageHeader,
    ImageReadError,
    Metadata,
    PageFunction,
    Picture,
    reading,
)
from tfflowdn.data.formats.bmp import BMP
from tfflowdn.data.formats.channel_pages import with_axes
from tfflowdn.data.formats.czi import CZI
from tfflowdn.data.formats.dicom import DICOM
from tfflowdn.data.formats.fits import FITS
from tfflowdn.data.formats.gif import GIF
from tfflowdn.data.formats.heic import HEIC
from tfflowdn.data.formats.jpeg import JPEG
from tfflowdn.data.formats.jpeg2000 import JPEG_2000
from tfflowdn.data.formats.mrc import MRC
from tfflowdn.data.formats.nd2 import ND2
from tfflowdn.data.formats.npy import NPY
from tfflowdn.data.formats.png import PNG
from tfflowdn.data.formats.raw import RAW, RAW_SUFFIXES
from tfflowdn.data.formats.tiff import TIFF
from tfflowdn.data.formats.webp import WEBP
from tfflowdn.data.formats.zarr import ZARR

__all__ = [
    "FOLDER_SUFFIXES",
    "FORMATS",
    "IMAGE_SUFFIXES",
    "RAW_SUFFIXES",
    "Codec",
    "ImageHeader",
    "ImageReadError",
    "Metadata",
    "PageFunction",
    "Picture",
    "codec_of_suffix",
    "open_picture",
    "result_name",
]

FORMATS = (
    *(PNG, JPEG, WEBP, TIFF, BMP, GIF, AVIF, HEIC, JPEG_2000, RAW),
    *(NPY, MRC, FITS, DICOM, ND2, CZI, ZARR),
)
FOLDER_SUFFIXES = tuple(
    s for codec in FORMATS if codec.is_folder for s in codec.suffixes
)
IMAGE_SUFFIXES = tuple(s for codec in FORMATS if codec.kinds for s in codec.suffixes)

_NUM_MAGIC_BYTES = 256


def open_picture(
    path: str | os.PathLike,
    axes: str | None = None,
    channels: Collection[int] | None = (),
) -> Picture:
    """Opens a picture file; its content, not its suffix, decides on the format.

    Args:
      path: A file in one of `FORMATS`.
      axes: One letter for each axis, such as "TCYX", see `Denoiser.__call__`; None
        for the axes that the file names.
      channels: The numbers of channels that are seen together, in an array or as
        pages along the axis C of a stack; None where the picture decides. With 1 among
        them each page is a gray picture.

    Returns:
      The open picture, which is a context manager.

    Raises:
      ImageReadError: If the file is missing, broken, or of an unsupported kind, or
        does not have such axes.
    """
    picture = _open(path)
    try:
        with reading(path):
            return with_axes(picture, axes, channels)
    except BaseException:
        picture.close()
        raise


def _open(path: str | os.PathLike) -> Picture:
    with reading(path):
        if os.path.isdir(path):
            return _codec_of_folder(path).open(path, None)
        file = open(path, "rb")  # noqa: SIM115, the picture closes it.
        try:
            start = file.read(_NUM_MAGIC_BYTES)
            file.seek(0)
            codec = RAW if _is_raw(path, start) else _codec_of_content(start)
            return codec.open(path, file)
        except BaseException:
            file.close()
            raise


def codec_of_suffix(path: str | os.PathLike) -> Codec:
    """Returns the codec of the suffix of a path.

    Raises:
      ValueError: If no format has the suffix, or the format cannot be written.
    """
    suffix = os.path.splitext(path)[1].lower()
    for codec in FORMATS:
        if suffix in codec.suffixes and codec.kinds:
            return codec
    raise ValueError(
        f"path must end in {IMAGE_SUFFIXES}. Received: path={os.fspath(path)}."
    )


def result_name(path: str | os.PathLike) -> Path:
    """Returns the path of the result of a picture: `a.nd2` becomes `a.ome.tif`.

    Only pictures in formats that no library writes get another suffix.
    """
    path, suffix = Path(path), os.path.splitext(path)[1].lower()
    for codec in FORMATS:
        if suffix in codec.suffixes and codec.result_suffix:
            return path.with_suffix(codec.result_suffix)
    return path


def _codec_of_content(start: bytes) -> Codec:
    for codec in FORMATS:
        if codec.recognizes(start):
            return codec
    names = ", ".join(codec.name for codec in FORMATS)
    raise ValueError(f"cannot identify the file; it must be one of {names}.")


def _codec_of_folder(path: str | os.PathLike) -> Codec:
    suffix = os.path.splitext(os.path.normpath(path))[1].lower()
    for codec in FORMATS:
        if codec.is_folder and suffix in codec.suffixes:
            return codec
    names = ", ".join(s for c in FORMATS if c.is_folder for s in c.suffixes)
    raise ValueError(f"a folder with a picture must end in {names}.")


def _is_raw(path: str | os.PathLike, start: bytes) -> bool:
    """Returns whether a file is RAW; most are TIFF files by their first bytes."""
    is_cr2 = start[8:10] == b"CR" and start[:2] in (b"II", b"MM")
    return is_cr2 or os.path.splitext(path)[1].lower() in RAW_SUFFIXES
