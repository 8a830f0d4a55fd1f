"""Standard deviations next to denoised pictures: units, shapes, tiles and errors."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfflowdn import inference
from tfflowdn.inference import Denoiser
from tfflowdn.models import ResNetDenoiser, UncertaintyNetwork, fingerprint


def denoiser(channels=1, **options):
    network = ResNetDenoiser(channels, num_blocks=1, hidden_channels=4)
    kernel = network.tail.kernel
    kernel.assign(0.05 * np.random.default_rng(0).standard_normal(kernel.shape))
    uncertainty = UncertaintyNetwork(channels, hidden_channels=4, num_layers=2)
    return Denoiser(network, uncertainties=[uncertainty], **options)


def picture(shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


@pytest.mark.parametrize("shape", [(12, 15), (12, 15, 3), (2, 9, 9, 1), (9, 9, 4)])
def test_the_denoised_picture_is_the_same_and_the_deviation_has_its_shape(shape):
    model = denoiser()
    image = picture(shape)
    denoised, std = model(image, return_std=True)
    np.testing.assert_allclose(denoised, model(image), atol=1e-6)
    assert (std.shape, std.dtype) == (shape, np.float32)
    color = std[..., :3] if shape[-1] == 4 else std
    assert (color > 0).all()
    assert shape[-1] != 4 or not std[..., 3].any()  # Alpha has no error.


def test_each_channel_has_the_deviation_of_a_gray_picture():
    model, image = denoiser(), picture((10, 12, 3))
    _, std = model(image, return_std=True)
    _, gray = model(image[..., 1], return_std=True)
    np.testing.assert_allclose(std[..., 1], gray, rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_deviations_are_in_the_units_of_the_pixels(dtype):
    model = denoiser()
    image = picture((12, 12))
    _, unit = model(image, return_std=True)
    largest = np.iinfo(dtype).max if dtype != np.float32 else 50.0
    stored = (largest * image).astype(dtype)
    denoised, std = model(stored, return_std=True, pixel_range=(0, largest))
    assert denoised.dtype == dtype
    np.testing.assert_allclose(std / largest, unit, rtol=0.1, atol=2e-3)


def test_a_transform_scales_deviations_by_the_slope_of_its_inverse():
    model = denoiser()
    counts = np.float32(np.repeat([[100.0], [10_000.0]], 16, 0).repeat(32, 1))
    counts += 5 * np.random.default_rng(0).standard_normal(counts.shape)
    options = {"transform": "anscombe", "gain": 1.0, "offset": 0.0}
    _, std = model(np.float32(counts), return_std=True, **options)
    assert std[24:].mean() > 3 * std[:8].mean()


def test_tiles_give_the_deviations_of_the_whole_picture():
    whole, tiles = denoiser(), denoiser(max_pixels=64 * 64)
    image = picture((90, 100))
    expected = whole(image, return_std=True)
    for one, other in zip(tiles(image, return_std=True), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_one_call_returns_deviations_by_the_general_denoiser():
    image = picture((16, 16))
    denoised, std = inference.denoise(image, return_std=True)
    assert denoised.shape == std.shape == (16, 16)
    assert 0.001 < std.mean() < 0.5


def test_planes_the_given_array_tensors_and_empty_batches():
    model, stack = denoiser(), picture((3, 10, 12))
    out = np.empty(stack.shape, np.float32)
    _, std = model(stack, axes="ZYX", return_std=True, std_out=out)
    assert std is out
    denoised, std = model(tf.constant(stack[0]), return_std=True)
    assert tf.is_tensor(denoised) and tf.is_tensor(std)
    np.testing.assert_allclose(std, out[0], rtol=1e-3, atol=1e-6)
    for result in model(np.zeros((0, 8, 8, 1), np.float32), return_std=True):
        assert result.shape == (0, 8, 8, 1)


def test_an_ensemble_averages_and_color_models_take_gray():
    model = denoiser(3)
    _, std = model(picture((10, 12)), return_std=True, self_ensemble=True)
    assert std.shape == (10, 12)
    assert (std > 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 0.5}, "strength 1"),
        ({"luminance_only": True}, "luminance_only False"),
        ({"std_out": np.zeros((3, 3), np.float32)}, "std_out must be float32"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        denoiser()(picture((8, 8)), return_std=True, **options)


def test_a_denoiser_without_uncertainty_says_what_is_needed():
    model = Denoiser(ResNetDenoiser(1, num_blocks=1, hidden_channels=4))
    with pytest.raises(ValueError, match="train_uncertainty"):
        model(picture((8, 8)), return_std=True)
    with pytest.raises(ValueError, match="channels of the networks"):
        gray = ResNetDenoiser(1, num_blocks=1, hidden_channels=4)
        Denoiser(gray, uncertainties=[UncertaintyNetwork(3, hidden_channels=4)])


def test_the_uncertainty_next_to_a_file_is_loaded(tmp_path):
    model = denoiser()
    model.networks[0].save(tmp_path / "denoiser.keras")
    assert inference.find_uncertainty(tmp_path / "denoiser.keras") is None
    uncertainty = UncertaintyNetwork(1, hidden_channels=4, num_layers=2)
    uncertainty.save(tmp_path / "uncertainty.keras")
    loaded = Denoiser.from_pretrained(tmp_path / "denoiser.keras")
    image = picture((10, 10))
    for one, other in zip(
        loaded(image, return_std=True), model(image, return_std=True), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_uncertainty_of_another_denoiser_is_not_used(tmp_path):
    mine, other = (
        ResNetDenoiser(1, num_blocks=1, hidden_channels=4, seed=seed) for seed in (0, 1)
    )
    uncertainty = UncertaintyNetwork(
        1, hidden_channels=4, num_layers=2, denoiser=fingerprint(other)
    )
    assert uncertainty.belongs_to(other) and not uncertainty.belongs_to(mine)
    uncertainty.save(tmp_path / "uncertainty.keras")
    for name, network in (("mine", mine), ("other", other)):
        network.save(tmp_path / f"{name}.keras")
    loaded = Denoiser.from_pretrained(tmp_path / "other.keras")
    _, std = loaded(picture((10, 10)), return_std=True)
    assert std.shape == (10, 10)
    loaded = Denoiser.from_pretrained(tmp_path / "mine.keras")
    with pytest.raises(ValueError, match="no uncertainty for the denoiser"):
        loaded(picture((10, 10)), return_std=True)
    with pytest.raises(ValueError, match="an uncertainty of another denoiser"):
        Denoiser(mine, uncertainties=[uncertainty])


@pytest.mark.parametrize("kind", ["gray", "rgb"])
def test_the_uncertainties_of_the_package_know_their_denoisers(kind):
    uncertainty = inference.load_uncertainty(f"uncertainty_{kind}")
    denoiser = inference.load_denoiser(f"denoiser_{kind}")
    assert uncertainty.denoiser == fingerprint(denoiser)
