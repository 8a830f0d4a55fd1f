"""Pairs that are made of noisy pictures and their learned noise."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfflowdn import (
    NoiseModel,
    ResNetDenoiser,
    config_files,
    data,
    load_denoiser,
    stages,
)


def test_the_errors_of_a_pair_are_independent_and_have_mean_zero():
    model = NoiseModel()
    level = np.log(0.1)
    rng = np.random.default_rng(0)
    clean = np.full((16, 64, 64, 1), 0.5, np.float32)
    noisy = clean + np.float32(0.1 * rng.normal(size=clean.shape))
    levels = np.full(clean.shape, level, np.float32)
    stacked = np.concatenate([noisy, clean, levels], -1)

    def crops(first_step):
        return tf.data.Dataset.from_tensors(stacked).repeat().skip(first_step)

    pairs = stages.recorrupted_pairs(crops, model, 5, strength=0.5)
    first, second = (next(iter(pairs(step))) for step in (0, 1))
    source, target = (np.array(part) - clean for part in first)
    assert np.corrcoef(source.ravel(), target.ravel())[0, 1] == pytest.approx(
        0, abs=0.01
    )
    assert source.std() == pytest.approx(0.1 * np.sqrt(1.25), rel=0.02)
    assert target.std() == pytest.approx(0.1 * np.sqrt(5), rel=0.02)
    assert abs(target.mean()) < 0.005
    assert np.abs(first[0] - second[0]).max() > 0.01  # Each step has other noise.
    with pytest.raises(ValueError, match="strength must be positive.*Received"):
        stages.recorrupted_pairs(crops, model, 5, strength=0)


def test_the_stage_trains_and_keeps_the_range(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("noisy", "clean"):
        (tmp_path / folder).mkdir()
        for index in range(2):
            values = np.uint16(rng.integers(100, 900, (24, 30, 1)))
            data.write_image(tmp_path / folder / f"{index}.tif", values)
    network = ResNetDenoiser(num_blocks=1, hidden_channels=4)
    network.save(tmp_path / "start.keras")
    model = NoiseModel()
    model.log_levels.assign([-2.0])
    model.save(tmp_path / "noise.keras")
    config = config_files.get_config("denoiser_resnet:smoke_recorrupt")
    config.denoiser = str(tmp_path / "start.keras")
    config.noise = str(tmp_path / "noise.keras")
    for name in ("noisy", "clean"):
        config[name].spec = str(tmp_path / name)
        config[name].pixel_range = "0,1023"
    path = stages.train_denoiser(config, tmp_path / "run")
    trained = load_denoiser(path)
    assert data.check_range(trained.pixel_range) == "0.0,1023.0"
    pairs = zip(trained.get_weights(), network.get_weights(), strict=True)
    assert any(np.abs(a - b).max() > 0 for a, b in pairs)
