"""WebP: lossless, or at quality 95 where the source was lossy."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import WebPImagePlugin

from tfflowdn.data.formats import pillow
from tfflowdn.data.formats.base import (
    UNIFORM_PIXELS,
    UNIFORM_RATIO,
    Codec,
    Metadata,
)

__all__ = ["WEBP"]

_LOSSY = b"VP8 "
_QUALITY = 95


class _WebpPicture(pillow.PillowPicture):
    opener = WebPImagePlugin.WebPImageFile
    largest_ratio, unchecked_pixels = UNIFORM_RATIO, UNIFORM_PIXELS

    def __init__(self, path: str | os.PathLike, file: BinaryIO) -> None:
        self._is_lossy = _is_lossy(file)
        file.seek(0)
        super().__init__(path, file)

    def _metadata(self) -> Metadata:
        metadata = super()._metadata()
        values = {**metadata.values, "webp_is_lossy": True}
        return metadata._replace(values=values) if self._is_lossy else metadata


def _is_lossy(file: BinaryIO) -> bool:
    """Returns whether one of the chunks has lossy pixels."""
    file.seek(12)
    while len(head := file.read(8)) == 8:
        kind, length = struct.unpack("<4sI", head)
        if kind == _LOSSY:
            return True
        file.seek(length + length % 2, os.SEEK_CUR)
    return False


def _write(path: Path, array: np.ndarray, values: Mapping[str, Any]) -> None:
    is_lossy = values.get("webp_is_lossy", False)
    encoding = {"quality": _QUALITY} if is_lossy else {"lossless": True, "exact": True}
    xmp = {"xmp": values["xmp"]} if "xmp" in values else {}
    pillow.save(path, array, values, format="WEBP", **encoding, **xmp)


WEBP = Codec(
    name="WebP",
    family=pillow.FAMILY,
    suffixes=(".webp",),
    magics=(b"RIFF????WEBP",),
    open=_WebpPicture,
    write=_write,
    kinds={"uint8": (1, 3, 4)},
)
