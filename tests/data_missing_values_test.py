"""Files that name a value for missing pixels: GDAL, FITS, DICOM, CF in Zarr."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tifffile
from data_field_formats_test import _write_dicom

from tfflowdn import Denoiser, data
from tfflowdn.scripts.denoise import denoise_files

_INPUT = keras.Input((None, None, 1))
_MEAN = keras.layers.AveragePooling2D(3, 1, "same")
NETWORK = keras.Model(_INPUT, _MEAN(_INPUT))
NETWORK.receptive_radius, NETWORK.scale = 1, 1


def _gdal(path, stack, text, **options):
    with tifffile.TiffWriter(path) as writer:
        for plane in stack:
            tags = [(42113, 2, 0, text, True)]
            writer.write(plane, extratags=tags, metadata=None, **options)


def _read_tiff(path):
    with tifffile.TiffFile(path) as tiff:
        text = tiff.pages[0].tags[42113].value
    stack = tifffile.imread(path)
    assert (stack == stack.dtype.type(float(text))).any()
    return stack


def _fits(path, stack, blank, kind="PrimaryHDU"):
    fits = pytest.importorskip("astropy.io.fits")
    unit = getattr(fits, kind)(stack)
    unit.header["BLANK"] = blank - (2**15 if stack.dtype == np.uint16 else 0)
    unit.writeto(path)


def _read_fits(path):
    from astropy.io import fits

    with fits.open(path, do_not_scale_image_data=True) as units:
        unit = units[0] if units[0].shape else units[1]
        assert "BLANK" in unit.header
        zero = int(unit._orig_bzero)
        return unit.data.astype(np.int64) + zero


def _dicom(path, stack, padding, **elements):
    pydicom = pytest.importorskip("pydicom")
    _write_dicom(path, stack)
    dataset = pydicom.dcmread(path)
    vr = "SS" if stack.dtype.kind == "i" else "US"
    dataset.add_new("PixelPaddingValue", vr, padding)
    for name, value in elements.items():
        if name == "limit":
            dataset.add_new("PixelPaddingRangeLimit", vr, value)
        else:
            setattr(dataset, name, value)
    dataset.save_as(path)


def _read_dicom(path):
    import pydicom

    return pydicom.dcmread(path).pixel_array


def _zarr(path, stack, attributes, zarr_format=3, **options):
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(
        path,
        shape=stack.shape,
        dtype=stack.dtype,
        attributes=attributes,
        zarr_format=zarr_format,
        **options,
    )
    array[...] = stack


def _read_zarr(path):
    import zarr

    return zarr.open_array(path, mode="r")[...]


# name: suffix, dtype, value of the missing pixels, write(path, stack), read(path)
FILES = {
    "GDAL int16": (
        *(".tif", "int16", -9999),
        *(lambda p, s: _gdal(p, s, "-9999"), _read_tiff),
    ),
    "GDAL uint8, tiles, zlib": (
        *(".tif", "uint8", 0),
        lambda p, s: _gdal(p, s, "0 ", tile=(16, 16), compression="zlib"),
        _read_tiff,
    ),
    "GDAL float32": (
        *(".tif", "float32", -9999.9),
        *(lambda p, s: _gdal(p, s, "-9999.9"), _read_tiff),
    ),
    "GDAL int32 as float": (
        *(".tif", "int32", -(2**31)),
        *(lambda p, s: _gdal(p, s, "-2147483648.0"), _read_tiff),
    ),
    "GDAL white is zero": (
        *(".tif", "uint16", 65535),
        lambda p, s: _gdal(p, np.invert(s), "0", photometric="miniswhite"),
        _read_tiff,
    ),
    "FITS int16": (
        *(".fits", "int16", -32768),
        *(lambda p, s: _fits(p, s, -32768), _read_fits),
    ),
    "FITS uint16": (
        *(".fits", "uint16", 65535),
        *(lambda p, s: _fits(p, s, 65535), _read_fits),
    ),
    "FITS uint8": (".fits", "uint8", 255, lambda p, s: _fits(p, s, 255), _read_fits),
    "FITS compressed": (
        *(".fits", "int16", -999),
        *(lambda p, s: _fits(p, s[0], -999, "CompImageHDU"), _read_fits),
    ),
    "DICOM int16": (
        *(".dcm", "int16", -2000),
        *(lambda p, s: _dicom(p, s, -2000, BitsStored=12, HighBit=11), _read_dicom),
    ),
    "DICOM range": (
        *(".dcm", "uint16", 65000),
        *(lambda p, s: _dicom(p, s, 65535, limit=64000), _read_dicom),
    ),
    "CF": (
        *(".zarr", "int16", -32768),
        *(lambda p, s: _zarr(p, s, {"_FillValue": -32768}), _read_zarr),
    ),
    "xarray, version 2": (
        *(".zarr", "uint16", 65535),
        lambda p, s: _zarr(
            *(p, s, {"_ARRAY_DIMENSIONS": ["t", "y", "x"]}, 2), fill_value=65535
        ),
        _read_zarr,
    ),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_missing_values_are_filled_put_back_and_counted(tmp_path, name, caplog):
    suffix, dtype, value, write, read = FILES[name]
    rng, path = np.random.default_rng(0), tmp_path / f"a{suffix}"
    stack = rng.integers(80, 120, (2, 32, 48)).astype(dtype)
    stack[:, 3:9, 30:] = stack[:, 20, 7] = value
    missing = np.asarray(stack == np.asarray(value, dtype))
    write(path, stack)
    with data.open_picture(path) as picture:
        pages = list(picture.pages(tmp_path))
        assert np.ma.isMaskedArray(picture.view(0))
        assert picture.crop(0, np.array([4]), np.array([31])).mask.all()
    missing, stack = missing[: len(pages)], stack[: len(pages)]
    for page, gaps in zip(pages, missing, strict=True):
        np.testing.assert_array_equal(page.mask[..., 0], gaps)

    with caplog.at_level("INFO", "absl"):
        written = denoise_files(
            [str(path)], str(tmp_path / "out"), Denoiser(NETWORK), pixel_range="0,200"
        )
    assert f"{missing.sum()} of {stack.size} values are missing" in caplog.text
    result = read(written[0]).reshape(stack.shape)
    assert result.dtype == np.int64 or result.dtype == stack.dtype
    np.testing.assert_array_equal(result[missing], stack[missing])
    assert (result[~missing] > 50).all() and (result[~missing] < 150).all()
    assert (result != stack).any()

    source = data.open_source(str(path), channels=1, pixel_range="0,200")
    for page in source.dataset().as_numpy_iterator():
        assert page.min() > 0.3 and page.max() < 0.7
    crops = data.RandomCrops(source, crop_size=16, batch_size=8)
    (batch,) = crops(0).take(1).as_numpy_iterator()
    assert batch.min() > 0.3 and batch.max() < 0.7


def test_floats_of_fits_have_nan_in_place_of_the_value(tmp_path):
    stack = np.full((1, 8, 8), 100, np.int16)
    stack[0, 3, 3] = -999
    _fits(tmp_path / "a.fits", stack, -999)
    denoise_files(
        [str(tmp_path)], str(tmp_path / "out"), Denoiser(NETWORK), dtype="float32"
    )
    from astropy.io import fits

    with fits.open(tmp_path / "out/a.fits", memmap=False) as (unit,):
        assert np.isnan(unit.data[0, 3, 3]) and np.isnan(unit.data).sum() == 1
        assert "BLANK" not in unit.header


# The value cannot occur, or is the fill value of an ordinary array.
NOT_MISSING = {
    "text": lambda p: _gdal(p / "a.tif", np.full((1, 8, 8), 7, "u1"), "none"),
    "negative in unsigned": lambda p: _gdal(
        p / "a.tif", np.full((1, 8, 8), 7, "u1"), "-1"
    ),
    "a fraction in integers": lambda p: _gdal(
        p / "a.tif", np.full((1, 8, 8), 7, "u1"), "7.5"
    ),
    "NaN": lambda p: _gdal(p / "a.tif", np.full((1, 8, 8), 7, "f4"), "nan"),
    "fill value": lambda p: _zarr(
        p / "a.zarr", np.full((1, 8, 8), 7, "u2"), {}, fill_value=7
    ),
}


@pytest.mark.parametrize("name", NOT_MISSING)
def test_other_values_are_not_missing(tmp_path, name):
    NOT_MISSING[name](tmp_path)
    (path,) = tmp_path.iterdir()
    with data.open_picture(path) as picture:
        assert picture.missing_values() is None
        assert not np.ma.isMaskedArray(picture.view(0))


def test_the_value_must_fit_the_type_of_the_result(tmp_path):
    stack = np.full((1, 8, 8), 100, np.int16)
    stack[0, 3, 3] = -9999
    _gdal(tmp_path / "a.tif", stack, "-9999")
    with pytest.raises(ValueError, match="hold the values of missing pixels"):
        denoise_files(
            [str(tmp_path)], str(tmp_path / "out"), Denoiser(NETWORK), dtype="uint8"
        )
    with pytest.raises(ValueError, match="At least half of the pixels"):
        stack[0, 2:] = -9999
        _gdal(tmp_path / "a.tif", stack, "-9999")
        denoise_files([str(tmp_path)], str(tmp_path / "out"), Denoiser(NETWORK))


def test_alpha_is_never_missing(tmp_path):
    picture = np.zeros((1, 8, 8, 4), np.uint8)
    picture[..., :2] = 9
    _gdal(tmp_path / "a.tif", picture, "0", photometric="rgb", extrasamples=[2])
    mask = data.read_image(tmp_path / "a.tif").mask
    assert mask[..., 2].all() and not mask[..., [0, 1, 3]].any()
