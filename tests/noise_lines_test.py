"""The common parts of rows and columns: estimated, removed, learned and sampled."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tfflowdn.noise import NoiseModel, estimate_calm_noise
from tfflowdn.noise.crops import NoiseCrops
from tfflowdn.noise.lines import line_variances, without_lines

SIGMA = 0.04


def striped(shape, rows, columns, seed=0):
    """Returns noise [n, H, W, C] with lines of the given variances."""
    count, height, width, channels = shape
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(shape)
    noise += np.sqrt(rows) * rng.standard_normal((count, height, 1, channels))
    noise += np.sqrt(columns) * rng.standard_normal((count, 1, width, channels))
    return np.float32(SIGMA * noise)


def crops_of(noise):
    count = len(noise)
    signal = np.full_like(noise, 0.5)
    return NoiseCrops(np.zeros(count, np.int32), signal, noise, np.ones(count))


@pytest.mark.parametrize(("rows", "columns"), [(1, 0), (0, 0.2), (0.3, 0.1), (0, 0)])
def test_moments_give_the_variances_and_the_rest_is_white(rows, columns):
    crops = crops_of(striped((200, 40, 48, 1), rows, columns))
    variances = line_variances(crops)
    np.testing.assert_allclose(variances[:, 0], [rows, columns], rtol=0.1, atol=0.01)
    rest = without_lines(crops, variances)
    assert rest.noise.std() == pytest.approx(SIGMA, rel=0.01)
    np.testing.assert_allclose(line_variances(rest), 0, atol=0.01)


def test_small_crops_have_no_lines():
    assert not line_variances(crops_of(striped((9, 8, 8, 3), 1, 1))).any()


def test_samples_have_the_moments_that_the_model_reports():
    model = NoiseModel(1, lines=True)
    model.set_line_variances([[1.0], [0.25]])
    noise = model.sample(np.full((100, 24, 24, 1), 0.5, np.float32), (1, 2), 0.0)
    noise = noise.numpy()
    assert noise.std() == pytest.approx(1.5, rel=0.03)
    assert model.level_curve()[1][0, 0] == pytest.approx(1.5)
    products = (noise[:, :, :-6] * noise[:, :, 6:]).mean(), noise.var()
    assert products[0] / products[1] == pytest.approx(1 / 2.25, abs=0.06)
    assert model.autocorrelation()[0, 6, 0] == pytest.approx(1 / 2.25)
    assert model.autocorrelation(with_lines=False)[0, 6, 0] == pytest.approx(0)


def test_a_file_keeps_the_lines_and_models_without_them_refuse(tmp_path):
    model = NoiseModel(3, lines=True)
    model.set_line_variances(np.full((2, 3), 0.5))
    model.save(tmp_path / "noise.keras")
    loaded = keras.models.load_model(tmp_path / "noise.keras")
    np.testing.assert_allclose(loaded.line_variances(), 0.5, rtol=1e-5)
    with pytest.raises(ValueError, match="lines must be True"):
        NoiseModel(3).set_line_variances(np.zeros((2, 3)))


@pytest.mark.parametrize("rows", [0.0, 1.0])
def test_calm_places_show_the_lines_of_a_picture(rows):
    pictures = list(0.5 + striped((2, 160, 160, 1), rows, 0, seed=1))
    model = estimate_calm_noise(
        pictures,
        calm_share=0.5,
        num_trims=0,
        num_steps=20,
        model_options={"lines": True},
    )
    # A plane was fitted to each crop, which takes a part of a row's value.
    assert model.line_variances()[0, 0] == pytest.approx(rows, rel=0.15, abs=0.01)
    assert model.line_variances()[1, 0] < 0.03
    level = np.exp(model.log_levels.numpy()).mean()
    assert level == pytest.approx(SIGMA, rel=0.1)
