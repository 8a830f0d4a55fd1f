"""JPEG, written at quality 95 with the colors at full resolution."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import JpegImagePlugin

from tfflowdn.data.formats import pillow
from tfflowdn.data.formats.base import Codec

__all__ = ["JPEG"]

_LARGEST_DENSITY = 2**16 - 1


class _JpegPicture(pillow.PillowPicture):
    opener = staticmethod(JpegImagePlugin.jpeg_factory)


def _write(path: Path, array: np.ndarray, values: Mapping[str, Any]) -> None:
    values = dict(values)
    if max(values.get("dpi", (0,))) > _LARGEST_DENSITY:  # It would wrap around.
        del values["dpi"]
    pillow.save(path, array, values, format="JPEG", quality=95, subsampling=0)


JPEG = Codec(
    name="JPEG",
    family=pillow.FAMILY,
    suffixes=(".jpg", ".jpeg", ".jpe", ".jfif"),
    magics=(b"\xff\xd8\xff",),
    open=_JpegPicture,
    write=_write,
    kinds={"uint8": (1, 3)},
)
