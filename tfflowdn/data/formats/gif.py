"""GIF: the first frame, written with at most 256 colors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import GifImagePlugin

from tfflowdn.data.formats import pillow
from tfflowdn.data.formats.base import Codec

__all__ = ["GIF"]


class _GifPicture(pillow.PillowPicture):
    opener = GifImagePlugin.GifImageFile
    largest_ratio = 3000.0  # A code of 12 bits stands for at most 4096 pixels.


def _write(path: Path, array: np.ndarray, values: Mapping[str, Any]) -> None:
    # The format has neither resolution nor profile nor EXIF.
    comment = {"comment": values["comment"]} if "comment" in values else {}
    pillow.save(path, array, {}, format="GIF", **comment)


GIF = Codec(
    name="GIF",
    family=pillow.FAMILY,
    suffixes=(".gif",),
    magics=(b"GIF87a", b"GIF89a"),
    open=_GifPicture,
    write=_write,
    kinds={"uint8": (1, 3, 4)},
)
