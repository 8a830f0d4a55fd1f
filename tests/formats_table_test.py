"""The table of formats in the documentation agrees with the codecs and their files."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfflowdn import data
from tfflowdn.data.formats import FORMATS, base

PAGE = (Path(__file__).parent.parent / "docs/formats.md").read_text("utf-8")
KEYS = ("format", "suffixes", "pixels", "channels", "pages", "metadata", "library")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and line.count(" | ") == len(KEYS) - 1
][1:]
TABLE = [dict(zip(KEYS, row, strict=True)) for row in ROWS if set(row[0]) - set("- ")]
BY_NAME = {re.split(r"[ ,(]", row["format"])[0]: row for row in TABLE}


def _source(codec):
    return inspect.getsource(sys.modules[_kind(codec).__module__])


def _kind(codec):
    """Returns the class of the pictures of a codec."""
    return codec.open


def _row(codec):
    # "JPEG 2000" begins like "JPEG".
    whole = [row for row in TABLE if row["format"] == codec.name]
    return whole[0] if whole else BY_NAME[codec.name.split()[0]]


def test_every_format_has_one_row():
    assert len(TABLE) == len(FORMATS)
    assert {id(_row(codec)) for codec in FORMATS} == set(map(id, TABLE))


@pytest.mark.parametrize("codec", FORMATS, ids=lambda codec: codec.name)
def test_a_row_is_what_the_codec_does(codec):
    row = _row(codec)
    assert set(re.findall(r"`(\.\w+)`", row["suffixes"])) == set(codec.suffixes)
    assert ("(folders)" in row["suffixes"]) is codec.is_folder
    assert ("OME-TIFF" in row["metadata"]) is bool(codec.result_suffix)
    extras = set(re.findall(r'"(\w+)"\)', _source(codec))) & set(_extras())
    assert extras == set(re.findall(r"extra `(\w+)`", row["library"]))
    if codec.kinds:
        is_deep = any(np.dtype(kind).itemsize > 1 for kind in codec.kinds)
        depths = set(map(int, re.findall(r"\d+", row["pixels"]))) - {256}
        assert (max(depths) > 8) is is_deep
        counts = {count for counts in codec.kinds.values() for count in counts}
        assert ("alpha" in row["channels"]) is bool({2, 4} & counts)
        assert ("gray" in row["channels"]) is bool({1} & counts)
    names = ("num_pages", "page_axes")
    has_pages = any(
        getattr(_kind(codec), n) is not getattr(base.Picture, n) for n in names
    )
    is_one = row["pages"] in ("one", "first frame", "first picture")
    assert has_pages is not is_one or codec.name == "RAW"


@pytest.mark.parametrize("codec", FORMATS, ids=lambda codec: codec.name)
def test_the_table_of_missing_values(codec):
    rows = re.findall(r"^\| (\w+) \| [^|]*\|$", PAGE, re.MULTILINE)
    reads = _kind(codec)._read_missing is not base.Picture._read_missing
    assert (codec.name in rows) is reads


def _extras():
    tree = ast.parse((Path(__file__).parent.parent / "setup.py").read_text("utf-8"))
    return {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)} & {
        *("astronomy", "medical", "microscopy", "photography", "raw"),
    }


# suffix: words of the metadata that Pillow can write, and their values
METADATA = {
    ".png": {"EXIF": "exif", "profile": "icc_profile", "resolution": "dpi"},
    ".jpg": {
        "EXIF": "exif",
        "profile": "icc_profile",
        "resolution": "dpi",
        "XMP": "xmp",
    },
    ".webp": {"EXIF": "exif", "profile": "icc_profile", "XMP": "xmp"},
    ".bmp": {"resolution": "dpi"},
    ".avif": {"EXIF": "exif", "profile": "icc_profile", "XMP": "xmp"},
}


@pytest.mark.parametrize("suffix", METADATA)
def test_the_metadata_of_the_table_are_kept(tmp_path, suffix):
    row = next(row for row in TABLE if f"`{suffix}`" in row["suffixes"])
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    values = {"exif": exif.tobytes(), "icc_profile": profile}
    values |= {"dpi": (300, 300), "xmp": b"<x:xmpmeta/>"}
    given = {name: values[name] for name in METADATA[suffix].values()}
    path = tmp_path / f"a{suffix}"
    pixels = np.random.default_rng(0).integers(0, 255, (16, 18, 3), np.uint8)
    Image.fromarray(pixels).save(path, **given)
    data.write_image(tmp_path / f"b{suffix}", pixels, data.read_metadata(path))
    with Image.open(tmp_path / f"b{suffix}") as image:
        image.load()
        for words, name in METADATA[suffix].items():
            assert words in row["metadata"]
            if name == "exif":
                assert image.getexif()[0x010F] == "Maker"
            elif name == "dpi":
                assert image.info["dpi"] == pytest.approx((300, 300), abs=1)
            else:
                assert image.info[name] == values[name]
    others = {"EXIF", "profile", "resolution", "XMP"} - set(METADATA[suffix])
    if suffix in (".bmp", ".webp", ".avif"):
        assert not any(words in row["metadata"] for words in others)
