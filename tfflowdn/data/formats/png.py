"""PNG. Pillow decodes 16-bit color at 8 bits, so TensorFlow decodes it here."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tensorflow as tf
from PIL import PngImagePlugin

from tfflowdn.data.formats import pillow
from tfflowdn.data.formats.base import Codec, Layout, Metadata

__all__ = ["PNG"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # By the color type; 3 is a palette.
_SAMPLES = {**_CHANNELS, 3: 1}  # Stored for each pixel.
_LARGEST_GROWTH = 1040  # Deflate reaches 1032.
_COLOR_SPACE = (b"cHRM", b"cICP", b"gAMA", b"sRGB")
_TEXTS, _MOST_TEXT = (b"tEXt", b"zTXt", b"iTXt", b"tIME"), 2**24  # XMP is an iTXt.
_INCHES_PER_METER = 1 / 0.0254


class _PngPicture(pillow.PillowPicture):
    opener = PngImagePlugin.PngImageFile

    def __init__(self, path: str | os.PathLike, file: BinaryIO) -> None:
        self._chunks = _read_chunks(file)
        file.seek(0)
        super().__init__(path, file)
        bits, color_type = self._chunks[b"IHDR"][8:10]
        bits_per_pixel = max(1, bits * _SAMPLES.get(color_type, 1))
        self.largest_ratio = 8 * _LARGEST_GROWTH / bits_per_pixel
        self._transparent = self._chunks.get(b"tRNS")
        is_gray = color_type == 0 and self._transparent is None
        self._is_deep = bits == 16 and color_type in _CHANNELS and not is_gray
        self._num_stored = _CHANNELS.get(color_type, 3)

    def _layout(self) -> Layout:
        if not self._is_deep:
            return super()._layout()
        width, height = self._image.size
        channels = self._num_stored + (self._transparent is not None)
        orientation = pillow.orientation_of(self._image)
        return Layout(height, width, channels, np.dtype(np.uint16), orientation)

    def _pixels(self) -> np.ndarray:
        if not self._is_deep:
            return super()._pixels()
        self._file.seek(0)
        pixels = tf.io.decode_png(self._file.read(), dtype=tf.uint16).numpy()
        if self._transparent is None:
            return pixels
        color = struct.unpack(f">{self._num_stored}H", self._transparent)
        is_visible = (pixels != np.asarray(color, np.uint16)).any(-1, keepdims=True)
        return np.concatenate([pixels, np.uint16(65535) * is_visible], -1)

    def _mode(self) -> str:
        return self._image.mode if self._is_deep else super()._mode()

    def _metadata(self) -> Metadata:
        metadata = super()._metadata()
        chunks = tuple((k, v) for k, v in self._chunks.items() if k in _COLOR_SPACE)
        chunks += _read_texts(self._file)
        values = {**metadata.values, "png_chunks": chunks} if chunks else None
        return metadata._replace(values=values or metadata.values)


def _write(path: Path, array: np.ndarray, values: Mapping[str, Any]) -> None:
    if array.dtype == np.uint16 and array.shape[-1] > 1:
        _write_deep(path, array, values)
        return
    info = PngImagePlugin.PngInfo()
    for chunk in values.get("png_chunks", ()):
        info.add(*chunk)
    pillow.save(path, array, values, format="PNG", pnginfo=info)


def _write_deep(path: Path, array: np.ndarray, values: Mapping[str, Any]) -> None:
    encoded = tf.io.encode_png(array).numpy()
    chunks = list(values.get("png_chunks", ()))
    if "icc_profile" in values:
        chunks.append((b"iCCP", b"ICC\0\0" + zlib.compress(values["icc_profile"])))
    if "dpi" in values:
        per_meter = [round(float(n) * _INCHES_PER_METER) for n in values["dpi"]]
        chunks.append((b"pHYs", struct.pack(">IIB", *per_meter, 1)))
    if "exif" in values:
        chunks.append((b"eXIf", values["exif"].removeprefix(b"Exif\0\0")))
    end = len(_SIGNATURE) + 25  # The end of the header, which is the first chunk.
    inserted = b"".join(_chunk(*chunk) for chunk in chunks)
    path.write_bytes(encoded[:end] + inserted + encoded[end:])


def _read_chunks(file: BinaryIO) -> dict[bytes, bytes]:
    """Returns the small chunks in front of the pixels by their kinds."""
    file.seek(len(_SIGNATURE))
    wanted, chunks = (b"IHDR", b"tRNS", *_COLOR_SPACE), {}
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IDAT":
            break
        if kind in wanted and length <= 256:
            chunks[kind] = file.read(length)
            length = 0
        file.seek(length + 4, os.SEEK_CUR)
    if len(chunks.get(b"IHDR", b"")) != 13:
        raise ValueError("a PNG must begin with a header of 13 bytes.")
    return chunks


def _read_texts(file: BinaryIO) -> tuple[tuple[bytes, bytes], ...]:
    """Returns the texts and times of a PNG, in front of and behind the pixels."""
    position = file.tell()
    file.seek(len(_SIGNATURE))
    texts, num_bytes = [], 0
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in _TEXTS and num_bytes + length <= _MOST_TEXT:
            texts.append((kind, file.read(length)))
            num_bytes += length
            length = 0
        file.seek(length + 4, os.SEEK_CUR)
    file.seek(position)
    return tuple(texts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


PNG = Codec(
    name="PNG",
    family=pillow.FAMILY,
    suffixes=(".png",),
    magics=(b"\x89PNG",),
    open=_PngPicture,
    write=_write,
    kinds={"uint8": (1, 2, 3, 4), "uint16": (1, 2, 3, 4)},
)
