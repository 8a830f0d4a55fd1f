"""Pictures of 2 and 5 channels, from training to a denoised file and an export."""

from __future__ import annotations

import runpy
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tifffile

from tfflowdn import Denoiser, data, inference, models, stages
from tfflowdn.scripts.denoise import denoise_files
from tfflowdn.scripts.evaluate import evaluate
from tfflowdn.scripts.score import score
from tfflowdn.serving import export_model

CONFIGS = Path(__file__).parent.parent / "configs"


def _config(name, **overrides):
    config = runpy.run_path(str(CONFIGS / f"{name}.py"))["get_config"]("smoke")
    config.update_from_flattened_dict(overrides)
    return config


def _pictures(folder, channels, noise, count=3):
    folder.mkdir(parents=True)
    rows, columns = np.mgrid[:16, :20]
    rng = np.random.default_rng(0)
    for index in range(count):
        phase = np.arange(channels) + rng.uniform(2, 5)
        picture = 120 + 90 * np.sin(rows[..., None] / 3 + columns[..., None] / phase)
        picture = picture + noise * rng.standard_normal(picture.shape)
        picture = np.clip(picture, 0, 255).astype(np.uint8)
        if index:
            np.save(folder / f"{index}.npy", np.moveaxis(picture, -1, 0))
        else:
            _write_tiff(folder / f"{index}.tif", picture)
    return str(folder)


def _write_tiff(path, picture, extra=0):
    options = {"photometric": "minisblack", "planarconfig": "contig"}
    options["extrasamples"] = [extra] * (picture.shape[-1] - 1)
    tifffile.imwrite(path, picture, **options)


def _network(channels):
    """Returns a network that mixes the channels, which no gray network does."""
    inputs = keras.Input((None, None, channels))
    mixed = keras.layers.Conv2D(channels, 1, kernel_initializer="ones")(inputs)
    outputs = keras.layers.Rescaling(1 / channels)(mixed)
    network = keras.Model(inputs, outputs)
    network.receptive_radius, network.scale = 0, 1
    return network


@pytest.mark.parametrize("channels", [2, 5])
def test_from_training_to_a_file_and_an_export(tmp_path, channels, caplog):
    clean = _pictures(tmp_path / "clean", channels, 0)
    noisy = _pictures(tmp_path / "noisy", channels, 20)
    shared = {"clean.spec": clean, "clean.axes": "CYX"}
    config = _config("denoiser_resnet", **shared)
    with config.unlocked():
        del config["objective"]
    path = stages.train_denoiser(config, tmp_path / "denoiser")
    network = inference.load_denoiser(path)
    assert network.channels == channels

    denoise_files([noisy], str(tmp_path / "out"), str(path), axes="CYX")
    picture = tifffile.imread(f"{noisy}/0.tif")
    result = tifffile.imread(tmp_path / "out/0.tif")
    np.testing.assert_array_equal(result, Denoiser(network)(picture))
    array = np.load(f"{noisy}/1.npy")
    expected = Denoiser(network)(np.moveaxis(array, 0, -1))
    result = np.load(tmp_path / "out/1.npy")
    np.testing.assert_array_equal(np.moveaxis(result, 0, -1), expected)

    scores = evaluate(noisy, clean, str(path), axes="CYX")
    assert len(scores["pictures"]) == 3 and scores["mean"]["noisy_psnr"] < 30
    served = tf.saved_model.load(str(export_model(network, tmp_path / "models", "a")))
    assert "encoded is left out" in caplog.text
    assert "encoded" not in served.signatures
    answer = served.signatures["uint8"](noisy=tf.constant(picture[np.newaxis]))
    np.testing.assert_allclose(
        answer["denoised"][0], Denoiser(network)(picture), atol=1
    )


def test_a_prior_has_the_channels_of_the_pictures(tmp_path):
    clean = _pictures(tmp_path / "clean", 2, 0)
    config = _config(
        "prior_nice",
        **{"clean.spec": clean, "clean.axes": "CYX", "validation.spec": clean},
    )
    config.prior.image_shape = (8, 8, 0)
    prior = stages.train_prior(config, tmp_path / "prior")
    assert inference.load_prior(prior).channels == 2

    rows = score(clean, str(prior), str(tmp_path / "maps"), axes="CYX")["pictures"]
    assert len(rows) == len(list((tmp_path / "maps").iterdir())) == 3


@pytest.mark.parametrize("channels", [2, 4, 5, 16])
def test_channels_are_seen_together_by_a_network_for_them(tmp_path, channels):
    denoiser, rng = Denoiser(_network(channels)), np.random.default_rng(0)
    picture = rng.integers(0, 200, (12, 14, channels)).astype(np.uint8)
    mean = np.broadcast_to(picture.mean(-1, keepdims=True), picture.shape)
    arrays = {
        None: picture,
        "YXS": picture,
        "yxc": picture,
        "CYX": np.moveaxis(picture, -1, 0),
        "TYCX": np.moveaxis(picture, -1, 1)[np.newaxis],
    }
    for axes, array in arrays.items():
        denoised = denoiser(array, axes=axes)
        order = {"CYX": (1, 2, 0), "TYCX": (1, 3, 2)}.get(axes, (0, 1, 2))
        denoised = denoised[0] if axes == "TYCX" else denoised
        order = (0, 2, 1) if axes == "TYCX" else order
        np.testing.assert_allclose(np.transpose(denoised, order), mean, atol=1)
    _write_tiff(tmp_path / "a.tif", picture)
    np.save(tmp_path / "b.npy", picture)
    denoise_files([str(tmp_path)], str(tmp_path / "out"), denoiser)
    read = (tifffile.imread(tmp_path / "out/a.tif"), np.load(tmp_path / "out/b.npy"))
    for result in read:
        np.testing.assert_allclose(result, mean, atol=1)
    source = data.open_source(str(tmp_path / "?.*"), channels=channels)
    for loaded in source.dataset().as_numpy_iterator():
        np.testing.assert_array_equal(loaded, picture)


def test_declared_alpha_is_alpha_for_any_network(tmp_path):
    picture = np.random.default_rng(0).integers(0, 200, (12, 14, 2)).astype(np.uint8)
    _write_tiff(tmp_path / "a.tif", picture, extra=2)
    data.write_image(tmp_path / "b.png", picture)
    denoiser = Denoiser(_network(2))
    denoise_files([str(tmp_path)], str(tmp_path / "out"), denoiser)
    for result in (
        tifffile.imread(tmp_path / "out/a.tif"),
        data.read_image(tmp_path / "out/b.png"),
    ):
        np.testing.assert_array_equal(result[..., 1], picture[..., 1])
    with pytest.raises(ValueError, match="must have 2 channel.*Received: channels=1"):
        data.open_source(str(tmp_path / "b.png"), channels=2)


def test_a_gray_network_keeps_channels_apart():
    planes = np.random.default_rng(0).random((5, 12, 14), np.float32)
    gray = models.ResNetDenoiser(num_blocks=1, hidden_channels=4)
    denoiser = Denoiser(gray, _network(5))
    apart = denoiser(planes, axes="CYX")
    np.testing.assert_allclose(apart, denoiser(planes, axes="ZYX"), atol=1e-6)
    with pytest.raises(ValueError, match="as many channels as the model, or 1"):
        Denoiser(_network(5))(planes[:3].transpose(1, 2, 0))
    with pytest.raises(ValueError, match="luminance_only must be given for pictures"):
        Denoiser(_network(5))(planes.transpose(1, 2, 0), luminance_only=True)


@pytest.mark.parametrize("channels, axes, found", [(None, "CYX", 5), (1, "CYX", 1)])
def test_the_axis_of_the_channels_of_a_source(tmp_path, channels, axes, found):
    np.save(tmp_path / "a.npy", np.zeros((5, 12, 14), np.uint8))
    source = data.open_source(str(tmp_path), channels=channels, axes=axes)
    assert source.channels == found and len(source) == (1 if found == 5 else 5)
