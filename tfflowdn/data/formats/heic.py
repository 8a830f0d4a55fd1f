"""HEIC at 8 to 12 bits by pillow-heif, written at quality 95.

The file applies its orientation itself; EXIF has no say in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tfflowdn.data.formats import pillow
from tfflowdn.data.formats.array_picture import import_extra
from tfflowdn.data.formats.base import UNIFORM_PIXELS, UNIFORM_RATIO, Codec, Layout

__all__ = ["HEIC"]

_OPTIONS = {"quality": 95, "chroma": 444}
_MODES = {1: "L;16", 3: "RGB;16", 4: "RGBA;16"}


def _library() -> Any:
    return import_extra("pillow_heif", "photography")


class _HeicPicture(pillow.PillowPicture):
    largest_ratio, unchecked_pixels = UNIFORM_RATIO, UNIFORM_PIXELS

    @staticmethod
    def opener(file: BinaryIO) -> Any:
        """Opens a file as a picture of Pillow."""
        return _library().HeifImageFile(file)

    @property
    def _is_deep(self) -> bool:
        return self._image.info.get("bit_depth", 8) > 8

    def _layout(self) -> Layout:
        layout = super()._layout()
        kind = np.uint16 if self._is_deep else np.uint8
        return layout._replace(dtype=np.dtype(kind))

    def _pixels(self) -> np.ndarray:
        if not self._is_deep:
            return super()._pixels()
        self._file.seek(0)
        image = _library().open_heif(self._file, convert_hdr_to_8bit=False)
        return np.asarray(image).reshape(self._layout()[:3])


def _write(path: Path, array: np.ndarray, values: Mapping[str, Any]) -> None:
    if array.dtype == np.uint8:
        _library().register_heif_opener()
        xmp = {"xmp": values["xmp"]} if "xmp" in values else {}
        pillow.save(path, array, values, format="HEIF", **_OPTIONS, **xmp)
        return
    size = array.shape[1::-1]
    pixels = np.ascontiguousarray(array)
    image = _library().from_bytes(_MODES[array.shape[-1]], size, pixels.tobytes())
    kept = {k: values[k] for k in ("exif", "xmp") if k in values}
    if "icc_profile" in values:
        image[0].info["icc_profile"] = values["icc_profile"]
    with path.open("wb") as file:
        image.save(file, **_OPTIONS, **kept)


HEIC = Codec(
    name="HEIC",
    family=pillow.FAMILY,
    suffixes=(".heic", ".heif"),
    magics=(b"????ftyphe", b"????ftypmif1", b"????ftypmsf1"),
    open=_HeicPicture,
    write=_write,
    kinds={"uint8": (1, 3, 4), "uint16": (1, 3, 4)},
)
