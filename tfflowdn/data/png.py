"""PNG of 16-bit colour, which Pillow reads and writes at 8 bits."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import tensorflow as tf

__all__ = ["is_deep_color", "num_channels", "read", "write"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {2: 3, 4: 2, 6: 4}  # By PNG's colour type; 0 is gray, 3 a palette.
_INCHES_PER_METRE = 1 / 0.0254


def is_deep_color(path: str | os.PathLike) -> bool:
    """Whether the file is a PNG of 16 bits with colour or alpha."""
    start = _start(path)
    return start.startswith(_SIGNATURE) and start[24] == 16 and start[25] in _CHANNELS


def num_channels(path: str | os.PathLike) -> int:
    """Returns the number of channels of such a file, alpha included."""
    return _CHANNELS[_start(path)[25]]


def read(path: str | os.PathLike) -> np.ndarray:
    """Returns the pixels as they are stored, uint16 [H, W, C]."""
    return tf.io.decode_png(Path(path).read_bytes(), dtype=tf.uint16).numpy()


def write(
    path: Path,
    pixels: np.ndarray,
    *,
    exif: bytes | None = None,
    icc_profile: bytes | None = None,
    dpi: tuple[float, float] | None = None,
) -> None:
    """Writes uint16 pixels [H, W, C], C 1 to 4.

    Args:
      path: The file.
      pixels: The pixels.
      exif: EXIF data, as Pillow gives them.
      icc_profile: The colour profile.
      dpi: Horizontal and vertical resolution, dots an inch.
    """
    encoded = tf.io.encode_png(pixels).numpy()
    chunks = []
    if icc_profile:
        chunks.append((b"iCCP", b"ICC\0\0" + zlib.compress(icc_profile)))
    if dpi:
        per_metre = [round(float(n) * _INCHES_PER_METRE) for n in dpi]
        chunks.append((b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    if exif:
        chunks.append((b"eXIf", exif.removeprefix(b"Exif\0\0")))
    end = len(_SIGNATURE) + 25  # Of the header, the first chunk.
    inserted = b"".join(_chunk(*chunk) for chunk in chunks)
    path.write_bytes(encoded[:end] + inserted + encoded[end:])


def _start(path):
    with open(path, "rb") as file:
        return file.read(26)


def _chunk(kind, content):
    checksum = zlib.crc32(kind + content)
    return (
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
    )
