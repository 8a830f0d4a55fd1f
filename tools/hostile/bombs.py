"""Small files that declare or hold far more pixels than a picture of their size."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path

import harness
import numpy as np
from hostile.valid import Content

__all__ = ["bombs", "png_bomb"]

tifffile = harness.lazy("tifffile")

SIDE = 20_000


def png_bomb(side: int) -> bytes:
    """Returns a small valid PNG of side x side black pixels."""

    def chunk(kind, content):
        check = zlib.crc32(kind + content)
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    compressor = zlib.compressobj(9)
    row = bytes(side + 1)
    pixels = b"".join(compressor.compress(row) for _ in range(side))
    pixels += compressor.flush()
    chunks = (b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*pair) for pair in chunks)


def _by_pillow(kind: str, place: bytes | int, size: int, order: str) -> bytes:
    """Returns a file whose header declares SIDE x SIDE pixels."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("L", (16, 16)).save(file, kind)
    content = bytearray(file.getvalue())
    start = place if isinstance(place, int) else content.index(place) + 5
    for offset in (start, start + size):
        content[offset : offset + size] = SIDE.to_bytes(size, order)
    return bytes(content)


def _webp(lossless: bool) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "WEBP", lossless=lossless)
    content, side = bytearray(file.getvalue()), 16383
    if lossless:
        start = content.index(b"VP8L") + 9
        (packed,) = struct.unpack_from("<I", content, start)
        sizes = (side - 1) | (side - 1) << 14
        struct.pack_into("<I", content, start, packed >> 28 << 28 | sizes)
    else:
        start = content.index(b"\x9d\x01\x2a") + 3
        struct.pack_into("<HH", content, start, side, side)
    return bytes(content)


def _tiff(tmp: Path, compression: str | None) -> bytes:
    path = tmp / "bomb.tif"
    tifffile.imwrite(path, np.zeros((16, 16), np.uint16), compression=compression)
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        for code in (256, 257, 278):
            tag = tiff.pages[0].tags[code]
            size = {3: 2, 4: 4}[tag.dtype]
            value = (2_000_000).to_bytes(4, "little")[:size]
            content[tag.valueoffset : tag.valueoffset + size] = value
    path.unlink()
    return bytes(content)


def _npy() -> bytes:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999, 99999), }\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header


def _mrc(valid: bytes) -> bytes:
    return np.int32([30_000, 30_000, 100]).tobytes() + valid[12:]


def _fits(valid: bytes, prefix: bytes = b"") -> bytes:
    for axis, size in ((b"1", 19), (b"2", 14)):
        key = prefix + b"NAXIS" + axis
        old = key.ljust(8) + b"=" + str(size).rjust(21).encode()
        valid = valid.replace(old, key.ljust(8) + b"=" + b"60000".rjust(21))
    return valid


def _heif(valid: bytes) -> bytes:
    """Returns an AVIF or HEIC file whose box of the size declares another one."""
    place = valid.index(b"ispe") + 8
    return valid[:place] + struct.pack(">II", 60_000, 60_000) + valid[place + 8 :]


def _jp2(valid: bytes) -> bytes:
    sides = struct.pack(">II", 60_000, 60_000)
    for mark, step in ((b"\xff\x4f\xff\x51", 8), (b"ihdr", 4)):
        place = valid.index(mark) + step
        valid = valid[:place] + sides + valid[place + 8 :]
    return valid


def _nd2(valid: bytes) -> bytes:
    for name in ("uiHeight", "uiWidth"):
        mark = f"{name}\0".encode("utf-16-le")
        place = valid.index(mark) + len(mark)
        valid = valid[:place] + struct.pack("<I", 60_000) + valid[place + 4 :]
    return valid


def _czi(valid: bytes) -> bytes:
    """Returns a file whose planes declare more rows and columns."""
    for axis in (b"X", b"Y"):
        mark, start = axis + bytes(3), 0
        while (start := valid.find(mark, start)) >= 0:
            size = struct.pack("<I", 60_000)
            valid = valid[: start + 8] + size + valid[start + 12 :]
            start += 20
    return valid


def _dicom(valid: bytes) -> bytes:
    for tag in (b"\x28\x00\x10\x00US", b"\x28\x00\x11\x00US"):
        start = valid.index(tag) + 8
        valid = valid[:start] + b"\x60\xea" + valid[start + 2 :]
    return valid


def _zarr(valid: dict[str, bytes]) -> dict[str, bytes]:
    (name,) = (name for name in valid if name.endswith(".zarray"))
    metadata = json.loads(valid[name]) | {"shape": [10, 10**6, 10**6]}
    return {**valid, name: json.dumps(metadata).encode()}


def bombs(valid: dict[str, Content], tmp: Path) -> dict[str, Content]:
    """Returns bombs of each format, and files that are no pictures.

    Args:
      valid: The result of `valid.valid_files`.
      tmp: A folder for temporary files.
    """
    archive = io.BytesIO()
    np.savez(archive, a=np.zeros(3))
    return {
        "bomb.jpg": _by_pillow("JPEG", b"\xff\xc0", 2, "big"),
        "bomb.gif": _by_pillow("GIF", 6, 2, "little"),
        "bomb.bmp": _by_pillow("BMP", 18, 4, "little"),
        "declared.png": png_bomb(16)[:16] + b"\0\x1e\x84\x80" * 2 + png_bomb(16)[24:],
        "lossless.webp": _webp(True),
        "lossy.webp": _webp(False),
        "plain.tif": _tiff(tmp, None),
        "zlib.tif": _tiff(tmp, "zlib"),
        "zstd.tif": _tiff(tmp, "zstd"),
        "bomb.npy": _npy(),
        "bomb.avif": _heif(valid["color.avif"]),
        "bomb.heic": _heif(valid["color.heic"]),
        "bomb.jp2": _jp2(valid["color.jp2"]),
        "bomb.nd2": _nd2(valid["stack.nd2"]),
        "bomb.czi": _czi(valid["stack.czi"]),
        "bomb.mrc": _mrc(valid["stack.mrc"]),
        "bomb.fits": _fits(valid["stack.fits"]),
        "packed.fits": _fits(valid["packed.fits"], b"Z"),
        "bomb.dcm": _dicom(valid["stack.dcm"]),
        "bomb.zarr": _zarr(valid["old.zarr"]),
        "packed.dcm": _dicom(valid["packed.dcm"]),
        **{
            f"archive{Path(name).suffix}": archive.getvalue()
            for name in valid
            if isinstance(valid[name], bytes)
        },
        **{
            f"empty{Path(name).suffix}": b"" if isinstance(content, bytes) else {}
            for name, content in valid.items()
        },
    }
