"""The curves of noise: measured on pairs, read from a model, drawn."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tfflowdn.noise import add_noise
from tfflowdn.noise.curves import curves_of_model, curves_of_pairs, plot_curves
from tfflowdn.noise.noise_model import NoiseModel


def _pairs(kind, channels=1, count=4):
    rng = np.random.default_rng(0)
    for _ in range(count):
        ramp = np.linspace(0.02, 0.98, 96, dtype="float32")
        clean = np.tile(ramp[:, None, None], (1, 80, channels))
        yield add_noise(clean, kind, rng), clean


@pytest.mark.parametrize("channels", [1, 3])
def test_pairs_give_the_level_at_each_brightness(channels):
    curves = curves_of_pairs(_pairs("heteroscedastic", channels))
    truth = np.sqrt((40 / 255) ** 2 * curves.brightness + (10 / 255) ** 2)
    assert curves.std.shape == (16, channels)
    np.testing.assert_allclose(curves.std, np.tile(truth[:, None], channels), rtol=0.06)
    assert curves.skewness.shape == (16, channels)
    np.testing.assert_allclose(curves.skewness.mean(0), 0, atol=0.1)
    assert curves.autocorrelation.shape == (8, channels)
    np.testing.assert_allclose(curves.autocorrelation[0], 1)
    np.testing.assert_allclose(curves.autocorrelation[1:], 0, atol=0.02)


def test_pairs_give_the_correlation():
    curves = curves_of_pairs(_pairs("correlated", count=8))
    expected = np.exp(-(np.arange(8) ** 2) / 4)  # A Gaussian of 1 pixel with itself.
    np.testing.assert_allclose(curves.autocorrelation[:, 0], expected, atol=0.04)
    np.testing.assert_allclose(curves.std, 25 / 255, rtol=0.2)


def test_pairs_give_the_skewness():
    curves = curves_of_pairs(_pairs("poisson", count=32))
    expected = 1 / np.sqrt(30 * curves.brightness[:, None])  # Of Poisson's counts.
    np.testing.assert_allclose(curves.skewness, expected, rtol=0.15, atol=0.05)


def test_what_is_not_known_is_not_invented():
    clean = np.full((40, 40, 1), 0.5, "float32")
    noisy = add_noise(clean, "poisson", np.random.default_rng(0))
    curves = curves_of_pairs([(noisy, clean)])
    assert np.isfinite(curves.std).sum() == 1
    with pytest.raises(ValueError, match="pairs must hold at least one"):
        curves_of_pairs([])
    with pytest.raises(ValueError, match="100 pixels of similar brightness"):
        curves_of_pairs([(noisy[:2], clean[:2])])


def test_a_model_has_the_curves_that_its_samples_have(randomize):
    model = NoiseModel(num_knots=3, order=2)
    randomize(model)
    model.noise_skew.knots.assign([[0.0], [0.3], [0.0]])
    curves = curves_of_model(model)
    signal = np.full((64, 64, 64, 1), 0.5, "float32")
    noise = model.sample(signal, (1, 2), model.log_levels[0]).numpy()
    assert noise.std() == pytest.approx(curves.std[1, 0], rel=0.05)
    sampled = curves_of_pairs(zip(signal + noise, signal, strict=True))
    (found,) = sampled.skewness[np.isfinite(sampled.skewness)]
    assert found == pytest.approx(curves.skewness[1, 0], abs=0.05)
    np.testing.assert_allclose(
        curves.autocorrelation[:4], sampled.autocorrelation[:4], atol=0.05
    )


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_the_plot_is_a_picture(tmp_path, channels):
    curves = curves_of_pairs(_pairs("poisson", channels))
    path = tmp_path / "noise.png"
    plot_curves(path, {"learned": curves, "true": curves})
    assert np.asarray(Image.open(path).convert("L")).std() > 10
