"""Tags of a TIFF page that are copied byte by byte, with the directories below it."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import tifffile

__all__ = [
    "DIRECTORIES",
    "RawTag",
    "left_out",
    "placeholder",
    "read_directories",
    "read_tags",
    "write_directories",
]

DIRECTORIES = {34665: "EXIF", 34853: "GPS"}
_SUB_DIRECTORIES = 330
_INTEROPERABILITY = 40965  # A directory within EXIF, which has offsets.
_LARGEST = 2**26
# Of the layout of the pixels, or written from other values.
_NOT_COPIED = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 270, 271, 272, 273, 274}
    | {277, 278, 279, 280, 281, 282, 283, 284, 292, 293, 296, 301, 305, 306, 315, 317}
    | {320, 322, 323, 324, 325, 330, 332, 338, 339, 340, 341, 347, 512, 513, 514, 515}
    | {517, 518, 519, 520, 521, 529, 530, 531, 532, 33432, 34675, 50674, *DIRECTORIES}
)


class RawTag(NamedTuple):
    """A tag as `tifffile.TiffWriter.write` takes it in `extratags`.

    Attributes:
      code: The number of the tag.
      dtype: The number of the type of its values.
      count: The number of its values.
      value: The values, in the byte order of the file.
      writeonce: Whether it belongs to the first page only.
    """

    code: int
    dtype: int
    count: int
    value: bytes
    writeonce: bool = True


def read_tags(page: tifffile.TiffPage) -> list[RawTag]:
    """Returns the tags that do not describe the layout of the pixels."""
    tags = [tag for tag in page.tags.values() if tag.code not in _NOT_COPIED]
    handle = page.parent.filehandle
    copied = []
    for tag in tags:
        if tag.valuebytecount > _LARGEST:
            continue
        handle.seek(tag.valueoffset)
        value = handle.read(tag.valuebytecount)
        copied.append(RawTag(tag.code, int(tag.dtype), tag.count, value))
    return copied


def left_out(page: tifffile.TiffPage) -> list[str]:
    """Returns the names of the metadata that cannot be copied."""
    return ["smaller copies (SubIFDs)"] if _SUB_DIRECTORIES in page.tags else []


def read_directories(page: tifffile.TiffPage) -> dict[int, list[RawTag]]:
    """Returns the tags of the EXIF and GPS directories, by the tag that names them.

    A broken directory is left out.
    """
    directories = {}
    for code in DIRECTORIES:
        if code not in page.tags:
            continue
        try:
            directories[code] = _parse(page, page.tags[code])
        except (struct.error, KeyError, ValueError):
            continue
    return directories


def write_directories(
    path: Path, by_page: Sequence[Mapping[int, list[RawTag]]]
) -> None:
    """Appends directories to a TIFF whose tags of their codes are placeholders.

    Args:
      path: The file.
      by_page: The directories of each page, see `read_directories`.
    """
    if not any(by_page):
        return
    with path.open("r+b") as file, tifffile.TiffFile(file) as tiff:
        for page, directories in zip(tiff.pages, by_page, strict=True):
            for code, tags in directories.items():
                file.seek(0, 2)
                start = file.tell() + file.tell() % 2
                file.seek(start)
                file.write(_serialize(tags, start, tiff.tiff))
                form = tiff.tiff
                entry = _entry(file, page.offset, placeholder(code), form)
                file.seek(entry)
                file.write(struct.pack(form.tagformat1[:2], code))
                file.seek(entry + form.tagsize - form.offsetsize)
                file.write(struct.pack(form.offsetformat, start))


def _pointer(tag, form):
    """Returns the place of the value within the entry of a tag."""
    return tag.offset + form.tagsize - form.offsetsize


def placeholder(code: int) -> int:
    """Returns the tag to write in place of a directory, which tifffile leaves out."""
    return code - 1


def _entry(file, start, code, form):
    """Returns the place of the entry of a tag in a directory."""
    file.seek(start)
    (number,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
    entries = file.read(number * form.tagsize)
    codes = [
        struct.unpack_from(form.tagformat1, entries, index * form.tagsize)[0]
        for index in range(number)
    ]
    return start + form.tagnosize + codes.index(code) * form.tagsize


def _parse(page, tag):
    handle, form = page.parent.filehandle, page.parent.tiff

    def read(offset, size):
        handle.seek(offset)
        return handle.read(size)

    (start,) = struct.unpack(
        form.offsetformat, read(_pointer(tag, form), form.offsetsize)
    )
    (number,) = struct.unpack(form.tagnoformat, read(start, form.tagnosize))
    if not 0 < number < 4096:
        raise ValueError(f"a directory must have some tags. Received: {number=}.")
    entries = read(start + form.tagnosize, number * form.tagsize)
    tags = []
    for at in range(0, number * form.tagsize, form.tagsize):
        code, dtype = struct.unpack_from(form.tagformat1, entries, at)
        count, value = struct.unpack_from(form.tagformat2, entries, at + 4)
        size = count * struct.calcsize("=" + tifffile.TIFF.DATA_FORMATS[dtype])
        if size > _LARGEST or code == _INTEROPERABILITY:
            continue
        if size > form.offsetsize:
            value = read(struct.unpack(form.offsetformat, value)[0], size)
        tags.append(RawTag(code, dtype, count, value[:size]))
    return tags


def _serialize(tags, start, form):
    head = form.tagnosize + len(tags) * form.tagsize + form.offsetsize
    entries, values = b"", b""
    for tag in sorted(tags):
        value = tag.value
        if len(value) > form.offsetsize:
            values += bytes(len(values) % 2)
            value = struct.pack(form.offsetformat, start + head + len(values))
            values += tag.value
        entries += struct.pack(form.tagformat1, tag.code, tag.dtype)
        packed = value.ljust(form.offsetsize, b"\0")
        entries += struct.pack(form.tagformat2, tag.count, packed)
    number = struct.pack(form.tagnoformat, len(tags))
    return number + entries + bytes(form.offsetsize) + values
