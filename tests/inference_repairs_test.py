"""Pictures with missing pixels and outliers through a denoiser."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfflowdn
from tfflowdn.inference import Repairs, replace_outliers


def _network(channels=1):
    """Returns a mean over 3 x 3 pixels."""
    inputs = keras.Input((None, None, channels))
    return keras.Model(inputs, keras.layers.AveragePooling2D(3, 1, "same")(inputs))


@pytest.fixture(scope="module")
def denoiser():
    return tfflowdn.Denoiser(_network())


def _noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(0.5, 0.1, shape)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
@pytest.mark.parametrize("shape", [(24, 30), (24, 30, 3), (24, 30, 2), (2, 24, 30, 4)])
def test_missing_pixels_are_kept_and_do_not_spread(denoiser, dtype, shape):
    clean = _noise(*shape).astype(dtype)
    picture, repairs = clean.copy(), Repairs()
    planes = picture.reshape(-1, *shape[-3:]) if len(shape) == 4 else picture[None]
    planes[:, 4, 5], planes[:, :, 0], planes[:, 9, 9] = np.nan, np.inf, -np.inf
    denoised = denoiser(picture, pixel_range="0%,100%", repairs=repairs)
    bad = ~np.isfinite(picture)
    np.testing.assert_array_equal(denoised[bad], picture[bad])
    assert np.isfinite(denoised[~bad]).all() and denoised.dtype == picture.dtype
    far = np.abs(np.float64(denoised)[~bad] - np.float64(clean)[~bad])
    assert far.max() < 0.6
    colors = np.prod(shape) // (shape[-1] if len(shape) > 2 else 1)
    colors *= {30: 1, 3: 3, 2: 1, 4: 3}[shape[-1]]
    assert repairs.num_values == colors
    assert repairs.num_missing == (26 * colors) // (24 * 30)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_masks_are_kept_with_the_values_below(denoiser, dtype):
    picture = np.ma.array((200 * _noise(20, 24)).astype(dtype), mask=False)
    picture[3:6, 4:20] = np.ma.masked
    picture.data[3:6, 4:20] = 255
    denoised = denoiser(picture, pixel_range=(0, 255))
    np.testing.assert_array_equal(denoised.mask, picture.mask)
    assert (denoised.data[3:6, 4:20] == 255).all()
    assert np.abs(denoised[:10] - np.float64(100)).max() < 60
    assert not np.ma.isMaskedArray(denoiser(picture.data, pixel_range=(0, 255)))


def test_a_mask_of_a_stack_is_kept_page_by_page(denoiser):
    stack = np.ma.masked_invalid(_noise(3, 12, 16))
    stack[1, 2] = np.ma.masked
    out = np.empty(stack.shape)
    assert denoiser(stack, axes="ZYX", out=out) is out
    np.testing.assert_array_equal(out[1, 2], stack.data[1, 2])
    assert denoiser(stack, axes="ZYX").mask.sum() == 16


def test_tensors_graphs_and_strength_keep_missing_pixels(denoiser):
    picture = _noise(1, 12, 16, 1).astype("float32")
    picture[0, 3, 4] = np.nan
    for result in (
        denoiser(tf.constant(picture)),
        tf.function(denoiser)(tf.constant(picture)),
        denoiser(picture, strength=0.5),
        denoiser(picture, transform="asinh"),
        denoiser(picture, self_ensemble=True),
    ):
        assert np.isnan(result).sum() == 1 and np.isnan(np.array(result)[0, 3, 4, 0])
    np.testing.assert_array_equal(denoiser(picture, strength=0), picture)


def test_integers_cannot_hold_missing_pixels(denoiser):
    picture = _noise(12, 16)
    picture[3, 3] = np.nan
    for strength in (0, 1):
        with pytest.raises(ValueError, match="dtype must be a type of floats"):
            denoiser(picture, dtype="uint8", strength=strength)
    with pytest.raises(ValueError, match="At least half of the pixels"):
        denoiser(np.full((5, 5), np.inf))


def _sky(seed=0):
    return np.random.default_rng(seed).normal(100, 5, (96, 96, 1))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("value", [0, 250])
def test_hot_and_dead_pixels_are_replaced(dtype, value):
    clean = np.rint(_sky()).astype(dtype)
    picture = clean.copy()
    picture[::12, ::12] = value
    repaired, count = replace_outliers(picture)
    assert count == 64 and repaired.dtype == dtype
    assert np.abs(np.float64(repaired) - clean).max() < 25
    assert (picture[::12, ::12] == value).all()


@pytest.mark.parametrize("brightness", [50, 300, 20_000])
@pytest.mark.parametrize("sigma", [0.7, 1.0, 2.0])
def test_stars_are_kept(sigma, brightness):
    picture, (rows, columns) = _sky(), np.mgrid[:96, :96]
    rng = np.random.default_rng(1)
    for center in np.ndindex(8, 8):
        y, x = 12 * np.array(center) + 5 + rng.uniform(-0.5, 0.5, 2)
        square = ((rows - y) ** 2 + (columns - x) ** 2)[..., np.newaxis]
        picture += brightness * np.exp(-square / (2 * sigma**2))
    assert replace_outliers(picture)[1] == 0


def test_lines_edges_texture_and_noise_are_kept():
    rows, columns = np.mgrid[:96, :96, :1][:2]
    pictures = {
        "noise": _sky(),
        "counts": np.random.default_rng(0).poisson(0.3, (96, 96, 1)).astype("uint16"),
        "line": np.where(rows == 40, 250, _sky()),
        "diagonal": np.where(rows == columns, 0, _sky()),
        "checks": np.where((rows + columns) % 2, 250, 0).astype("uint8"),
        "steps": np.where(columns > 50, 250, 3).astype("uint8"),
        "pair": np.where((rows == 9) & (columns // 2 == 5), 250, _sky()),
        "constant": np.full((9, 9, 1), 7, "uint8"),
        "tiny": np.array([[[0], [200]]], "uint8"),
    }
    counts = {name: replace_outliers(one)[1] for name, one in pictures.items()}
    assert counts == dict.fromkeys(pictures, 0)


def test_outliers_are_counted_and_off_by_default(denoiser):
    picture = _sky()[..., 0]
    picture[5, 5] = picture[0, 95] = 250
    options, repairs = {"pixel_range": (0, 255)}, Repairs()
    assert denoiser(picture, repairs=repairs, **options)[5, 5] > 110
    assert repairs.num_outliers == 0 and repairs.sentences() == []
    denoised = denoiser(picture, remove_outliers=True, repairs=repairs, **options)
    assert denoised[5, 5] < 110 and repairs.num_outliers == 2
    assert "2 of" in repairs.sentences()[0]
    always = tfflowdn.Denoiser(_network(), remove_outliers=True)
    np.testing.assert_array_equal(always(picture, **options), denoised)
    assert always(picture, remove_outliers=False, **options)[5, 5] > 110
    whole = tfflowdn.denoise(picture, _network(), remove_outliers=True, **options)
    np.testing.assert_allclose(whole, denoised)
