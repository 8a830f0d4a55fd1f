"""The models that come with tfflowdn."""

from __future__ import annotations

import numpy as np
import pytest

import tfflowdn
from tfflowdn import inference
from tfflowdn.noise import add_noise

NAMES = list(inference.pretrained_models())


def _picture(channels):
    rows, columns = np.meshgrid(*[np.linspace(0, 1, 96)] * 2, indexing="ij")
    disc = np.float32((rows - 0.4) ** 2 + (columns - 0.5) ** 2 < 0.1)
    shades = np.float32([0.3, 0.5, 0.2])[:channels]
    return 0.2 + 0.3 * np.float32(rows)[..., None] + disc[..., None] * shades


def _psnr(picture, reference):
    return -10 * np.log10(np.mean((picture - reference) ** 2))


def test_each_has_a_card():
    for path in inference.pretrained_models().values():
        card = path.with_suffix(".md").read_text("utf-8")
        for heading in ("Data", "Recipe", "Figures", "Limits"):
            assert f"## {heading}" in card


@pytest.mark.parametrize("name", inference.GENERAL_DENOISERS)
@pytest.mark.parametrize("kind", ["gaussian", "poisson", "heteroscedastic"])
def test_general_denoisers_denoise(name, kind):
    denoiser = tfflowdn.Denoiser.from_pretrained(name)
    clean = _picture(denoiser.channels)
    options = {"noise_sigma": 25 / 255} if kind == "gaussian" else {}
    noisy = add_noise(clean, kind, np.random.default_rng(0), **options)
    assert _psnr(denoiser(noisy), clean) > _psnr(noisy, clean) + 8


@pytest.mark.parametrize("channels", [1, 3])
def test_the_general_denoiser_needs_no_name_and_takes_gray_and_color(channels):
    noisy = _picture(channels)
    name = inference.GENERAL_DENOISERS[channels // 2]
    expected = tfflowdn.denoise(noisy, name)
    np.testing.assert_allclose(tfflowdn.denoise(noisy), expected, atol=1e-6)
    assert _psnr(expected, noisy) > 38  # A clean picture hardly changes.


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("prior")])
def test_priors_know_pictures_from_noise(name):
    prior = inference.load_prior(name)
    picture = _picture(prior.channels)
    noise = np.random.default_rng(0).uniform(0, 1, picture.shape)
    smooth, rough = prior.bits_per_dim(np.float32([picture, noise])).numpy()
    assert smooth < 7 < rough


def test_an_unknown_name_is_said_with_the_known_ones():
    with pytest.raises(ValueError, match=r"one of .*denoiser_gray.*'denoiser_green'"):
        inference.load_denoiser("denoiser_green")


def test_general_names_a_network_for_gray_and_for_color():
    for channels in (1, 3):
        network = inference.load_denoiser("general", channels)
        assert network.channels == channels


@pytest.mark.parametrize(
    "load, message",
    [
        (
            inference.load_prior,
            r"prior must be a \.keras file, or one of \['prior_gray'",
        ),
        (inference.load_noise, r"noise must be a \.keras file\. "),
        (inference.load_denoiser, r"model must be .*SavedModel, or one of \['general'"),
    ],
)
def test_a_missing_file_is_said_to_be_missing(tmp_path, load, message):
    with pytest.raises(ValueError, match=message + ".*none.keras', which does not ex"):
        load(tmp_path / "none.keras")
    with pytest.raises(ValueError, match=message + ".*which is a folder"):
        load(tmp_path)


def test_denoise_loads_the_last_model_once(tmp_path, monkeypatch):
    loaded, load = [], inference.denoiser.load_denoiser

    def record(model, **options):
        loaded.append(model)
        return load(model, **options)

    monkeypatch.setattr(inference.denoiser, "load_denoiser", record)
    picture, path = _picture(1), tmp_path / "a.keras"
    results = [tfflowdn.denoise(picture, "denoiser_gray") for _ in range(2)]
    assert loaded == ["denoiser_gray"]
    np.testing.assert_array_equal(*results)
    network = load("denoiser_gray")
    network.save(path)
    before = tfflowdn.denoise(picture, path)
    network.set_weights([0 * weight for weight in network.get_weights()])
    network.save(path)
    assert np.any(tfflowdn.denoise(picture, path) != before)
    assert loaded == ["denoiser_gray", path, path]
