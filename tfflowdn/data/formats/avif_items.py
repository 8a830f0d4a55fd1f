"""Adds EXIF, XMP and a color profile to an AVIF file, whose encoder has none."""

from __future__ import annotations

import struct
from collections.abc import Iterator

__all__ = ["add_items"]

_PICTURE = 1  # The number of the item with the pixels, as libavif writes it.
_EXIF_START = b"Exif\0\0"
_XMP_TYPE = b"application/rdf+xml"


def add_items(
    content: bytes,
    exif: bytes | None = None,
    xmp: bytes | None = None,
    icc_profile: bytes | None = None,
) -> bytes:
    """Returns an AVIF file with metadata.

    Args:
      content: A file as libavif writes it: the boxes `ftyp`, `meta` and `mdat`.
      exif: EXIF, or None.
      xmp: XMP, or None.
      icc_profile: A color profile, or None.

    Raises:
      ValueError: If the file has other boxes.
    """
    boxes = dict(_boxes(content))
    if list(boxes) != [b"ftyp", b"meta", b"mdat"]:
        raise ValueError(
            f"content must have the boxes ftyp, meta, mdat. Received: {list(boxes)}."
        )
    meta, payloads = dict(_boxes(boxes[b"meta"][4:])), []
    if exif:
        payloads.append((b"Exif", b"", bytes(4) + exif.removeprefix(_EXIF_START)))
    if xmp:
        payloads.append((b"mime", _XMP_TYPE + b"\0", xmp))
    (count,) = struct.unpack(">H", meta[b"iinf"][4:6])
    infos, references = b"", b""
    for number, (kind, kind_of_content, _) in enumerate(payloads, count + 1):
        entry = struct.pack(">IHH4s", 0x02000000, number, 0, kind)
        infos += _box(b"infe", entry + b"\0" + kind_of_content)
        references += _box(b"cdsc", struct.pack(">HHH", number, 1, _PICTURE))
    total = struct.pack(">H", count + len(payloads))
    meta[b"iinf"] = meta[b"iinf"][:4] + total + meta[b"iinf"][6:] + infos
    if references:
        meta = _with_references(meta, references)
    if icc_profile:
        meta[b"iprp"] = _with_profile(meta[b"iprp"], icc_profile)
    sizes = [len(data) for *_, data in payloads]
    new = _meta({**meta, b"iloc": _located(meta[b"iloc"], 0, 0, sizes)})
    growth = len(new) - 8 - len(boxes[b"meta"])
    end = len(content) + growth
    meta[b"iloc"] = _located(meta[b"iloc"], growth, end, sizes)
    data = boxes[b"mdat"] + b"".join(data for *_, data in payloads)
    return _box(b"ftyp", boxes[b"ftyp"]) + _meta(meta) + _box(b"mdat", data)


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields the kinds and the contents of boxes."""
    at = 0
    while at + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        if size < 8:
            raise ValueError(f"a box must have a size. Received: {size=}.")
        yield kind, content[at + 8 : at + size]
        at += size


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _meta(boxes: dict[bytes, bytes]) -> bytes:
    joined = b"".join(_box(kind, content) for kind, content in boxes.items())
    return _box(b"meta", bytes(4) + joined)


def _with_references(meta: dict[bytes, bytes], references: bytes) -> dict[bytes, bytes]:
    """Returns boxes with references from metadata to the picture, after `iinf`."""
    whole = meta.get(b"iref", bytes(4)) + references
    result = {}
    for kind, content in meta.items():
        result[kind] = content
        if kind == b"iinf":
            result[b"iref"] = whole
    return {**result, b"iref": whole}


def _with_profile(properties: bytes, profile: bytes) -> bytes:
    """Returns the box of properties with a profile that belongs to the picture."""
    (_, container), (_, associations) = _boxes(properties)
    number = sum(1 for _ in _boxes(container)) + 1
    container += _box(b"colr", b"prof" + profile)
    (num_items,) = struct.unpack_from(">I", associations, 4)
    result, at = associations[:8], 8
    for _ in range(num_items):
        item, count = struct.unpack_from(">HB", associations, at)
        own = associations[at + 3 : at + 3 + count]
        own += bytes([number]) if item == _PICTURE else b""
        result += struct.pack(">HB", item, len(own)) + own
        at += 3 + count
    return _box(b"ipco", container) + _box(b"ipma", result)


def _located(places: bytes, growth: int, end: int, sizes: list[int]) -> bytes:
    """Returns the box of places, with other items from the end of the file on."""
    if places[:6] != bytes(4) + b"\x44\0":
        raise ValueError(f"iloc must have version 0. Received: {places[:6]!r}.")
    (count,) = struct.unpack_from(">H", places, 6)
    result = struct.pack(">H", count + len(sizes))
    for index in range(count):
        head, offset, size = struct.unpack_from(">6sII", places, 8 + 14 * index)
        result += struct.pack(">6sII", head, offset + growth, size)
    for number, size in enumerate(sizes, count + 1):
        result += struct.pack(">HHHII", number, 0, 1, end, size)
        end += size
    return places[:6] + result
