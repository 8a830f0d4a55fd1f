"""The training of an uncertainty from pictures to a file, and the refused inputs."""

from __future__ import annotations

import csv

import keras
import numpy as np
import pytest
from PIL import Image

from tfflowdn import config_files, noise, stages
from tfflowdn.models import ResNetDenoiser, UncertaintyNetwork, fingerprint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uncertainty")
    (folder / "clean").mkdir()
    rng = np.random.default_rng(0)
    for index in range(2):
        picture = rng.integers(0, 256, (16, 20), np.uint8)
        Image.fromarray(picture).save(folder / f"clean/{index}.png")
    for seed in (0, 1):
        network = ResNetDenoiser(1, num_blocks=1, hidden_channels=4, seed=seed)
        network.save(folder / f"denoiser_{seed}.keras")
    noise.NoiseModel(1).save(folder / "noise.keras")
    noise.NoiseModel(3).save(folder / "noise_rgb.keras")
    return folder


def config(folder, seed=0, **changes):
    result = config_files.get_config("uncertainty:smoke")
    result.denoiser = str(folder / f"denoiser_{seed}.keras")
    result.clean.spec = result.validation.spec = str(folder / "clean")
    result.update_from_flattened_dict(changes)
    return result


def test_a_run_writes_the_network_and_continues(folder, tmp_path):
    path = stages.train_uncertainty(config(folder), tmp_path)
    network = keras.models.load_model(path)
    assert isinstance(network, UncertaintyNetwork)
    denoiser = keras.models.load_model(config(folder).denoiser)
    assert network.denoiser == fingerprint(denoiser)
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert all(0 < float(row["val_within_1"]) < 1 for row in rows)
    path.unlink()
    again = keras.models.load_model(stages.train_uncertainty(config(folder), tmp_path))
    for was, weights in zip(network.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(was, weights)
    with pytest.raises(ValueError, match=r"\['denoiser'\] differ"):
        stages.train_uncertainty(config(folder, seed=1), tmp_path)


def test_the_learned_noise_is_added(folder, tmp_path):
    learned = config(folder, noise=str(folder / "noise.keras"))
    networks = [
        keras.models.load_model(stages.train_uncertainty(each, tmp_path / name))
        for name, each in (("generic", config(folder)), ("learned", learned))
    ]
    kernels = [network.hidden[0].kernel.numpy() for network in networks]
    assert not np.array_equal(*kernels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"denoiser": ""}, "denoiser"),
        ({"clean.spec": ""}, "clean.spec"),
        ({"noise": "noise_rgb.keras"}, "noise must be for 1 channel"),
    ],
)
def test_bad_configurations_are_refused(
    folder, tmp_path, monkeypatch, changes, message
):
    monkeypatch.chdir(folder)
    with pytest.raises(ValueError, match=message):
        stages.train_uncertainty(config(folder, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()
