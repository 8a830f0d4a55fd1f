"""Estimates of the error without references, against the true error."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tfflowdn import NoiseModel, inference
from tfflowdn.inference import risk

SIDE, LEVEL = 96, np.log(0.08)


def smooth(picture):
    """A linear denoiser: the mean over 3 x 3 pixels, periodic."""
    rows = sum(np.roll(picture, shift, 0) for shift in (-1, 0, 1)) / 3
    return sum(np.roll(rows, shift, 1) for shift in (-1, 0, 1)) / 3


def shrink(picture):
    """A denoiser that is not linear."""
    mean = smooth(picture)
    detail = picture - mean
    return mean + np.sign(detail) * np.maximum(np.abs(detail) - 0.08, 0)


def make_noise(kind):
    channels = 3 if kind == "color" else 1
    model = NoiseModel(channels)
    model.log_levels.assign([np.log(0.08)])
    if kind == "correlated":
        kernel = np.zeros(model.cepstrum.weights[0].shape)
        kernel.flat[:4] = 0.4
        model.cepstrum.weights[0].assign(kernel)
    if kind == "brightness":
        ramp = np.linspace(-0.7, 0.7, model.num_knots)
        values = model.noise_level.weights[0]
        values.assign(np.broadcast_to(ramp.reshape(-1, 1), values.shape))
    return model


def make_pair(model, seed, level=LEVEL):
    rng = np.random.default_rng(seed)
    waves = np.sin(np.arange(SIDE) * rng.uniform(0.05, 0.4, (2, 1)))
    clean = 0.5 + 0.15 * (waves[0][:, None] + waves[1])[..., None]
    clean = np.float32(clean * np.ones(model.channels))
    sample = model.sample(clean[None], [seed, 1], level)[0].numpy()
    return clean, clean + sample


@pytest.mark.parametrize("denoise", [smooth, shrink])
@pytest.mark.parametrize("kind", ["white", "correlated", "brightness", "color"])
def test_the_estimate_is_the_true_error(kind, denoise):
    model = make_noise(kind)
    true, known, matched, noisy = [], [], [], []
    for seed in range(4):
        clean, picture = make_pair(model, seed)
        level = float(np.log(0.08))
        estimate = risk.estimate_risk(denoise, picture, model, log_level=level)
        known.append(estimate.mse)
        matched.append(risk.estimate_risk(denoise, picture, model).mse)
        true.append(np.mean((denoise(picture) - clean) ** 2))
        noisy.append(np.mean((picture - clean) ** 2))
        assert estimate.noisy_mse == pytest.approx(noisy[-1], rel=0.15)
    expected, variance = float(np.mean(true)), float(np.mean(noisy))
    assert np.mean(known) == pytest.approx(expected, abs=0.06 * variance)
    assert np.mean(matched) == pytest.approx(expected, abs=0.15 * variance)


def test_the_divergence_of_a_linear_denoiser_is_exact():
    model = make_noise("white")
    clean, picture = make_pair(model, 0)
    probe = np.random.default_rng(0).normal(size=clean.shape)
    expected = np.mean(probe * smooth(probe))
    assert risk._divergence(smooth, picture, probe) == pytest.approx(expected)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_the_level_is_found(factor):
    model = make_noise("white")
    level = float(np.log(0.08 * factor))
    found = [
        risk.match_level(smooth, make_pair(model, seed, level)[1], model)
        for seed in range(3)
    ]
    assert np.mean(found) == pytest.approx(level, abs=0.08)


def test_the_variance_is_that_of_samples():
    model = make_noise("brightness")
    signal = np.float32(np.linspace(0, 1, 64)[:, None, None] * np.ones((1, 64, 1)))
    many = model.sample(np.stack([signal] * 64), [0, 1], np.log(0.1)).numpy()
    expected = (many**2).mean((0, 2))
    found = risk.noise_variance(model, signal, np.log(0.1)).mean(1)
    np.testing.assert_allclose(found, expected, rtol=0.15)


def test_removed_structure_is_seen():
    model = make_noise("white")
    rng = np.random.default_rng(0)
    texture = np.zeros((SIDE, SIDE, 1))
    texture[:, : SIDE // 2] = 0.2 * rng.choice([-1, 1], (SIDE, SIDE // 2, 1))
    ramp = 0.3 * np.linspace(0, 1, SIDE)[:, None, None]
    picture = np.float32(0.3 + ramp + texture + 0.08 * rng.normal(size=texture.shape))
    found = risk.estimate_risk(smooth, picture, model, log_level=np.log(0.08))
    assert found.structure > 0.5
    left, right = found.removed_map[:, :5].mean(), found.removed_map[:, 7:].mean()
    assert left > 3 * right and right == pytest.approx(1, abs=0.3)
    _, picture = make_pair(model, 0)
    assert risk.estimate_risk(smooth, picture, model).structure < 0.2


def test_pooled_estimates_vary_less():
    rng = np.random.default_rng(0)
    blank = np.zeros(1)
    true = np.exp(rng.normal(-6, 0.5, 40))
    risks = [
        inference.Risk(
            mse=t * np.exp(rng.normal(0, 0.5)),
            spread=0.5,
            rehearsed_mse=t / 1.5 * np.exp(rng.normal(0, 0.1)),
            noisy_mse=0.01,
            log_level=0.0,
            structure=0.0,
            denoised=blank,
            removed_map=blank,
        )
        for t in true
    ]
    pooled = inference.pool_risks(risks)
    errors = [np.std(np.log([r.mse for r in each] / true)) for each in (risks, pooled)]
    assert errors[1] < errors[0] / 2 and inference.pool_risks([]) == []
    sure = dataclasses.replace(risks[0], spread=1e-9)
    assert inference.pool_risks([sure])[0].mse == pytest.approx(sure.mse)


@pytest.mark.parametrize("shape", [(8, 40, 1), (40, 40, 3), (40, 40)])
def test_bad_pictures_are_refused(shape):
    with pytest.raises(ValueError, match="picture must be.*Received: picture.shape"):
        inference.estimate_risk(smooth, np.zeros(shape), NoiseModel())
