"""Damaged files: a picture or a clear error, and never a part of a file."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from tfflowdn import data

NUM_DAMAGED = 100


def _picture(channels, dtype):
    rng = np.random.default_rng(channels)
    pixels = rng.random((14, 19, channels))
    return data.from_float(pixels.astype(np.float32), dtype)


def _file(tmp_path, name):
    """Returns the content of a whole file of a kind."""
    path = tmp_path / f"whole{name[name.index('.') :]}"
    if name == "stack.tif":
        pixels = np.stack([_picture(1, np.uint16)[..., 0]] * 3)
        tifffile.imwrite(path, pixels, photometric="minisblack")
    elif name == "tiled.tif":
        pixels = _picture(3, np.float32)
        tifffile.imwrite(
            path, pixels, photometric="rgb", tile=(16, 16), compression="zlib"
        )
    elif name == "bit.png":
        Image.fromarray(_picture(1, np.uint8)[..., 0]).convert("1").save(path)
    elif name == "array.npy":
        np.save(path, _picture(1, np.uint8))
    else:
        deep = name.startswith("deep")
        data.write_image(path, _picture(3, np.uint16 if deep else np.uint8))
    content = path.read_bytes()
    path.unlink()
    return content


def _damaged(content, rng):
    """Returns the content cut off, with bytes changed, blanked or inserted."""
    kind, content = rng.integers(5), bytearray(content)
    start = int(rng.integers(len(content)))
    if kind == 0:
        return content[:start]
    if kind == 1:
        content[start : start + 40] = bytes(len(content[start : start + 40]))
    elif kind == 2:
        content[start:start] = rng.bytes(7)
    else:  # In the first bytes lie sizes and kinds.
        places = rng.integers(min(len(content), 300 if kind == 3 else 10**6), size=4)
        for place in places:
            content[place] = rng.integers(256)
    return content


def _copy(pixels, out):
    np.copyto(out, pixels)


def _use(path, target):
    """Does the steps of denoising a file, without the network."""
    if path.suffix == ".npy":
        data.map_array(path, target, _copy)
        return
    if data.is_stack_or_large(path):
        data.map_pages(path, target, _copy)
        return
    pixels, metadata = data.read_image(path), data.read_metadata(path)
    assert pixels.dtype.kind in "uif"
    assert pixels.ndim == 3
    assert np.isfinite(pixels).all()
    header = data.image_header(path)
    assert header[:2] == pixels.shape[:2]
    if not (path.suffix == ".jpg" and pixels.shape[-1] in (2, 4)):
        data.write_image(target, pixels, metadata)


@pytest.mark.filterwarnings("ignore")  # Pillow warns about broken files.
@pytest.mark.parametrize(
    "name",
    [
        *("a.png", "deep.png", "bit.png", "a.jpg", "a.webp"),
        *("a.tif", "deep.tif", "tiled.tif", "stack.tif", "array.npy", "a.bmp", "a.gif"),
    ],
)
def test_damaged_files_give_a_picture_or_an_error(tmp_path, name):
    whole, rng = _file(tmp_path, name), np.random.default_rng(0)
    path, target = tmp_path / name, tmp_path / f"result{name[name.index('.') :]}"
    num_errors = 0
    for _ in range(NUM_DAMAGED):
        path.write_bytes(_damaged(whole, rng))
        try:
            _use(path, target)
        except ValueError as error:  # ImageReadError is one.
            num_errors += 1
            assert "Received: " in str(error)
            assert not target.exists()
        target.unlink(missing_ok=True)
        assert [file.name for file in tmp_path.iterdir()] == [name]
    assert num_errors >= NUM_DAMAGED / 8
    path.write_bytes(whole)
    _use(path, target)
    assert target.exists()


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
def test_a_wrong_suffix_does_not_matter(tmp_path, name):
    content = _file(tmp_path, name)
    for suffix in data.IMAGE_SUFFIXES:
        path = tmp_path / f"wrong{suffix}"
        path.write_bytes(content)
        assert data.read_image(path).shape == (14, 19, 3)


def _png_bomb(side):
    def chunk(kind, content):
        length, checksum = len(content), zlib.crc32(kind + content)
        return struct.pack(">I", length) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _tiff_bomb(side):
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((16, 16), np.uint16), compression="zlib")
    content = bytearray(file.getvalue())
    with tifffile.TiffFile(io.BytesIO(content)) as tiff:
        for code in (256, 257, 278):
            tag = tiff.pages[0].tags[code]
            size = {3: 2, 4: 4}[tag.dtype]
            value = min(side, 256**size - 1).to_bytes(size, "little")
            content[tag.valueoffset : tag.valueoffset + size] = value
    return bytes(content)


def _with_size(kind, place, side):
    """Returns a small file whose header declares another size."""
    file, order = io.BytesIO(), "little" if kind in ("GIF", "BMP") else "big"
    Image.new("L", (16, 16)).save(file, kind)
    content, size = bytearray(file.getvalue()), 4 if kind == "BMP" else 2
    start = place if isinstance(place, int) else content.index(place) + 5
    for offset in (start, start + size):
        content[offset : offset + size] = side.to_bytes(size, order)
    return bytes(content)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jpg", _with_size("JPEG", b"\xff\xc0", 20_000)),
        ("a.png", _png_bomb(20_000)),
        ("a.bmp", _with_size("BMP", 18, 20_000)),
        ("a.gif", _with_size("GIF", 6, 20_000)),
    ],
)
def test_a_header_declares_more_than_its_file_can_hold(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert data.image_header(tmp_path / name)[:2] == (20_000, 20_000)
    with pytest.raises(data.ImageReadError, match="20000 x 20000 pixels must have mo"):
        data.read_image(tmp_path / name)


def _webp_bomb(side, lossless):
    """Returns a small WebP whose header and frame declare another size."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "WEBP", lossless=lossless)
    content = bytearray(file.getvalue())
    if lossless:  # Two sizes of 14 bits behind the signature of the frame.
        start = content.index(b"VP8L") + 9
        (packed,) = struct.unpack_from("<I", content, start)
        sizes = (side - 1) | (side - 1) << 14
        struct.pack_into("<I", content, start, packed >> 28 << 28 | sizes)
    else:
        start = content.index(b"\x9d\x01\x2a") + 3
        struct.pack_into("<HH", content, start, side, side)
    return bytes(content)


def _npy_bomb(side):
    file = io.BytesIO()
    np.save(file, np.zeros((16, 16), np.float32))
    old, new = (f"{(size, size)}, }}".encode() for size in (16, side))
    padding = b" " * (len(new) - len(old))
    assert old + padding in file.getvalue()
    return file.getvalue().replace(old + padding, new)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("lossless.webp", _webp_bomb(16383, True)),
        ("lossy.webp", _webp_bomb(16383, False)),
        ("a.npy", _npy_bomb(20_000)),
        ("a.tif", _tiff_bomb(60_000)),
    ],
)
def test_no_format_decodes_more_than_its_file_can_hold(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(data.ImageReadError, match="must have more|mmap length|60000 x"):
        data.read_image(tmp_path / name)


@pytest.mark.parametrize(
    "name", ["a.png", "bit.png", "a.jpg", "a.gif", "a.bmp", "a.webp"]
)
def test_a_uniform_picture_is_not_taken_for_a_bomb(tmp_path, name):
    kind = "1" if name == "bit.png" else "L"
    options = {"progressive": True, "quality": 1} if name == "a.jpg" else {}
    options = {"lossless": True} if name == "a.webp" else options
    Image.new(kind, (3000, 2000)).save(tmp_path / name, **options)
    assert data.read_image(tmp_path / name).shape[:2] == (2000, 3000)


@pytest.mark.parametrize(
    ("name", "bomb"), [("a.png", _png_bomb), ("a.tif", _tiff_bomb)]
)
def test_a_decompression_bomb_is_refused_by_its_size(tmp_path, name, bomb):
    (tmp_path / name).write_bytes(bomb(2_000_000))
    with pytest.raises(data.ImageReadError, match="must have more data|2000000 x 2"):
        data.read_image(tmp_path / name)
