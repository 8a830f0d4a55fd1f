"""AVIF at 8, 10 and 12 bits, written at quality 95 with the colors at full resolution.

Pillow decodes 8 bits, so that imagecodecs decodes and encodes deeper pictures.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from PIL import AvifImagePlugin

from tfflowdn.data.formats import pillow
from tfflowdn.data.formats.avif_items import add_items
from tfflowdn.data.formats.base import (
    UNIFORM_PIXELS,
    UNIFORM_RATIO,
    Codec,
    Layout,
    Metadata,
)
from tfflowdn.data.orientation import orient

__all__ = ["AVIF"]

_QUALITY = 95
_MOST_HEADER = 2**16
_INVERSE_ORIENTATIONS = {6: 8, 8: 6}  # The others are their own inverses.


class _AvifPicture(pillow.PillowPicture):
    opener = AvifImagePlugin.AvifImageFile
    largest_ratio, unchecked_pixels = UNIFORM_RATIO, UNIFORM_PIXELS

    def __init__(self, path: str | os.PathLike, file: BinaryIO) -> None:
        self._bits = _bits(file.read(_MOST_HEADER))
        file.seek(0)
        super().__init__(path, file)

    def _layout(self) -> Layout:
        layout = super()._layout()
        kind = np.uint16 if self._bits > 8 else np.uint8
        return layout._replace(dtype=np.dtype(kind))

    def _pixels(self) -> np.ndarray:
        if self._bits == 8:
            return super()._pixels()
        self._file.seek(0)
        array = imagecodecs.avif_decode(self._file.read())
        array = array if array.ndim == 3 else array[..., np.newaxis]
        layout = self._layout()
        if array.shape[:2] != layout[:2]:  # libavif has applied the orientation.
            turned = layout.orientation
            array = orient(array, _INVERSE_ORIENTATIONS.get(turned, turned))
        return array[..., : layout.channels]

    def _metadata(self) -> Metadata:
        metadata = super()._metadata()
        values = {**metadata.values, "avif_bits": self._bits}
        return metadata._replace(values=values)


def _bits(header: bytes) -> int:
    """Returns the bits of a sample, from the box with the settings of the codec."""
    place = header.find(b"av1C")
    if place < 0 or len(header) < place + 7:
        return 8
    flags = header[place + 6]
    return (12 if flags & 0x20 else 10) if flags & 0x40 else 8


def _write(path: Path, array: np.ndarray, values: Mapping[str, Any]) -> None:
    if array.dtype == np.uint16:
        bits = max(10, values.get("avif_bits", 12))
        kept = np.minimum(array, 2**bits - 1)
        kept = kept[..., 0] if kept.shape[-1] == 1 else kept
        content = imagecodecs.avif_encode(kept, level=_QUALITY, bitspersample=bits)
        names = ("exif", "xmp", "icc_profile")
        metadata = {name: values[name] for name in names if name in values}
        path.write_bytes(add_items(content, **metadata))
        return
    xmp = {"xmp": values["xmp"]} if "xmp" in values else {}
    subsampling = "4:0:0" if array.shape[-1] == 1 else "4:4:4"
    options = {"quality": _QUALITY, "subsampling": subsampling, **xmp}
    pillow.save(path, array, values, format="AVIF", **options)


AVIF = Codec(
    name="AVIF",
    family=pillow.FAMILY,
    suffixes=(".avif",),
    magics=(b"????ftypavif", b"????ftypavis"),
    open=_AvifPicture,
    write=_write,
    kinds={"uint8": (1, 3, 4), "uint16": (1, 3, 4)},
)
