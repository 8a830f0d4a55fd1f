"""JPEG 2000 at 8 to 16 bits, by imagecodecs: lossless, or nearly so where it was lossy.

Profile, resolution, XML and UUID boxes (XMP, GeoJP2) of JP2 files are copied.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import imagecodecs
import numpy as np
from PIL import Jpeg2KImagePlugin

from tfflowdn.data.formats.base import (
    UNIFORM_PIXELS,
    UNIFORM_RATIO,
    Codec,
    Layout,
    Metadata,
    Picture,
)
from tfflowdn.data.formats.pillow import pillow_pixels

__all__ = ["JPEG_2000"]

_FAMILY = "jpeg2000"
_CODESTREAM = b"\xff\x4f\xff\x51"
_SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"
_HEADER, _COPIED, _COPIED_INSIDE = b"jp2h", (b"xml ", b"uuid"), (b"res ", b"colr")
_MOST_COPIED = 2**24
_LEVEL = 55  # PSNR in dB, of results of lossy files.


class _Stream(NamedTuple):
    """The facts of a codestream."""

    height: int
    width: int
    bits: tuple[int, ...]
    is_signed: bool
    is_lossy: bool


class _Jpeg2000Picture(Picture):
    largest_ratio, unchecked_pixels = UNIFORM_RATIO, UNIFORM_PIXELS

    def __init__(self, path: str | os.PathLike, file: BinaryIO) -> None:
        super().__init__(path, file)
        self._is_jp2 = file.read(4) != _CODESTREAM
        self._stream = _read_stream(file, self._is_jp2)

    def _layout(self) -> Layout:
        stream, channels = self._stream, len(self._stream.bits)
        if stream.is_signed or max(stream.bits) > 16 or channels > 4:
            raise ValueError(
                "the pixels must be unsigned, of up to 16 bits and 4 channels. "
                f"Received: {stream}."
            )
        if self._is_palette:
            channels = 3
        kind = np.dtype(np.uint16 if max(stream.bits) > 8 else np.uint8)
        return Layout(stream.height, stream.width, channels, kind, 1)

    @property
    def _is_palette(self) -> bool:
        return self._is_jp2 and any(k == b"pclr" for k, _ in self._inside())

    def _pixels(self) -> np.ndarray:
        self._file.seek(0)
        if self._is_palette:
            image = Jpeg2KImagePlugin.Jpeg2KImageFile(self._file)
            return pillow_pixels(image.convert("RGB"))
        array = imagecodecs.jpeg2k_decode(self._file.read())
        array = array if array.ndim == 3 else array[..., np.newaxis]
        layout = self._layout()
        if array.shape != layout[:3]:
            raise ValueError(
                "all components must have the size of the picture. "
                f"Received: {array.shape}, not {layout[:3]}."
            )
        return array

    def _decoder_bytes(self) -> int:
        return 4 * self._layout().channels

    def _inside(self) -> Iterator[tuple[bytes, bytes]]:
        """Yields the boxes within the header of a JP2 file."""
        for kind, start, size in _boxes(self._file, 0, None):
            if kind == _HEADER:
                for inner, begin, length in _boxes(self._file, start, start + size):
                    self._file.seek(begin)
                    yield inner, self._file.read(min(length, _MOST_COPIED))

    def _metadata(self) -> Metadata:
        values = {
            "bits": max(self._stream.bits),
            "is_lossy": self._stream.is_lossy,
            "is_jp2": self._is_jp2,
        }
        if self._is_jp2:
            values["inside"] = [box for box in self._inside() if _is_kept(*box)]
            values["boxes"] = list(self._copied_boxes())
        notes = "palette to RGB" if self._is_palette else ""
        return Metadata(_FAMILY, values, notes)

    def _copied_boxes(self) -> Iterator[tuple[bytes, bytes]]:
        for kind, start, size in _boxes(self._file, 0, None):
            if kind in _COPIED and size <= _MOST_COPIED:
                self._file.seek(start)
                yield kind, self._file.read(size)


def _boxes(
    file: BinaryIO, start: int, end: int | None
) -> Iterator[tuple[bytes, int, int]]:
    """Yields the kind, start and size of the contents of boxes."""
    whole = os.fstat(file.fileno()).st_size
    end = whole if end is None else min(end, whole)
    while start + 8 <= end:
        file.seek(start)
        size, kind = struct.unpack(">I4s", file.read(8))
        head = 8
        if size == 1:
            size, head = struct.unpack(">Q", file.read(8).rjust(8, b"\0"))[0], 16
        size = end - start if size == 0 else size
        if size < head:
            raise ValueError(f"a box must hold its head. Received: {kind}, {size=}.")
        yield kind, start + head, min(size, end - start) - head
        start += size


def _read_stream(file: BinaryIO, is_jp2: bool) -> _Stream:
    place = 0
    if is_jp2:
        place = next((s for kind, s, _ in _boxes(file, 0, None) if kind == b"jp2c"), -1)
    file.seek(max(0, place))
    head = file.read(2**16)
    if place < 0 or head[:4] != _CODESTREAM:
        raise ValueError("the file must hold a codestream.")
    right, bottom, left, top = struct.unpack_from(">IIII", head, 8)
    (count,) = struct.unpack_from(">H", head, 40)
    samples = [head[42 + 3 * index] for index in range(count)]
    if not 0 < count <= 16384 or right <= left or bottom <= top:
        raise ValueError("the codestream must declare a size and components.")
    # In the segment COD, the last of ten bytes names the wavelet; 0 is lossy.
    place = head.find(b"\xff\x52", 42 + 3 * count)
    return _Stream(
        height=bottom - top,
        width=right - left,
        bits=tuple((sample & 0x7F) + 1 for sample in samples),
        is_signed=any(sample & 0x80 for sample in samples),
        is_lossy=place >= 0 and head[place + 13] == 0,
    )


def _is_kept(kind: bytes, content: bytes) -> bool:
    """Returns whether a box within the header is copied, such as a color profile."""
    is_profile = kind == b"colr" and content[:1] == b"\2"
    return kind in _COPIED_INSIDE and (kind != b"colr" or is_profile)


def _write(path: Path, array: np.ndarray, values: Mapping[str, Any]) -> None:
    deepest = 8 * array.dtype.itemsize
    bits = min(values.get("bits", deepest), deepest)
    bits = bits if deepest == 8 or bits > 8 else 16
    is_jp2 = values.get("is_jp2", path.suffix.lower() == ".jp2")
    kept = np.minimum(array, array.dtype.type(2**bits - 1))
    content = imagecodecs.jpeg2k_encode(
        kept[..., 0] if kept.shape[-1] == 1 else kept,
        level=_LEVEL if values.get("is_lossy") else 0,
        reversible=not values.get("is_lossy"),
        codecformat="jp2" if is_jp2 else "j2k",
        bitspersample=bits,
    )
    path.write_bytes(_with_boxes(content, values) if is_jp2 else content)


def _with_boxes(content: bytes, values: Mapping[str, Any]) -> bytes:
    """Returns a JP2 file with further boxes; a profile replaces the color space."""
    inside, outside = values.get("inside", ()), values.get("boxes", ())
    start = content.index(_HEADER) - 4
    (size,) = struct.unpack_from(">I", content, start)
    header = content[start + 8 : start + size]
    if any(kind == b"colr" for kind, _ in inside):
        place = header.index(b"colr") - 4
        (length,) = struct.unpack_from(">I", header, place)
        header = header[:place] + header[place + length :]
    header += b"".join(_box(*box) for box in inside)
    others = b"".join(_box(*box) for box in outside)
    return content[:start] + _box(_HEADER, header) + others + content[start + size :]


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


JPEG_2000 = Codec(
    name="JPEG 2000",
    family=_FAMILY,
    suffixes=(".jp2", ".j2k", ".j2c", ".jpx"),
    magics=(_SIGNATURE, _CODESTREAM),
    open=_Jpeg2000Picture,
    write=_write,
    kinds={"uint8": (1, 2, 3, 4), "uint16": (1, 2, 3, 4)},
)
