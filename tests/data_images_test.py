"""Reading and writing of picture files."""

from __future__ import annotations

import errno
import io
import struct
import types
import zlib

import ml_dtypes
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin

from tfflowdn import data
from tfflowdn.data import memory

HEIGHT, WIDTH = 12, 17


def _pixels(channels, dtype="uint8"):
    rng = np.random.default_rng(0)
    shape, dtype = (HEIGHT, WIDTH, channels), np.dtype(dtype)
    if dtype.kind == "f":
        values = rng.normal(size=shape)
    else:
        values = rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, shape)
    return values.astype(dtype)


def _check_header(path, array):
    channels = data.split_alpha(array)[0].shape[-1]
    assert data.image_header(path) == (*array.shape[:2], channels, array.dtype)


@pytest.mark.parametrize(
    "suffix, dtype, channels",
    [(".png", "uint8", c) for c in (1, 2, 3, 4)]
    + [(".TIF", d, c) for d in ("uint8", "uint16", "float32") for c in (1, 2, 3, 4)]
    + [
        (".tif", dtype, channels)
        for dtype in ("int8", "int16", "uint32", "int32", "float16", "float64")
        for channels in (1, 3)
    ]
    + [(".png", "uint16", c) for c in (1, 2, 3, 4)]
    + [(".webp", "uint8", c) for c in (3, 4)],
)
def test_write_then_read_is_exact(tmp_path, suffix, dtype, channels):
    path, array = tmp_path / f"a{suffix}", _pixels(channels, dtype)
    data.write_image(path, array)
    result = data.read_image(path)
    assert result.dtype == array.dtype
    np.testing.assert_array_equal(result, array)
    _check_header(path, array)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_close(tmp_path, channels):
    ramp = np.linspace(0, 255, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, 1)
    array = np.repeat(ramp, channels, axis=-1).astype(np.uint8)
    data.write_image(tmp_path / "a.jpg", array)
    result = data.read_image(tmp_path / "a.jpg")
    assert np.abs(result.astype(int) - array).max() < 12
    _check_header(tmp_path / "a.jpg", array)


def test_palette_one_bit_and_cmyk_are_converted(tmp_path):
    rgb = Image.fromarray(np.repeat(np.eye(8, dtype=np.uint8)[..., None] * 255, 3, -1))
    cases = {
        "palette.png": (rgb.quantize(4), 3),
        "bit.png": (rgb.convert("1"), 1),
        "bit.tif": (rgb.convert("1"), 1),
        "palette.tif": (rgb.quantize(4), 3),
        "cmyk.jpg": (rgb.convert("CMYK"), 3),
        "cmyk.tif": (rgb.convert("CMYK"), 3),
    }
    for name, (picture, channels) in cases.items():
        picture.save(tmp_path / name)
        array = data.read_image(tmp_path / name)
        assert array.shape == (8, 8, channels), name
        tolerance = 60 if name.endswith("jpg") else 0
        expected = np.eye(8)[..., None] * 255
        assert np.abs(array.astype(int) - expected).max() <= tolerance, name
        _check_header(tmp_path / name, array)


def test_transparent_palette_keeps_alpha(tmp_path):
    picture = Image.fromarray(_pixels(3)).quantize(8)
    picture.save(tmp_path / "a.png", transparency=0)
    array = data.read_image(tmp_path / "a.png")
    assert array.shape == (HEIGHT, WIDTH, 4) and array[..., 3].min() == 0
    _check_header(tmp_path / "a.png", array)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_alike_by_all_formats(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    deep, shallow = _pixels(1, "uint16"), _pixels(3)
    Image.fromarray(deep[..., 0]).save(tmp_path / "deep.png", exif=exif)
    Image.fromarray(shallow).save(tmp_path / "shallow.png", exif=exif)
    tag = [(0x0112, "H", 1, orientation, True)]
    for name, array in (("deep.tif", deep[..., 0]), ("shallow.tif", shallow)):
        kind = "rgb" if array.ndim == 3 else "minisblack"
        tifffile.imwrite(tmp_path / name, array, photometric=kind, extratags=tag)
    for suffix in ("jpg", "webp", "avif"):
        Image.fromarray(shallow).save(tmp_path / f"other.{suffix}", exif=exif)
    for path in tmp_path.iterdir():  # `denoise` reads the metadata first.
        with data.open_picture(path) as picture:
            assert picture.metadata() is not None
            read = picture.read()
        np.testing.assert_array_equal(read, data.read_image(path))
        data.write_image(
            path.with_stem(f"new_{path.stem}"), read, data.read_metadata(path)
        )
    results = {p.stem + p.suffix: data.read_image(p) for p in tmp_path.iterdir()}
    for kind in ("deep", "shallow"):
        png, tif = results[f"{kind}.png"], results[f"{kind}.tif"]
        np.testing.assert_array_equal(png, tif)
        rotated = orientation >= 5
        assert png.shape[:2] == ((WIDTH, HEIGHT) if rotated else (HEIGHT, WIDTH))
        _check_header(tmp_path / f"{kind}.png", png)
        _check_header(tmp_path / f"{kind}.tif", tif)
    for path in tmp_path.glob("new_*"):
        size = (WIDTH, HEIGHT) if rotated else (HEIGHT, WIDTH)
        assert data.read_image(path).shape[:2] == size, path.name


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_planar_and_big_endian_tiff(tmp_path, dtype):
    array = _pixels(3, dtype)
    planes = np.moveaxis(array, -1, 0)
    layout = {"photometric": "rgb", "planarconfig": "separate", "byteorder": ">"}
    tifffile.imwrite(tmp_path / "a.tif", planes, **layout)
    result = data.read_image(tmp_path / "a.tif")
    data.write_image(tmp_path / "b.tif", result, data.read_metadata(tmp_path / "a.tif"))
    with tifffile.TiffFile(tmp_path / "b.tif") as tiff:
        assert tiff.pages[0].planarconfig == tifffile.PLANARCONFIG.SEPARATE
        np.testing.assert_array_equal(tiff.asarray(), planes)
    assert result.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(result, array)
    _check_header(tmp_path / "a.tif", array)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_white_is_zero_tiff_is_inverted(tmp_path, dtype):
    array = _pixels(1, dtype)
    tifffile.imwrite(tmp_path / "a.tif", array[..., 0], photometric="miniswhite")
    result = data.read_image(tmp_path / "a.tif")
    info = np.iinfo(dtype)
    np.testing.assert_array_equal(result, info.max + info.min - array.astype(int))


def test_the_content_decides_the_format(tmp_path):
    array = _pixels(1)
    data.write_image(tmp_path / "a.png", array)
    (tmp_path / "a.png").rename(tmp_path / "a.tif")
    np.testing.assert_array_equal(data.read_image(tmp_path / "a.tif"), array)


def _break_16_bit_rgb_png(path):
    data.write_image(path, _pixels(3, "uint16"))
    content = bytearray(path.read_bytes())
    content[20] ^= 1  # The width, and with it the checksum.
    path.write_bytes(content)


@pytest.mark.parametrize(
    "name, write, message",
    [
        ("a.png", _break_16_bit_rgb_png, "readable"),
        (
            "a.tif",
            lambda p: tifffile.imwrite(p, np.zeros((3, 8, 8), "u1"), photometric=1),
            "one page. Received: num_pages=3",
        ),
        (
            "a.tif",
            lambda p: tifffile.imwrite(p, np.zeros((8, 8), "c8")),
            "dtype=complex64",
        ),
        ("a.png", lambda p: p.write_bytes(b"not a picture"), "cannot identify"),
        ("a.tif", lambda p: p.write_bytes(b"II*\0"), "readable"),
        ("a.png", lambda p: p.write_bytes(b""), "cannot identify"),
        ("a.png", lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n"), "readable"),
        ("a.png", lambda _: None, "No such file"),
    ],
)
def test_header_and_pixels_of_unfit_files_are_errors(tmp_path, name, write, message):
    path = tmp_path / name
    write(path)
    for read in (data.read_image, data.image_header):
        with pytest.raises(data.ImageReadError, match=message) as caught:
            read(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("kept", [0.3, 0.9])
@pytest.mark.parametrize(
    "name, dtype",
    [("a.png", "uint8"), ("a.jpg", "uint8"), ("a.tif", "uint8"), ("a.tif", "uint16")],
)
def test_truncated_files_are_errors(tmp_path, name, dtype, kept):
    path = tmp_path / name
    array = np.random.default_rng(0).integers(0, 256, (64, 64, 1))
    data.write_image(path, array.astype(dtype))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(data.ImageReadError, match=f"{name}', which fails with"):
        data.read_image(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_pixels_that_are_not_finite_are_read_and_written(tmp_path, bad):
    array = np.zeros((4, 4, 1))
    array[1, 2] = bad
    tifffile.imwrite(tmp_path / "a.tif", array[..., 0])
    np.testing.assert_array_equal(data.read_image(tmp_path / "a.tif"), array)
    data.write_image(tmp_path / "b.tif", array)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), array[..., 0])


@pytest.mark.parametrize(
    "name, array, message",
    [
        ("a.png", _pixels(1, "float32"), "format must hold these pixels"),
        ("a.webp", _pixels(3, "uint16"), "suffix='.webp', dtype='uint16', channels=3"),
        ("a.jpg", _pixels(1, "uint16"), "format must hold"),
        ("a.jpg", _pixels(4), "format must hold"),
        ("a.tif", _pixels(1).astype("complex64"), "format must hold"),
        ("a.xyz", _pixels(1), "path must end in"),
        ("a.png", _pixels(1)[..., 0], r"must be \[H, W, C\]"),
        ("a.png", _pixels(5), "PNG holds uint8 with 1, 2, 3, 4 channels"),
    ],
)
def test_unfit_arrays_are_not_written(tmp_path, name, array, message):
    with pytest.raises(ValueError, match=message):
        data.write_image(tmp_path / name, array)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    data.write_image(path, _pixels(1))
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        data.write_image(path, _pixels(3))
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_split_alpha():
    for channels, colors in ((1, 1), (2, 1), (3, 3), (4, 3)):
        array = _pixels(channels)
        color, alpha = data.split_alpha(array)
        np.testing.assert_array_equal(color, array[..., :colors])
        if channels == colors:
            assert alpha is None
        else:
            np.testing.assert_array_equal(alpha, array[..., -1:])


def _exif():
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif[0x0112] = 6  # Turned to the right.
    exif.get_ifd(0x8769)[0x9003] = "2026:01:02 03:04:05"
    return exif


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_profile_resolution_and_exif_are_kept(tmp_path, suffix):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    source, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    stored = Image.fromarray(_pixels(3))
    stored.save(source, exif=_exif(), icc_profile=profile, dpi=(300, 200))
    array, metadata = data.read_image(source), data.read_metadata(source)
    assert array.shape == (WIDTH, HEIGHT, 3)
    data.write_image(target, array, metadata)
    with Image.open(target) as picture:
        exif = picture.getexif()
        assert picture.info["icc_profile"] == profile
        assert exif[0x010F] == "Maker"
        assert exif.get_ifd(0x8769)[0x9003] == "2026:01:02 03:04:05"
        assert exif.get(0x0112, 1) == 1
        if suffix != ".webp":  # WebP has only the EXIF resolution.
            assert picture.info["dpi"] == pytest.approx((300, 200), abs=0.02)
    assert data.read_image(target).shape == array.shape  # Not turned once more.


def test_deep_png_keeps_them_and_is_turned(tmp_path):
    array, exif = _pixels(3, "uint16"), _exif()
    values = {"exif": exif.tobytes(), "icc_profile": b"profile", "dpi": (300, 200)}
    data.write_image(tmp_path / "a.png", array, data.Metadata("exif", values))
    turned = data.read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(turned, np.rot90(array, -1))
    _check_header(tmp_path / "a.png", turned)
    metadata = data.read_metadata(tmp_path / "a.png")
    data.write_image(tmp_path / "b.png", turned, metadata)
    np.testing.assert_array_equal(data.read_image(tmp_path / "b.png"), turned)
    again = data.read_metadata(tmp_path / "b.png").values
    assert again["icc_profile"] == b"profile"
    assert again["dpi"] == pytest.approx((300, 200), abs=0.02)
    exif.load(again["exif"])
    assert exif[0x010F] == "Maker"
    assert 0x0112 not in exif


def test_tiff_keeps_resolution_profile_and_texts(tmp_path):
    description = "<OME>\N{MICRO SIGN}m</OME>".encode()
    tifffile.imwrite(
        tmp_path / "a.tif",
        _pixels(1, "uint16")[..., 0],
        description=description,
        resolution=((10_000, 3), (5000, 1)),
        resolutionunit="CENTIMETER",
        iccprofile=b"profile",
        metadata=None,
        software="Scope",
        datetime="2026:01:02 03:04:05",
    )
    array = data.read_image(tmp_path / "a.tif")
    metadata = data.read_metadata(tmp_path / "a.tif")
    data.write_image(tmp_path / "b.tif", array, metadata)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        tags = {tag.code: tag.value for tag in file.pages[0].tags.values()}
    assert tags[270].encode() == description
    assert (tags[282], tags[283], tags[296]) == ((10_000, 3), (5000, 1), 3)
    assert tags[34675] == b"profile"
    assert (tags[305], tags[306]) == ("Scope", "2026:01:02 03:04:05")
    np.testing.assert_array_equal(data.read_image(tmp_path / "b.tif"), array)


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_a_profile_of_inks_is_not_kept_with_rgb(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    cmyk = Image.fromarray(_pixels(3)).convert("CMYK")
    cmyk.save(path, icc_profile=b"profile of inks", dpi=(300, 300))
    values = data.read_metadata(path).values
    assert "resolution" in values or "dpi" in values
    assert not {"icc_profile", "iccprofile"} & set(values)


def test_jpeg_keeps_the_color_of_single_pixels(tmp_path):
    array = np.full((16, 16, 3), 128, np.uint8)
    array[::2, ::2] = (200, 100, 100)
    data.write_image(tmp_path / "a.jpg", array)
    error = np.abs(data.read_image(tmp_path / "a.jpg").astype(int) - array)
    assert error.max() < 12


@pytest.mark.parametrize("compression", ["lzw", "zlib", "zstd", "jpeg2000", "lerc"])
def test_compressed_tiff_of_8_bits(tmp_path, compression):
    array = _pixels(3)
    options = {"photometric": "rgb", "compression": compression}
    tifffile.imwrite(tmp_path / "a.tif", array, **options)
    np.testing.assert_array_equal(data.read_image(tmp_path / "a.tif"), array)


def test_metadata_of_another_family_is_left_out(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", _pixels(1)[..., 0], resolution=(300, 300))
    metadata = data.read_metadata(tmp_path / "a.tif")
    data.write_image(tmp_path / "a.png", _pixels(1), metadata)
    assert not data.read_metadata(tmp_path / "a.png").values


def _write_gray(path, stack, **options):
    tifffile.imwrite(path, stack, photometric="minisblack", **options)


@pytest.mark.parametrize("is_large", [False, True])
def test_arrays_are_read_by_need_and_written_whole(tmp_path, monkeypatch, is_large):
    array, seen = _pixels(1)[..., 0], []
    np.save(tmp_path / "a.npy", array)
    monkeypatch.setattr(memory, "is_large", lambda _: is_large)

    def negative(pixels, out):
        seen.extend([pixels, out])
        _fill_negative(pixels, out)

    size = data.map_array(tmp_path / "a.npy", tmp_path / "b.npy", negative)
    assert size == array.size
    assert [isinstance(values, np.memmap) for values in seen] == [True, is_large]
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), _negative(array))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npy", "b.npy"]


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"not an array"])
def test_broken_arrays_are_errors(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(data.ImageReadError, match=r"a\.npy"):
        data.map_array(tmp_path / "a.npy", tmp_path / "b.npy", _fill_negative)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


def _negative(pixels):
    return np.iinfo(pixels.dtype).max - pixels


def _fill_negative(pixels, out):
    out[:] = _negative(pixels)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bigtiff": True},
        {"tile": (16, 16), "compression": "zlib"},
        {"compression": "lzw"},
        {"imagej": True, "metadata": {"axes": "TZYX"}},
        {"ome": True, "metadata": {"axes": "TZYX", "PhysicalSizeX": 0.1}},
    ],
    ids=str,
)
def test_every_page_of_a_stack_is_mapped(tmp_path, options):
    shape = (2, 3, HEIGHT, WIDTH)
    stack = np.random.default_rng(0).integers(0, 2**16, shape, np.uint16)
    source, target = tmp_path / "a.tif", tmp_path / "b.tif"
    _write_gray(source, stack, **options)
    assert data.is_stack_or_large(source)
    seen = []

    def negative(pixels, out):
        seen.append(pixels.shape)
        _fill_negative(pixels, out)

    assert data.map_pages(source, target, negative) == stack.size
    assert seen == [(HEIGHT, WIDTH, 1)] * 6
    with tifffile.TiffFile(source) as before, tifffile.TiffFile(target) as after:
        assert after.is_bigtiff == before.is_bigtiff
        tags = [set(file.pages[0].tags.keys()) for file in (before, after)]
        assert tags[0] <= tags[1]
        for page, reference in zip(after.pages, before.pages, strict=True):
            assert page.is_tiled == reference.is_tiled
            assert page.compression == reference.compression
        pages = np.stack([page.asarray() for page in after.pages])
        for name in ("axes", "shape") if "metadata" in options else ():
            expected = getattr(before.series[0], name)
            assert getattr(after.series[0], name) == expected
    np.testing.assert_array_equal(pages.reshape(shape), _negative(stack))


def test_imagej_stack_without_pages(tmp_path):
    stack = np.random.default_rng(0).integers(0, 255, (3, HEIGHT, WIDTH), np.uint8)
    path = tmp_path / "a.tif"
    _write_gray(path, stack, imagej=True, metadata={"axes": "ZYX"})
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:  # As ImageJ writes it beyond 4 GiB.
        next_page = file.pages[0].offset + 2 + 12 * len(file.pages[0].tags)
    content[next_page : next_page + 4] = bytes(4)
    path.write_bytes(content)
    data.map_pages(path, tmp_path / "b.tif", _fill_negative)
    result = tifffile.imread(tmp_path / "b.tif")
    np.testing.assert_array_equal(result, _negative(stack))


def test_a_stack_of_pages_of_several_kinds(tmp_path):
    pages = [_pixels(1), _pixels(3, "uint16"), _pixels(4)[:5]]
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in pages:
            kind = "minisblack" if page.shape[-1] == 1 else "rgb"
            writer.write(np.squeeze(page), photometric=kind)
    data.map_pages(tmp_path / "a.tif", tmp_path / "b.tif", _fill_negative)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        for page, expected in zip(file.pages, pages, strict=True):
            result = page.asarray().reshape(expected.shape)
            np.testing.assert_array_equal(result, _negative(expected))


def test_a_broken_stack_leaves_nothing(tmp_path):
    stack = np.zeros((3, HEIGHT, WIDTH), np.uint8)
    _write_gray(tmp_path / "a.tif", stack, compression="zlib", metadata=None)
    content = (tmp_path / "a.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        start = file.pages[2].dataoffsets[0]
    (tmp_path / "a.tif").write_bytes(content[:start] + b"\xff" + content[start + 1 :])
    with pytest.raises(data.ImageReadError, match=r"a\.tif"):
        data.map_pages(tmp_path / "a.tif", tmp_path / "b.tif", _fill_negative)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "tile": (16, 16)}])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_page_stays_on_disk(tmp_path, monkeypatch, options, orientation):
    pixels = _pixels(3, "uint16")
    source, target = tmp_path / "a.tif", tmp_path / "b.tif"
    turned = [(0x0112, 3, 1, orientation, True)]
    tifffile.imwrite(source, pixels, photometric="rgb", extratags=turned, **options)
    assert not data.is_stack_or_large(source)
    expected = data.read_image(source)
    monkeypatch.setattr(memory, "is_large", lambda num_bytes: num_bytes > 100)
    assert data.is_stack_or_large(source)
    kinds = []

    def negative(pixels, out):
        kinds.extend([pixels, out])
        _fill_negative(pixels, out)

    data.map_pages(source, target, negative)
    assert all(isinstance(array, np.memmap) for array in kinds)
    np.testing.assert_array_equal(tifffile.imread(target), _negative(expected))
    with tifffile.TiffFile(target) as file:
        assert file.pages[0].is_tiled == ("tile" in options)


@pytest.mark.parametrize("num_lost", [20, 200, 500])
def test_a_stack_that_lost_its_last_pages_is_an_error(tmp_path, num_lost):
    path = tmp_path / "a.tif"
    stack = np.zeros((3, HEIGHT, WIDTH), np.uint8)
    _write_gray(path, stack, imagej=True)  # Pages are listed behind all pixels.
    path.write_bytes(path.read_bytes()[:-num_lost])
    for use in (
        lambda: data.read_image(path),
        lambda: data.is_stack_or_large(path),
        lambda: list(data.read_pages(path, tmp_path)),
        lambda: data.map_pages(path, tmp_path / "b.tif", _fill_negative),
    ):
        with pytest.raises(data.ImageReadError, match="seems cut off"):
            use()


def test_a_stack_of_1_bit_pages_is_black_and_white(tmp_path):
    pages = np.random.default_rng(0).integers(0, 2, (2, 8, 16), np.uint8)
    pictures = [Image.fromarray(255 * page).convert("1") for page in pages]
    pictures[0].save(tmp_path / "a.tif", save_all=True, append_images=pictures[1:])
    data.map_pages(tmp_path / "a.tif", tmp_path / "b.tif", _fill_negative)
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "b.tif"), 255 * (1 - pages)
    )


def test_a_stack_of_palettes_is_refused(tmp_path):
    pages = [Image.fromarray(_pixels(3)).quantize(4)] * 2
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(data.ImageReadError, match="Received: photometric=PALETTE"):
        data.map_pages(tmp_path / "a.tif", tmp_path / "b.tif", _fill_negative)


def test_conversions_are_named(tmp_path):
    rgb = Image.fromarray(_pixels(3))
    cases = {
        "palette.png": (rgb.quantize(4), "P to RGB"),
        "bit.png": (rgb.convert("1"), "1 to L"),
        "bit.tif": (rgb.convert("1"), "1 bit to 8"),
        "palette.tif": (rgb.quantize(4), "PALETTE to RGB"),
        "cmyk.jpg": (rgb.convert("CMYK"), "CMYK to RGB"),
        "cmyk.tif": (rgb.convert("CMYK"), "SEPARATED to RGB"),
        "gray.jpg": (rgb.convert("L"), ""),
        "gray.tif": (rgb.convert("L"), ""),
        "alpha.webp": (rgb.convert("RGBA"), ""),
    }
    for name, (picture, expected) in cases.items():
        picture.save(tmp_path / name)
        assert data.read_metadata(tmp_path / name).conversion == expected
    for channels in (1, 3, 4):
        data.write_image(tmp_path / "deep.png", _pixels(channels, "uint16"))
        assert not data.read_metadata(tmp_path / "deep.png").conversion


def _sparse_png(path, side, bits=8):
    """Writes a blank gray PNG, a row of which is compressed once for all."""

    def chunk(kind, content):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    encoder = zlib.compressobj(1)
    row = bytes(1 + side * bits // 8)
    data = b"".join(encoder.compress(row) for _ in range(side)) + encoder.flush()
    header = struct.pack(">IIBBBBB", side, side, bits, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def test_a_picture_of_200_megapixels_is_read_if_it_fits(tmp_path, monkeypatch):
    _sparse_png(tmp_path / "a.png", 14_200)  # Above the limit of Pillow's own.
    assert data.image_header(tmp_path / "a.png").height == 14_200
    free = types.SimpleNamespace(available=2**29)
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: free)
    with pytest.raises(data.ImageReadError, match="14200 x 14200 x 1 uint8 .* 0.9 GiB"):
        data.read_image(tmp_path / "a.png")
    free.available = 2**31
    array = data.read_image(tmp_path / "a.png")
    assert array.shape == (14_200, 14_200, 1)
    assert array.max() == 0


def test_an_animation_says_what_is_left_out(tmp_path):
    frames = [Image.fromarray(_pixels(3))] * 3
    frames[1] = Image.fromarray(255 - _pixels(3))
    for name in ("a.png", "a.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        conversion = data.read_metadata(tmp_path / name).conversion
        assert conversion == "3 frames to the first"


@pytest.mark.parametrize("orientation", [0, 9, 256])
def test_an_orientation_outside_1_to_8_is_1(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    array = _pixels(3)
    tag = [(0x0112, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", extratags=tag)
    Image.fromarray(array).save(tmp_path / "a.png", exif=exif)
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(data.read_image(path), array)
        _check_header(path, array)


def test_an_orientation_of_another_type_is_1(tmp_path):
    array = _pixels(3)
    tag = [(0x0112, "s", 2, "1", True)]
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", extratags=tag)
    np.testing.assert_array_equal(data.read_image(tmp_path / "a.tif"), array)


@pytest.mark.parametrize(
    "shape, options",
    [
        ((6, HEIGHT, WIDTH), {"photometric": "minisblack"}),
        ((6, HEIGHT, WIDTH), {"photometric": "miniswhite"}),
        ((5, HEIGHT, WIDTH, 3), {"photometric": "rgb"}),
        ((5, HEIGHT, WIDTH, 3), {"imagej": True, "metadata": {"axes": "ZYXS"}}),
    ],
)
def test_planes_behind_one_page_are_all_written(tmp_path, shape, options):
    stack = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    source, target = tmp_path / "a.tif", tmp_path / "b.tif"
    tifffile.imwrite(source, stack, truncate=True, **options)
    with tifffile.TiffFile(source) as file:
        assert len(file.pages) == 1
    assert data.is_stack_or_large(source)
    assert data.num_pages(source) == len(stack)
    data.map_pages(source, target, _fill_negative)
    expected = stack if options.get("photometric") == "miniswhite" else 255 - stack
    np.testing.assert_array_equal(tifffile.imread(target), expected)
    with tifffile.TiffFile(target) as file:
        assert len(file.pages) == len(stack)
    assert data.num_pages(target) == len(stack)


def test_planes_without_pages_next_to_pages_are_an_error(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for _ in range(3):
            stack = np.zeros((2, HEIGHT, WIDTH), np.uint8)
            writer.write(stack, photometric="minisblack", truncate=True)
    with pytest.raises(data.ImageReadError, match="must have a page"):
        data.map_pages(tmp_path / "a.tif", tmp_path / "b.tif", _fill_negative)


@pytest.mark.parametrize("alpha", ["assocalpha", "unassalpha"])
def test_tiff_keeps_the_kind_of_alpha(tmp_path, alpha):
    options = {"photometric": "rgb", "extrasamples": [alpha]}
    tifffile.imwrite(tmp_path / "a.tif", _pixels(4), **options)
    array = data.read_image(tmp_path / "a.tif")
    data.write_image(tmp_path / "b.tif", array, data.read_metadata(tmp_path / "a.tif"))
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.pages[0].extrasamples == (tifffile.EXTRASAMPLE[alpha.upper()],)


@pytest.mark.parametrize(
    "codec, predictor, dtype",
    [(c, True, d) for c in ("lzw", "zlib", "zstd") for d in ("uint8", "float32")]
    + [("lzma", True, "uint16"), ("packbits", False, "uint8")]
    + [("jpeg2000", False, "uint16"), ("lerc", False, "float32")],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_tiff_keeps_its_lossless_encoding(tmp_path, codec, predictor, dtype, channels):
    array, tile = _pixels(channels, dtype), (16, 32)
    tifffile.imwrite(
        tmp_path / "a.tif",
        array[..., 0] if channels == 1 else array,
        photometric="minisblack" if channels == 1 else "rgb",
        compression=codec,
        predictor=predictor,
        tile=tile,
    )
    metadata = data.read_metadata(tmp_path / "a.tif")
    data.write_image(tmp_path / "b.tif", array, metadata)
    np.testing.assert_array_equal(data.read_image(tmp_path / "b.tif"), array)
    pages = []
    for name in ("a.tif", "b.tif"):
        with tifffile.TiffFile(tmp_path / name) as file:
            page = file.pages[0]
            tile = (page.tilelength, page.tilewidth)
            pages.append((page.compression, page.predictor, tile))
    assert pages[0] == pages[1]


@pytest.mark.parametrize("compression, expected", [(None, False), ("lzw", True)])
def test_a_result_that_may_pass_4_gib_is_a_bigtiff(
    tmp_path, monkeypatch, compression, expected
):
    stack = np.zeros((3, HEIGHT, WIDTH), np.uint8)
    _write_gray(tmp_path / "a.tif", stack, compression=compression)
    monkeypatch.setattr("tfflowdn.data.formats.tiff._CLASSIC_BYTES", stack.nbytes)
    for name, written in (("b.tif", expected), ("c.tif", True)):
        data.map_pages(tmp_path / "a.tif", tmp_path / name, _fill_negative)
        with tifffile.TiffFile(tmp_path / name) as file:
            assert file.is_bigtiff == written
        limit = stack.nbytes - 1
        monkeypatch.setattr("tfflowdn.data.formats.tiff._CLASSIC_BYTES", limit)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_transparent_color_of_a_png_becomes_alpha(tmp_path, dtype, channels):
    array = _pixels(channels, dtype)
    data.write_image(tmp_path / "a.png", array)
    content = (tmp_path / "a.png").read_bytes()
    color = struct.pack(f">{channels}H", *array[2, 3])
    chunk = b"tRNS" + color
    chunk = struct.pack(">I", len(color)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "a.png").write_bytes(content[:33] + chunk + content[33:])
    result = data.read_image(tmp_path / "a.png")
    is_visible = (array != array[2, 3]).any(-1, keepdims=True)
    alpha = np.iinfo(dtype).max * is_visible
    np.testing.assert_array_equal(result, np.concatenate([array, alpha], -1))
    _check_header(tmp_path / "a.png", result)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_png_keeps_gamma_and_cicp(tmp_path, dtype):
    chunks = ((b"gAMA", struct.pack(">I", 100_000)), (b"cICP", b"\x09\x10\0\x01"))
    metadata = data.Metadata("exif", {"png_chunks": chunks})
    data.write_image(tmp_path / "a.png", _pixels(3, dtype), metadata)
    kept = data.read_metadata(tmp_path / "a.png")
    assert dict(kept.values["png_chunks"]) == dict(chunks)
    data.write_image(tmp_path / "b.png", _pixels(3, dtype), kept)
    assert data.read_metadata(tmp_path / "b.png") == kept
    with Image.open(tmp_path / "b.png") as picture:
        assert picture.info["gamma"] == 1.0


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 80}])
@pytest.mark.parametrize("channels", [3, 4])
def test_webp_stays_lossy_or_lossless(tmp_path, options, channels):
    Image.fromarray(_pixels(channels)).save(tmp_path / "a.webp", **options)
    array = data.read_image(tmp_path / "a.webp")
    metadata = data.read_metadata(tmp_path / "a.webp")
    data.write_image(tmp_path / "b.webp", array, metadata)
    is_exact = np.array_equal(data.read_image(tmp_path / "b.webp"), array)
    assert is_exact == ("lossless" in options)
    assert data.read_metadata(tmp_path / "b.webp") == metadata


@pytest.mark.parametrize("name", ["a.bmp", "a.gif", "a.jfif", "a.jpe"])
@pytest.mark.parametrize("channels", [1, 3])
def test_more_formats_are_read_and_written(tmp_path, name, channels):
    array = np.zeros((HEIGHT, WIDTH, channels), np.uint8)
    array[3:] = (200, 180, 160)[:channels]
    data.write_image(tmp_path / name, array)
    result = data.read_image(tmp_path / name)
    assert data.split_alpha(result)[0].shape == array.shape
    assert np.abs(result.astype(int) - array).max() < 12
    assert name[1:] in data.IMAGE_SUFFIXES


@pytest.mark.parametrize("unit, x, y", [(0, 2, 1), (1, 300, 150), (2, 65535, 40000)])
def test_the_density_of_jpeg_is_kept_as_it_is_stored(tmp_path, unit, x, y):
    path, target = tmp_path / "a.jpg", tmp_path / "b.jpg"
    Image.fromarray(_pixels(3)).save(path)
    content = bytearray(path.read_bytes())
    content[13:18] = struct.pack(">BHH", unit, x, y)
    path.write_bytes(content)
    data.write_image(target, data.read_image(path), data.read_metadata(path))
    assert struct.unpack(">BHH", target.read_bytes()[13:18]) == (unit, x, y)


def test_a_density_that_jpeg_cannot_hold_is_left_out(tmp_path):
    metadata = data.Metadata("exif", {"dpi": (100_000, 100_000)})
    data.write_image(tmp_path / "a.jpg", _pixels(3), metadata)
    assert "dpi" not in data.read_metadata(tmp_path / "a.jpg").values


@pytest.mark.parametrize(
    "name, start", [("a.cr2", b"II*\0\x10\0\0\0CR\2\0"), ("a.nef", b"MM\0*\0\0\0\x08")]
)
def test_raw_files_are_refused_as_such(tmp_path, monkeypatch, name, start):
    (tmp_path / name).write_bytes(start + bytes(100))
    monkeypatch.setattr("tfflowdn.data.formats.raw.is_installed", lambda: False)
    with pytest.raises(data.ImageReadError, match="RAW is not supported"):
        data.read_image(tmp_path / name)


def test_names_of_255_bytes_are_written(tmp_path):
    path = tmp_path / ("n" * 251 + ".png")
    data.write_image(path, _pixels(1))
    np.testing.assert_array_equal(data.read_image(path), _pixels(1))


@pytest.mark.parametrize("suffix", data.IMAGE_SUFFIXES)
def test_a_picture_is_opened_once(tmp_path, monkeypatch, suffix):
    path, opened = tmp_path / f"a{suffix}", []
    data.write_image(path, _pixels(3))
    real_open = io.open
    monkeypatch.setattr(
        "builtins.open", lambda *a, **k: opened.append(a[0]) or real_open(*a, **k)
    )
    with data.open_picture(path) as picture:
        assert not picture.is_stack_or_large
        picture.header(), picture.metadata(), picture.read()
    assert opened.count(path) == 1


def test_a_stack_on_a_full_disk_names_the_disk(tmp_path):
    _write_gray(tmp_path / "a.tif", np.zeros((2, HEIGHT, WIDTH), np.uint8))

    def fill(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"disk must have room for b\.tif"):
        data.map_pages(tmp_path / "a.tif", tmp_path / "b.tif", fill)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_damaged_exif_is_left_out_and_named(tmp_path, monkeypatch):
    Image.fromarray(_pixels(3)).save(tmp_path / "a.jpg", exif=_exif())
    monkeypatch.setattr(Image.Exif, "tobytes", lambda *_: struct.pack("B", 256))
    metadata = data.read_metadata(tmp_path / "a.jpg")
    assert "exif" not in metadata.values
    assert metadata.conversion == "EXIF that cannot be copied is left out"


def _copy_file(source, target):
    if data.is_stack_or_large(source):
        data.map_pages(source, target, lambda pixels, out: np.copyto(out, pixels))
    else:
        data.write_image(target, data.read_image(source), data.read_metadata(source))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("num_pages", [1, 3])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_tiff_keeps_other_tags_and_its_byte_order(tmp_path, order, num_pages, bigtiff):
    tags = [
        (33550, "d", 3, (1.5, 2.0, 0.0), True),
        (34735, "H", 4, (1, 1, 0, 7), True),
        (700, "B", 6, b"<xmp/>", True),
        (42112, "s", 0, "<GDALMetadata/>", True),
        (65000, "I", 2, (7, 70_000), True),
    ]
    stack = np.stack([_pixels(1, "uint16")[..., 0]] * num_pages)
    options = {"extratags": tags, "byteorder": order, "bigtiff": bigtiff}
    tifffile.imwrite(tmp_path / "a.tif", np.squeeze(stack), photometric=1, **options)
    _copy_file(tmp_path / "a.tif", tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.byteorder == order
        values = {tag.code: tag.value for tag in file.pages[0].tags.values()}
        np.testing.assert_array_equal(file.asarray(), np.squeeze(stack))
    for code, _, _, value, _ in tags:
        assert values[code] == value


def test_tiff_keeps_exif_and_gps(tmp_path):
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[34665] = {36867: "2026:01:02 03:04:05", 33434: 0.02, 37500: b"maker" * 9}
    info[34853] = {1: "N", 2: (1.0, 2.0, 3.5)}
    for name, mode in (("a.tif", "RGB"), ("b.tif", "L")):
        path = tmp_path / name
        Image.fromarray(_pixels(3)).convert(mode).save(path, tiffinfo=info)
        _copy_file(path, tmp_path / f"new_{name}")
        exifs = []
        for file in (path, tmp_path / f"new_{name}"):
            with Image.open(file) as picture:
                exif = picture.getexif()
                exifs.append([dict(exif.get_ifd(code)) for code in (34665, 34853)])
        assert exifs[0] == exifs[1]
        assert exifs[0][0][36867] == "2026:01:02 03:04:05"
        assert exifs[0][1][2] == (1.0, 2.0, 3.5)


def test_imagej_keeps_labels_lookup_tables_and_regions(tmp_path):
    table = np.tile(np.arange(256, dtype=np.uint8), (3, 1))
    metadata = {"Labels": ["a", "b"], "LUTs": [table], "ROI": b"roi", "axes": "ZYX"}
    stack = np.zeros((2, HEIGHT, WIDTH), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata=metadata)
    _copy_file(tmp_path / "a.tif", tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.series[0].axes == "ZYX"
        kept = file.imagej_metadata
    assert (kept["Labels"], kept["ROI"]) == (["a", "b"], b"roi")
    np.testing.assert_array_equal(kept["LUTs"], table)


def test_smaller_copies_within_a_tiff_are_named(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(_pixels(1)[..., 0], subifds=1)
        writer.write(_pixels(1)[::2, ::2, 0], subfiletype=1)
    note = data.read_metadata(tmp_path / "a.tif").conversion
    assert note == "smaller copies (SubIFDs) are left out"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".gif"])
def test_texts_comments_and_xmp_are_kept(tmp_path, suffix):
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", "me")
    info.add_text("long", "y" * 100, zip=True)
    info.add_itxt("XML:com.adobe.xmp", "<x/>")
    iptc = b"Photoshop 3.0\0" + b"123456"
    options = {
        ".png": {"pnginfo": info},
        ".jpg": {"comment": b"hello", "xmp": b"<x/>"},
        ".webp": {"xmp": b"<x/>"},
        ".gif": {"comment": b"hello"},
    }[suffix]
    if suffix == ".jpg":
        length = struct.pack(">H", len(iptc) + 2)
        options["extra"] = b"\xff\xed" + length + iptc
    source, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    Image.fromarray(_pixels(3)).save(source, **options)
    _copy_file(source, target)
    with Image.open(target) as picture:
        picture.load()
        if suffix == ".png":
            assert (picture.text["Author"], picture.text["long"]) == ("me", "y" * 100)
        if suffix != ".gif":
            assert picture.info["xmp"] == b"<x/>"
        if suffix in (".jpg", ".gif"):
            assert picture.info["comment"] == b"hello"
        if suffix == ".jpg":
            assert ("APP13", iptc) in picture.applist


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_a_tiff_with_jpeg_stays_small(tmp_path, channels, tile):
    ramp = np.linspace(0, 255, 64 * 64).reshape(64, 64, 1).astype(np.uint8)
    array = np.repeat(ramp, channels, -1)
    kind = "minisblack" if channels == 1 else "rgb"
    options = {"photometric": kind, "compression": "jpeg", "tile": tile}
    tifffile.imwrite(tmp_path / "a.tif", np.squeeze(array), **options)
    _copy_file(tmp_path / "a.tif", tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.pages[0].compression == tifffile.COMPRESSION.JPEG
    error = data.read_image(tmp_path / "b.tif").astype(int) - array
    assert np.abs(error).max() < 12
    metadata = data.read_metadata(tmp_path / "a.tif")
    data.write_image(tmp_path / "c.tif", array.astype(np.float32), metadata)
    assert data.read_image(tmp_path / "c.tif").dtype == np.float32


@pytest.mark.parametrize("channels, photometric", [(2, 1), (4, 2), (5, 1), (7, 1)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_channels_without_a_meaning_are_independent(
    tmp_path, channels, photometric, dtype
):
    array = _pixels(channels, dtype)
    extras = [0] * (channels - (3 if photometric == 2 else 1))
    options = {"photometric": photometric, "extrasamples": extras}
    tifffile.imwrite(tmp_path / "a.tif", array, planarconfig=1, **options)
    with data.open_picture(tmp_path / "a.tif") as picture:
        assert picture.layout().is_independent
        assert picture.header().channels == channels
    _copy_file(tmp_path / "a.tif", tmp_path / "b.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), array)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert len(file.pages) == 1
        assert file.pages[0].photometric == photometric
        assert file.pages[0].extrasamples == tuple(extras)


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_integers_of_64_bits(tmp_path, dtype):
    array = np.arange(96).reshape(8, 12, 1).astype(dtype) + 2**40
    tifffile.imwrite(tmp_path / "a.tif", array[..., 0])
    _copy_file(tmp_path / "a.tif", tmp_path / "b.tif")
    result = data.read_image(tmp_path / "b.tif")
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, array)
    limits = (2.0**40, 2.0**40 + 100)
    unit = data.to_float(array, limits)
    np.testing.assert_array_equal(data.from_float(unit, dtype, limits), array)
    info = np.iinfo(dtype)
    extreme = data.from_float(np.float32([-1e30, 1e30]), dtype, (0, 1))
    assert extreme[0] == info.min
    assert extreme[1] > info.max * 0.999


def test_packed_12_bit_pixels(tmp_path):
    array = np.random.default_rng(0).integers(0, 4096, (8, 12), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 18), np.uint8), metadata=None)
    first, second = array[:, ::2].astype(int), array[:, 1::2].astype(int)
    parts = [first >> 4, (first & 15) << 4 | second >> 8, second & 255]
    packed = np.stack(parts, -1).astype(np.uint8).tobytes()
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        page = file.pages[0]
        content[page.dataoffsets[0] :][: len(packed)] = packed
        start = page.dataoffsets[0]
        content[start : start + len(packed)] = packed
        for code, value in ((256, 12), (258, 12)):
            tag = page.tags[code]
            size = {3: 2, 4: 4}[tag.dtype]
            place = slice(tag.valueoffset, tag.valueoffset + size)
            content[place] = value.to_bytes(size, "little")
    (tmp_path / "a.tif").write_bytes(content)
    np.testing.assert_array_equal(data.read_image(tmp_path / "a.tif")[..., 0], array)
    assert data.read_metadata(tmp_path / "a.tif").conversion == "12 bits to 16"
    _copy_file(tmp_path / "a.tif", tmp_path / "b.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), array)


def test_arrays_of_bfloat16_and_of_another_byte_order(tmp_path):
    values = np.random.default_rng(0).random((8, 9)).astype(ml_dtypes.bfloat16)
    np.save(tmp_path / "a.npy", values)
    kinds = []

    def halve(array, out):
        kinds.append(array.dtype)
        out[:] = array / 2

    data.map_array(tmp_path / "a.npy", tmp_path / "b.npy", halve)
    assert kinds == [np.float32]
    result = np.load(tmp_path / "b.npy").view(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(result, values / 2)
    np.save(tmp_path / "a.npy", np.arange(12, dtype=">u2").reshape(3, 4))
    data.map_array(tmp_path / "a.npy", tmp_path / "b.npy", lambda a, o: np.copyto(o, a))
    assert np.load(tmp_path / "b.npy").dtype == np.dtype(">u2")


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".png"])
def test_exif_that_cannot_be_written_is_left_out_with_a_warning(
    tmp_path, caplog, monkeypatch, suffix
):
    exif = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + bytes(70_000)
    metadata = data.Metadata("exif", {"exif": exif, "dpi": (72, 72)})
    path = tmp_path / f"a{suffix}"
    if suffix != ".jpg":  # These formats hold long EXIF.
        save = Image.Image.save

        def refuse(image, *args, **options):
            if "exif" in options:
                raise struct.error("no")
            save(image, *args, **options)

        monkeypatch.setattr(Image.Image, "save", refuse)
    data.write_image(path, _pixels(3), metadata)
    assert data.read_image(path).shape == _pixels(3).shape
    assert "written without EXIF" in caplog.text
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
