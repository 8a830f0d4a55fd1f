"""Formats of cameras and microscopes that are read by extras, or by Pillow."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from nd2_stand_in import write_nd2
from PIL import Image, ImageCms

from tfflowdn import Denoiser, data
from tfflowdn.data.formats import FORMATS
from tfflowdn.models import ResNetDenoiser
from tfflowdn.scripts.denoise import denoise_files
from tfflowdn.scripts.denoise_plan import plan

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 4000, (3, 8, 9, 2)).astype(np.uint16)
SMOOTH = np.uint8(np.add.outer(np.arange(16) * 7, np.arange(24) * 5))[..., None]
SMOOTH = np.concatenate([SMOOTH, 255 - SMOOTH, SMOOTH // 2], -1)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _more(pixels, out):
    np.copyto(out, pixels + 1)


def _copy(pixels, out):
    np.copyto(out, pixels)


# Pictures of one page.


@pytest.mark.parametrize("suffix", [".avif", ".heic", ".jp2", ".j2k"])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pictures_are_written_and_read(tmp_path, suffix, depth, channels):
    pixels = SMOOTH[..., :1] if channels == 1 else SMOOTH
    if channels == 4:
        alpha = np.full((16, 24, 1), 100, np.uint8)
        pixels = np.concatenate([pixels, alpha], -1)
    dtype = np.uint8 if depth == 8 else np.uint16
    largest = np.iinfo(dtype).max
    if depth == 16:  # AVIF has 12 bits at most, which are not scaled.
        largest = 4095 if suffix == ".avif" else largest
        pixels = np.uint16(pixels * (largest / 255))
    path = tmp_path / f"a{suffix}"
    data.write_image(path, pixels)
    assert data.image_header(path) == (16, 24, min(channels, 3), dtype)
    result = data.read_image(path)
    assert result.dtype == dtype
    shift = np.abs(result.astype(float) - pixels) / largest
    assert shift.max() <= (0 if suffix.startswith(".j") else 0.03)


@pytest.mark.parametrize("suffix", [".avif", ".heic"])
def test_profile_exif_and_orientation(tmp_path, suffix):
    if suffix == ".heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    path, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "a camera", 6 if suffix == ".avif" else 1
    options = {"exif": exif, "icc_profile": PROFILE, "xmp": b"<x:xmpmeta/>"}
    Image.fromarray(SMOOTH).save(path, quality=95, **options)
    pixels = data.read_image(path)
    expected = np.rot90(SMOOTH, -1) if suffix == ".avif" else SMOOTH
    assert pixels.shape == expected.shape
    assert np.abs(pixels - expected.astype(float)).mean() < 8
    data.write_image(target, pixels, data.read_metadata(path))
    with Image.open(target) as written:
        assert written.info["icc_profile"] == PROFILE
        assert written.info["xmp"].startswith(b"<x:xmpmeta/>")
        assert written.getexif()[0x010F] == "a camera"
    assert data.read_image(target).shape == pixels.shape


def _with_profile(content):
    """Returns a JP2 file with a profile in its header, and with an XML box."""
    start = content.index(b"jp2h") - 4
    (size,) = struct.unpack_from(">I", content, start)
    header = content[start + 8 : start + size]
    place = header.index(b"colr") - 4
    header = header[:place] + header[place + 15 :]
    body = b"\2\0\0" + PROFILE
    header += struct.pack(">I4s", 8 + len(body), b"colr") + body
    box = struct.pack(">I4s", 8 + len(header), b"jp2h") + header
    xml = struct.pack(">I4s", 12, b"xml ") + b"<a/>"
    return content[:start] + box + xml + content[start + size :]


def test_jpeg_2000_keeps_boxes_bits_and_wavelet(tmp_path):
    import imagecodecs

    path, target = tmp_path / "a.jp2", tmp_path / "b.jp2"
    deep = np.uint16(SMOOTH) * 4
    for reversible in (True, False):
        options = {"level": 0 if reversible else 60, "reversible": reversible}
        content = imagecodecs.jpeg2k_encode(
            deep, codecformat="jp2", bitspersample=10, **options
        )
        path.write_bytes(_with_profile(content))
        pixels = data.read_image(path)
        data.write_image(target, pixels, data.read_metadata(path))
        assert PROFILE in target.read_bytes()
        assert b"xml <a/>" in target.read_bytes()
        values = data.read_metadata(target).values
        assert values["bits"] == 10 and values["is_lossy"] != reversible
        shift = np.abs(data.read_image(target).astype(int) - pixels)
        assert shift.max() <= (0 if reversible else 8)


def _bombs():
    import imagecodecs

    content = imagecodecs.jpeg2k_encode(SMOOTH, codecformat="jp2")
    place = content.index(b"\xff\x4f\xff\x51") + 8
    sides = struct.pack(">II", 60_000, 60_000)
    content = content[:place] + sides + content[place + 8 :]
    place = content.index(b"ihdr") + 4
    return {"a.jp2": content[:place] + sides + content[place + 8 :]}


@pytest.mark.parametrize("suffix", [".avif", ".heic", ".jp2"])
def test_sizes_that_a_file_cannot_hold_are_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    data.write_image(path, SMOOTH)
    content = path.read_bytes()
    if suffix == ".jp2":
        content = _bombs()["a.jp2"]
    else:  # The box with the size that is declared.
        place = content.index(b"ispe") + 8
        sides = struct.pack(">II", 60_000, 60_000)
        content = content[:place] + sides + content[place + 8 :]
    path.write_bytes(content)
    with pytest.raises(data.ImageReadError, match="Received: "):
        data.read_image(path)


# Animations.


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_frames_of_gif_are_pages(tmp_path, mode):
    path, target = tmp_path / "a.gif", tmp_path / "b.gif"
    frames = [
        Image.fromarray(np.roll(SMOOTH, 3 * i, 0)).convert(mode) for i in range(3)
    ]
    if mode == "RGBA":
        for frame in frames:
            frame.putpixel((0, 0), (0, 0, 0, 0))
    options = {"duration": [50, 60, 70], "loop": 2, "comment": b"a test"}
    disposal = 2 if mode == "RGBA" else 0
    first, *others = frames
    first.save(path, save_all=True, append_images=others, disposal=disposal, **options)
    assert data.num_pages(path) == 3
    pages = list(data.read_pages(path, tmp_path))
    assert {page.shape for page in pages} == {(16, 24, 4 if mode == "RGBA" else 3)}
    np.testing.assert_array_equal(next(data.read_pages(path, "", [2])), pages[2])
    data.map_pages(path, target, _copy)
    with Image.open(target) as written:
        assert written.n_frames == 3
        assert (written.info["loop"], written.info["comment"]) == (2, b"a test")
        for index, duration in enumerate(options["duration"]):
            written.seek(index)
            assert written.info["duration"] == duration
    for page, result in zip(pages, data.read_pages(target, ""), strict=True):
        assert np.abs(page.astype(int) - result).mean() < 8
    with pytest.raises(data.ImageReadError, match="a GIF holds 8 bits"):
        data.map_pages(path, target, _copy, np.uint16)


@pytest.mark.parametrize("compression", ["webp", "jpeg2000"])
def test_tiff_keeps_webp_and_jpeg_2000(tmp_path, compression):
    path, target = tmp_path / "a.tif", tmp_path / "b.tif"
    options = {"compressionargs": {"lossless": True}} if compression == "webp" else {}
    tifffile.imwrite(
        path, SMOOTH, photometric="rgb", compression=compression, **options
    )
    data.write_image(target, data.read_image(path), data.read_metadata(path))
    with tifffile.TiffFile(target) as file:
        assert file.pages[0].compression.name.lower() == compression
        np.testing.assert_array_equal(file.asarray(), data.read_image(path))


# Stacks of microscopes.


def _write_nd2(path):
    write_nd2(path, FRAMES, ("DAPI", "GFP"), 0.25)


def _write_czi(path):
    library = pytest.importorskip("pylibCZIrw.czi")
    with library.create_czi(str(path)) as file:
        for time, frame in enumerate(FRAMES):
            for channel in range(2):
                pixels = np.ascontiguousarray(frame[..., channel : channel + 1])
                file.write(pixels, plane={"T": time, "C": channel, "Z": 0})
        names = {0: "DAPI", 1: "GFP"}
        file.write_metadata("a", channel_names=names, scale_x=2.5e-7, scale_y=2.5e-7)


PLANES = np.moveaxis(FRAMES, -1, 1).reshape(6, 8, 9, 1)


def test_nd2_is_read_by_frames_and_written_as_ome_tiff(tmp_path):
    path = tmp_path / "a.nd2"
    _write_nd2(path)
    np.testing.assert_array_equal(list(data.read_pages(path, "")), PLANES)
    target = tmp_path / data.result_name(path.name)
    assert target.name == "a.ome.tif"
    data.map_pages(path, target, _more)
    with tifffile.TiffFile(target) as file:
        assert file.series[0].axes == "TCYX"
        np.testing.assert_array_equal(
            file.asarray(), PLANES[..., 0].reshape(3, 2, 8, 9) + 1
        )
        for text in ('PhysicalSizeX="0.25"', 'Name="DAPI"', 'Name="GFP"', "a test"):
            assert text in file.ome_metadata


def test_nd2_frames_that_are_missing_are_errors(tmp_path):
    path = tmp_path / "a.nd2"
    _write_nd2(path)
    whole = path.read_bytes()
    place = whole.rindex(b"ImageDataSeq|1!") + len(b"ImageDataSeq|1!")
    path.write_bytes(whole[:place] + struct.pack("<Q", 10**9) + whole[place + 8 :])
    with pytest.raises(data.ImageReadError, match="every frame must lie in the file"):
        list(data.read_pages(path, ""))
    place = whole.index("uiHeight\0".encode("utf-16-le")) + 18
    path.write_bytes(whole[:place] + struct.pack("<I", 10**6) + whole[place + 4 :])
    with pytest.raises(data.ImageReadError, match="bytes of pixels must lie in the"):
        data.num_pages(path)


@pytest.mark.parametrize("dtype", [None, "float32"])
def test_czi_is_read_and_written(tmp_path, dtype):
    path, target = tmp_path / "a.czi", tmp_path / "b.czi"
    _write_czi(path)
    planes = [PLANES[2 * t + c] for c in range(2) for t in range(3)]
    found = sorted(page.tobytes() for page in data.read_pages(path, ""))
    assert found == sorted(plane.tobytes() for plane in planes)
    data.map_pages(path, target, _more, dtype)
    pairs = zip(data.read_pages(path, ""), data.read_pages(target, ""), strict=True)
    for before, after in pairs:
        np.testing.assert_array_equal(after, before + 1)
        assert after.dtype == (dtype or "uint16")
    from pylibCZIrw import czi

    with czi.open_czi(str(target)) as file:
        assert file.total_bounding_box["T"] == (0, 3)
        for text in ('Name="DAPI"', 'Name="GFP"', "2.5e-07"):
            assert text in file.raw_metadata


def test_czi_of_more_planes_than_the_file_can_hold_is_an_error(tmp_path):
    library = pytest.importorskip("pylibCZIrw.czi")
    path = tmp_path / "a.czi"
    with library.create_czi(str(path)) as file:
        for time in (0, 10**6):
            file.write(SMOOTH, plane={"T": time, "C": 0, "Z": 0})
    with pytest.raises(data.ImageReadError, match="1000001 planes must lie in the"):
        data.num_pages(path)


def test_czi_of_colors_and_scenes(tmp_path):
    library = pytest.importorskip("pylibCZIrw.czi")
    path, target = tmp_path / "a.czi", tmp_path / "b.czi"
    with library.create_czi(str(path)) as file:
        for scene in range(2):
            options = {"location": (100 * scene, 0), "scene": scene}
            bgr = np.ascontiguousarray(SMOOTH[..., ::-1]) + np.uint8(scene)
            file.write(bgr, plane={"C": 0}, **options)
    pages = list(data.read_pages(path, ""))
    np.testing.assert_array_equal(pages, [SMOOTH, SMOOTH + np.uint8(1)])
    data.map_pages(path, target, _more)
    np.testing.assert_array_equal(
        list(data.read_pages(target, "")), np.stack(pages) + np.uint8(1)
    )


def _write_dng(path):
    pixels = RNG.integers(200, 4000, (64, 96)).astype(np.uint16)
    tags = [
        (33421, 3, 2, (2, 2), True),  # The pattern of the colors: two rows and columns.
        (33422, 1, 4, b"\0\1\1\2", True),
        (50706, 1, 4, b"\1\4\0\0", True),  # The version.
        (50708, 2, 0, "a camera", True),
        (50717, 4, 1, 4095, True),  # The white level.
        (50721, 10, 9, (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1), True),
    ]
    tifffile.imwrite(path, pixels, photometric=32803, extratags=tags, subfiletype=0)


def test_the_table_of_formats_is_complete():
    text = (Path(__file__).parent.parent / "docs/formats.md").read_text()
    rows = {
        line.split("|")[1].strip(): line
        for line in text.splitlines()
        if line.startswith("|") and line.count("|") == 8
    }
    for codec in FORMATS:
        (row,) = (
            r for name, r in rows.items() if codec.name in re.split(r", | \(", name)
        )
        for suffix in codec.suffixes:
            assert f"`{suffix}`" in row
        assert (".tif" in codec.result_suffix) == ("written as OME-TIFF" in row)


def test_raw_files_are_developed(tmp_path, caplog):
    pytest.importorskip("rawpy")
    _write_dng(tmp_path / "a.dng")
    header = data.image_header(tmp_path / "a.dng")
    assert header[2:] == (3, np.uint16)
    denoiser = Denoiser(ResNetDenoiser(num_blocks=1, hidden_channels=2))
    with caplog.at_level("INFO", logger="absl"):
        (written,) = denoise_files([str(tmp_path)], str(tmp_path / "out"), denoiser)
    assert written.name == "a.ome.tif"
    assert "1 result is an OME-TIFF, because no library writes" in caplog.text
    with tifffile.TiffFile(written) as file:
        assert file.asarray().shape == (*header[:2], 3)
        assert file.asarray().dtype == np.uint16 and file.is_ome


# All of them.

WRITERS = {
    "a.avif": lambda path: data.write_image(path, SMOOTH),
    "a.heic": lambda path: data.write_image(path, SMOOTH),
    "a.jp2": lambda path: data.write_image(path, SMOOTH),
    "a.nd2": _write_nd2,
    "a.czi": _write_czi,
    "a.dng": _write_dng,
}


@pytest.mark.filterwarnings("ignore")  # Of the libraries, about what they find.
@pytest.mark.parametrize("name", WRITERS)
def test_damaged_files_are_errors_or_pictures(tmp_path, name):
    path, target = tmp_path / name, tmp_path / f"new_{data.result_name(name)}"
    WRITERS[name](path)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(30):
        content = bytearray(whole)
        if rng.integers(2):
            content = content[: rng.integers(1, len(whole))]
        for place in rng.integers(len(content), size=3):
            content[place] = rng.integers(256)
        path.write_bytes(content)
        try:
            if data.is_stack_or_large(path):
                data.map_pages(path, target, _copy)
            else:
                data.write_image(target, data.read_image(path))
        except ValueError as error:
            assert "Received: " in str(error)
            assert not target.exists()
        target.unlink(missing_ok=True)
        assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("a.heic", "pillow_heif", "photography"),
        ("a.nd2", "nd2", "microscopy"),
        ("a.czi", "pylibCZIrw.czi", "microscopy"),
    ],
)
def test_missing_libraries_are_named(tmp_path, monkeypatch, name, module, extra):
    WRITERS[name](tmp_path / name)
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(data.ImageReadError, match=rf"pip install 'tfflowdn\[{extra}\]"):
        data.num_pages(tmp_path / name)


@pytest.mark.parametrize("given", [(), ("exif",), ("xmp", "icc_profile"), None])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_deep_avif_keeps_metadata(tmp_path, channels, given):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    values = {"exif": exif.tobytes(), "xmp": b"<x/>", "icc_profile": bytes(128) + b"p"}
    values = {n: values[n] for n in (values if given is None else given)}
    pixels = np.random.default_rng(0).integers(0, 1024, (18, 20, channels))
    pixels = pixels.astype(np.uint16)
    path, plain = tmp_path / "a.avif", tmp_path / "b.avif"
    kinds = {"family": "exif", "values": {**values, "avif_bits": 10}}
    data.write_image(path, pixels, data.Metadata(**kinds))
    kinds["values"] = {"avif_bits": 10}
    data.write_image(plain, pixels, data.Metadata(**kinds))
    read = data.read_image(path)
    assert read.shape == pixels.shape and read.dtype == np.uint16
    np.testing.assert_array_equal(read, data.read_image(plain))
    with Image.open(path) as image:
        image.load()
        for name in values:
            if name == "exif":
                assert image.getexif()[0x010F] == "Maker"
            else:
                assert image.info[name] == values[name]
        assert ("exif" in image.info) is ("exif" in values)
    kept = data.read_metadata(path).values
    assert set(values) <= set(kept)


def test_results_in_another_format_do_not_share_a_name(tmp_path):
    for name in ("a.nd2", "a.dng", "b.nd2", "c.nd2", "c.ome.tif"):
        (tmp_path / name).write_bytes(b"")
    pairs, _ = plan([tmp_path], tmp_path / "out")
    assert {source.name: target.name for source, target in pairs} == {
        "a.nd2": "a.nd2.ome.tif",
        "a.dng": "a.dng.ome.tif",
        "b.nd2": "b.ome.tif",
        "c.nd2": "c.nd2.ome.tif",
        "c.ome.tif": "c.ome.tif",
    }
