"""Deep Image Prior: the stop, the average, any picture; the hourglass; the command."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import tfflowdn
from tfflowdn import data
from tfflowdn.models import hourglass
from tfflowdn.scripts.deep_image_prior import fit_files
from tfflowdn.stages import DeepImagePrior


@pytest.fixture
def eager():
    """Few steps are faster without a graph."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


TINY = {"widths": (4,), "input_channels": 2}


def _picture(size=(12, 11), channels=1, noise_sigma=0.1):
    rng = np.random.default_rng(0)
    rows, columns = np.meshgrid(*map(np.arange, size), indexing="ij")
    clean = 0.5 + 0.3 * np.sin(rows / 5 + columns / 7)[..., np.newaxis]
    clean = np.repeat(clean, channels, -1)
    noisy = clean + noise_sigma * rng.standard_normal(clean.shape)
    return np.float32(clean), np.float32(noisy)


def test_the_fit_stops_at_the_noise_level():
    clean, noisy = _picture((24, 20))
    options = {"widths": (8, 8), "noise_sigma": 0.1, "momentum": 0.9}
    fit = DeepImagePrior(max_steps=400, discrepancy=1.0, **options).fit(noisy)
    assert 10 < fit.num_steps < 400 and fit.num_steps % 10 == 0
    assert fit.noise_sigma == 0.1 and fit.seconds > 0
    residual = np.sqrt(np.mean((fit.denoised - noisy) ** 2)) / 0.1
    np.testing.assert_allclose(fit.residual, residual, rtol=1e-4)
    assert 0.8 < residual <= 1
    error = np.mean((fit.denoised - clean) ** 2)
    assert error < 0.5 * np.mean((noisy - clean) ** 2)


@pytest.mark.usefixtures("eager")
def test_the_number_of_steps_is_bounded_and_the_seed_decides():
    noisy = _picture()[1]
    make = lambda seed: DeepImagePrior(  # noqa: E731
        max_steps=3, noise_sigma=1e-3, seed=seed, **TINY
    )
    first, again, other = (make(seed).fit(noisy) for seed in (0, 0, 1))
    assert first.num_steps == 3
    np.testing.assert_array_equal(first.denoised, again.denoised)
    assert np.abs(first.denoised - other.denoised).max() > 1e-3


@pytest.mark.usefixtures("eager")
def test_the_result_is_the_average_of_the_outputs():
    noisy = _picture()[1]

    def result(max_steps, momentum):
        options = {"max_steps": max_steps, "momentum": momentum, "noise_sigma": 1e-3}
        return DeepImagePrior(**options, **TINY).fit(noisy).denoised

    one, two = result(1, 0.0), result(2, 0.0)
    np.testing.assert_allclose(result(1, 0.9), one, atol=1e-6)
    np.testing.assert_allclose(result(2, 0.5), (0.5 * one + two) / 1.5, atol=1e-5)


@pytest.mark.usefixtures("eager")
def test_the_noise_level_is_estimated():
    noisy = _picture((40, 40), noise_sigma=0.05)[1]
    fit = DeepImagePrior(max_steps=1, **TINY).fit(noisy)
    np.testing.assert_allclose(fit.noise_sigma, 0.05, rtol=0.15)


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (5, 7)])
def test_a_picture_without_visible_noise_is_returned(size):
    noisy = np.full((*size, 1), 0.3, np.float32)
    fit = DeepImagePrior(**TINY).fit(noisy)
    assert fit.num_steps == 0
    np.testing.assert_array_equal(fit.denoised, noisy)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("channels", [1, 3])
def test_a_denoiser_handles_its_pictures_as_those_of_a_network(channels):
    noisy = data.from_float(_picture(channels=channels)[1], np.uint8)
    networks = [DeepImagePrior(count, max_steps=3, **TINY) for count in (1, 3)]
    denoiser = tfflowdn.Denoiser(*networks, max_pixels=2**40)
    denoised = denoiser(noisy)
    assert (denoised.shape, denoised.dtype) == (noisy.shape, np.uint8)
    expected = networks[channels // 2].fit(np.float32(noisy / 255)).denoised
    np.testing.assert_allclose(denoised / 255, expected, atol=0.51 / 255)


@pytest.mark.usefixtures("eager")
def test_channels_are_fitted_together_or_one_by_one(tmp_path):
    rng = np.random.default_rng(0)
    for channels in (2, 5):
        noisy = np.float32(rng.random((9, 8, channels)))
        options = {"max_steps": 1, "noise_sigma": 0.1, **TINY}
        fit = DeepImagePrior(channels, **options).fit(noisy)
        assert fit.denoised.shape == noisy.shape
        stack = np.uint16(4095 * noisy)
        data.write_image(tmp_path / f"{channels}.tif", stack)
        np.save(tmp_path / f"{channels}.npy", stack.transpose(2, 0, 1))
    reading = {"axes": "CYX", "pixel_range": "0,4095"}
    written = fit_files([tmp_path], tmp_path / "out", reading=reading, **options)
    assert len(written) == 4
    result = data.read_image(tmp_path / "out/5.tif")
    one = tfflowdn.Denoiser(DeepImagePrior(**options), max_pixels=10**6)
    expected = one(stack[..., 3], pixel_range="0,4095")
    np.testing.assert_array_equal(result[..., 3], expected)
    np.testing.assert_array_equal(np.load(tmp_path / "out/5.npy")[3], expected)


def test_the_command_writes_each_file_once(tmp_path):
    for name, channels in (("gray", 1), ("color", 3)):
        pixels = data.from_float(_picture(channels=channels)[1], np.uint8)
        (tmp_path / "in").mkdir(exist_ok=True)
        data.write_image(tmp_path / f"in/{name}.png", pixels)
    options = {"max_steps": 2, "noise_sigma": 0.1, **TINY}
    written = fit_files([tmp_path / "in"], tmp_path / "out", **options)
    assert [path.name for path in written] == ["color.png", "gray.png"]
    before = data.read_image(tmp_path / "in/color.png")
    after = data.read_image(tmp_path / "out/color.png")
    assert after.shape == before.shape and np.any(after != before)
    skipped = {"skip_existing": True, **options}
    assert fit_files([tmp_path / "in"], tmp_path / "out", **skipped) == []
    with pytest.raises(ValueError, match="Outputs must not exist"):
        fit_files([tmp_path / "in"], tmp_path / "out", **options)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"channels": 17}, "channels must be 1 to 16. Received: channels=17"),
        ({"noise_sigma": 0}, "noise_sigma must be above 0.*Received: noise_sigma=0"),
        ({"noise_sigma": 25}, "noise_sigma must be above 0.*noise_sigma=25"),
        ({"discrepancy": 0}, "discrepancy must be above 0.*discrepancy=0"),
        ({"max_steps": 0}, "max_steps must be 1 or more.*max_steps=0"),
        ({"momentum": 1.0}, "momentum must be at least 0.*momentum=1.0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        DeepImagePrior(**options)


@pytest.mark.parametrize("shape", [(12, 11), (12, 11, 3), (0, 4, 1)])
def test_pictures_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"noisy must be \[H, W, 1\].*Received"):
        DeepImagePrior().fit(np.zeros(shape))


@pytest.mark.parametrize("size", [(1, 1), (7, 10)])
@pytest.mark.parametrize("skip_channels", [0, 2])
def test_the_hourglass_keeps_any_size(size, skip_channels):
    options = {"widths": (3, 4, 5), "skip_channels": skip_channels}
    network = hourglass((*size, 2), 3, seed=1, **options)
    same = hourglass((*size, 2), 3, seed=1, **options)
    other = hourglass((*size, 2), 3, seed=2, **options)
    inputs = np.random.default_rng(0).uniform(size=(1, *size, 2)).astype("float32")
    outputs = network(inputs).numpy()
    assert outputs.shape == (1, *size, 3)
    assert outputs.min() >= 0 and outputs.max() <= 1
    np.testing.assert_array_equal(same(inputs), outputs)
    if size != (1, 1):  # One pixel is normalized to zero.
        assert np.any(other(inputs) != outputs)
