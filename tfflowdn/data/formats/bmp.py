"""BMP, gray or RGB at 8 bits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import BmpImagePlugin

from tfflowdn.data.formats import pillow
from tfflowdn.data.formats.base import Codec

__all__ = ["BMP"]


class _BmpPicture(pillow.PillowPicture):
    opener = BmpImagePlugin.BmpImageFile
    largest_ratio = 3000.0  # A run of two bytes stands for at most 255 pixels.


def _write(path: Path, array: np.ndarray, values: Mapping[str, Any]) -> None:
    dpi = {"dpi": values["dpi"]} if "dpi" in values else {}
    pillow.save(path, array, dpi, format="BMP")


BMP = Codec(
    name="BMP",
    family=pillow.FAMILY,
    suffixes=(".bmp",),
    magics=(b"BM",),
    open=_BmpPicture,
    write=_write,
    kinds={"uint8": (1, 3)},
)
