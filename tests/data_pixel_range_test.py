"""Pixel values to units of a range and back, by dtype, by values, by percentiles."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfflowdn import data


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int8", "int16"])
def test_integers_go_to_float_and_back(dtype):
    info = np.iinfo(dtype)
    array = np.arange(info.min, info.max + 1).astype(dtype)
    unit = data.to_float(array)
    assert unit.dtype == np.float32
    assert unit[array == 0] == 0
    assert unit[-1] == 1
    np.testing.assert_array_equal(data.from_float(unit, dtype), array)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint32", "int32", "float64"])
def test_a_range_goes_there_and_back_with_what_lies_beyond_it(dtype):
    array = np.arange(0, 8000).astype(dtype)
    unit = data.to_float(array, (100, 4195))
    np.testing.assert_allclose(unit[[100, 4195]], [0, 1])
    assert unit.min() < 0
    assert unit.max() > 1.9
    result = data.from_float(unit, dtype, (100, 4195))
    np.testing.assert_allclose(result, array, rtol=0, atol=1e-3)
    assert result.dtype == dtype


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "int32"])
def test_results_are_clipped_at_the_limits_of_the_dtype_alone(dtype):
    info = np.iinfo(dtype)
    limits = (0, 4095)
    far = np.float32([-(2**31), -1, 0.5, 2, 2**31])
    result = data.from_float(far, dtype, limits)
    expected = np.clip(np.rint(far.astype(float) * 4095), info.min, info.max)
    np.testing.assert_array_equal(result, expected)


def test_floats_keep_their_values_and_bools_their_sides():
    array = np.array([-0.5, 0.25, 1.5], np.float32)
    np.testing.assert_array_equal(data.to_float(array), array)
    np.testing.assert_array_equal(data.from_float(array, np.float32), array)
    np.testing.assert_array_equal(data.to_float(np.array([False, True])), [0, 1])
    values = np.float32([-1, 0.4, 0.6, 2])
    result = data.from_float(values, bool)
    np.testing.assert_array_equal(result, [False, False, True, True])
    assert data.from_float(np.float32([1e9]), np.float16) == np.finfo("f2").max


def test_other_dtypes_are_errors():
    for dtype in ("complex64", "U4"):
        with pytest.raises(ValueError, match="floats or bools.*Received: dtype="):
            data.to_float(np.zeros(2, dtype), (0, 1))
        with pytest.raises(ValueError, match="floats or bools.*Received: dtype="):
            data.from_float(np.zeros(2, np.float32), dtype, (0, 1))
    for dtype in ("uint32", "int32", "int64", "uint64"):
        assert not data.has_limits(dtype)
        with pytest.raises(ValueError, match="pixel_range.*Received: dtype="):
            data.to_float(np.zeros(2, dtype))
    with pytest.raises(ValueError, match="finite. Received: num_bad=1"):
        data.from_float(np.array([np.nan]), np.uint8)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("dtype", "dtype"),
        ("0,4095", "0.0,4095.0"),
        (" 0.5, 1e3 ", "0.5,1000.0"),
        ((-1024, 3071.5), "-1024.0,3071.5"),
        ("0.1%,99.9%", "0.1%,99.9%"),
        ("0 %, 100 %", "0.0%,100.0%"),
    ],
)
def test_a_range_in_words_means_the_same(given, words):
    assert data.check_range(given) == words
    assert data.check_range(words) == words
    picture = np.random.default_rng(0).integers(0, 4096, (20, 30, 1), np.uint16)
    assert data.find_limits(given, [picture]) == data.find_limits(words, [picture])


@pytest.mark.parametrize(
    "given",
    ["", "auto", "1", "1,2,3", "5,5", "2,1", "1%,2", "-1%,50%", "0%,101%", "0,inf"],
)
def test_other_ranges_are_errors(given):
    with pytest.raises(ValueError, match=f"LOW,HIGH.*pixel_range='{given}'"):
        data.check_range(given)


@pytest.mark.parametrize("given", ["5,5", "5%,5%", (3, 3.0), "0.5,0.50"])
def test_a_range_without_a_width_is_said(given):
    with pytest.raises(ValueError, match=r"must have a width.*Received: pixel_range="):
        data.check_range(given)


def test_percentiles_are_those_of_the_colors_of_all_pictures():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 4096, (3, 40, 50, 3), np.uint16)
    limits = data.find_limits("1%,90%", pictures, 3)
    np.testing.assert_allclose(limits, np.percentile(pictures, [1, 90]))
    alpha = np.full((3, 40, 50, 1), 65535, np.uint16)
    with_alpha = np.concatenate([pictures, alpha], -1)
    assert data.find_limits("1%,90%", with_alpha, 3) == limits


def test_percentiles_of_a_large_picture_are_close():
    picture = np.random.default_rng(0).random((3000, 2000, 1), np.float32)
    limits = data.find_limits("5%,95%", [picture])
    np.testing.assert_allclose(limits, [0.05, 0.95], atol=1e-3)


def test_a_picture_of_few_values_has_limits():
    flat = np.full((8, 8, 1), 7, np.uint16)
    assert data.find_limits("1%,99%", [flat]) == (7, 8)
    flat[0, 0] = 4007  # A single spot that no percentile meets.
    assert data.find_limits("2%,98%", [flat]) == (7, 4007)


def _write(folder, name, pixels):
    folder.mkdir(exist_ok=True)
    data.write_image(folder / name, pixels)


def test_a_source_scales_every_picture_by_the_rule(tmp_path):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(100, 4096, (9, 8, 1), np.uint16) // n for n in (1, 7)]
    for index, picture in enumerate(pictures):
        _write(tmp_path, f"{index}.tif", picture)
    for pixel_range in ("0,4095", "2%,99%", (100, 5000)):
        source = data.open_source(str(tmp_path), channels=1, pixel_range=pixel_range)
        assert source.pixel_range == data.check_range(pixel_range)
        results = list(source.dataset().as_numpy_iterator())
        for picture, result in zip(pictures, results, strict=True):
            np.testing.assert_array_equal(result, data.normalize(pixel_range, picture))
        crops = data.RandomCrops(source, crop_size=8, batch_size=8)()
        low, high = min(r.min() for r in results), max(r.max() for r in results)
        crops = next(iter(crops)).numpy()
        assert low <= crops.min() < crops.max() <= high
    assert np.ptp(results[1]) < 0.2  # Fixed limits keep the pictures' brightness.


def test_sources_of_other_integers(tmp_path):
    _write(tmp_path, "a.tif", np.full((8, 8, 1), -5, np.int16))
    source = data.open_source(str(tmp_path), channels=1)
    assert source.dataset().element_spec.dtype == tf.float32
    (picture,) = source.dataset().as_numpy_iterator()
    np.testing.assert_allclose(picture, -5 / 32767)
    _write(tmp_path, "b.tif", np.full((8, 8, 1), 2**20, np.uint32))
    with pytest.raises(ValueError, match=r"pixel_range. Received: uint32 in .*b\.tif"):
        data.open_source(str(tmp_path), channels=1)
    source = data.open_source(str(tmp_path), channels=1, pixel_range="0,2097152")
    assert list(source.dataset())[1][0, 0, 0] == 0.5
    with pytest.raises(ValueError, match="pixel_range='high'"):
        data.open_source(str(tmp_path), channels=1, pixel_range="high")


def test_tfds_in_a_range():
    tfds = pytest.importorskip("tensorflow_datasets")
    with tfds.testing.mock_data(num_examples=2):
        stored = data.open_source("tfds:mnist", channels=1)
        source = data.open_source("tfds:mnist", channels=1, pixel_range="10,200")
        pairs = list(zip(stored.dataset(), source.dataset(), strict=True))
    for picture, result in pairs:
        assert result.shape == picture.shape
        expected = (picture.numpy().astype(float) - 10) / 190
        np.testing.assert_allclose(result, expected, atol=1e-6)


def test_pairs_are_in_the_range_of_the_noisy_picture(tmp_path):
    rng = np.random.default_rng(0)
    noisy = rng.integers(0, 4096, (9, 8, 1), np.uint16)
    clean = np.full_like(noisy, 2000)
    _write(tmp_path / "noisy", "a.tif", noisy)
    _write(tmp_path / "clean", "a.tif", clean)
    sources = (
        data.open_source(str(tmp_path / name), channels=1, pixel_range="5%,95%")
        for name in ("noisy", "clean")
    )
    ((first, second),) = data.paired_images(*sources).as_numpy_iterator()
    limits = np.percentile(noisy, [5, 95])
    np.testing.assert_allclose(first, (noisy - limits[0]) / np.ptp(limits), rtol=1e-5)
    np.testing.assert_allclose(second, (clean - limits[0]) / np.ptp(limits), rtol=1e-5)


@pytest.mark.parametrize("value", [3e7, -3e7, 1e30])
def test_a_constant_picture_has_a_range_of_some_width(value):
    picture = np.full((12, 12, 1), value, np.float32)
    limits = data.find_limits("1%,99%", [picture])
    np.testing.assert_array_equal(data.to_float(picture, limits), 0)


def test_limits_that_are_equal_in_float32_are_refused():
    picture = np.full((2, 2, 1), 3e7, np.float32)
    with pytest.raises(ValueError, match="must have a width in float32"):
        data.to_float(picture, (3e7, 3e7 + 1))
