"""JPEG, written at quality 95 with the colors at full resolution."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import JpegImagePlugin

from tfflowdn.data.formats import pillow
from tfflowdn.data.formats.base import Codec, Metadata

__all__ = ["JPEG"]

_LONG_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_LARGEST_DENSITY = 2**16 - 1
_JFIF_DENSITY = 13  # The place of its unit in a file.


class _JpegPicture(pillow.PillowPicture):
    opener = staticmethod(JpegImagePlugin.jpeg_factory)
    largest_ratio = 8.0 * 64  # A block of 8 x 8 pixels has at least one bit.

    def _metadata(self) -> Metadata:
        metadata = super()._metadata()
        kinds = getattr(self._image, "applist", ())
        parts = b"".join(
            b"\xff"
            + bytes([0xE0 + int(name[3:])])
            + struct.pack(">H", len(body) + 2)
            + body
            for name, body in kinds
            if _is_copied(name, body)
        )
        values = dict(metadata.values)
        if parts:
            values["jpeg_segments"] = parts
        if (density := self._density()) is not None:
            values["jfif_density"] = density
        return metadata._replace(values=values)

    def _density(self) -> tuple[int, int, int] | None:
        """Returns the unit and the two densities as they are stored."""
        info = self._image.info
        unit, density = info.get("jfif_unit"), info.get("jfif_density")
        if unit not in (0, 1, 2) or not density or 0 in density:
            return None
        return (unit, *density)


def _write(path: Path, array: np.ndarray, values: Mapping[str, Any]) -> None:
    values = dict(values)
    if max(values.get("dpi", (0,))) > _LARGEST_DENSITY:  # It would wrap around.
        del values["dpi"]
    kept = {k: values[k] for k in ("xmp", "comment") if k in values}
    extra = {"extra": values["jpeg_segments"]} if "jpeg_segments" in values else {}
    options = {"quality": 95, "subsampling": 0, **kept, **extra}
    pillow.save(path, array, values, format="JPEG", **options)
    if "jfif_density" in values:
        _set_density(path, values["jfif_density"])


def _set_density(path: Path, density: tuple[int, int, int]) -> None:
    """Writes the density as it was stored: Pillow has square pixels of an inch only."""
    with path.open("r+b") as file:
        if file.read(_JFIF_DENSITY).endswith(b"JFIF\0\1\1"):
            file.seek(_JFIF_DENSITY)
            file.write(struct.pack(">BHH", *density))


def _is_copied(name: str, body: bytes) -> bool:
    """Returns whether a segment has IPTC values, or XMP beyond the first segment."""
    return name == "APP13" or body.startswith(_LONG_XMP)


JPEG = Codec(
    name="JPEG",
    family=pillow.FAMILY,
    suffixes=(".jpg", ".jpeg", ".jpe", ".jfif"),
    magics=(b"\xff\xd8\xff",),
    open=_JpegPicture,
    write=_write,
    kinds={"uint8": (1, 3)},
)
