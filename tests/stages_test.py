"""The stages: their inputs, their batches, and custom stages and networks."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfflowdn import data, inference, models, stages
from tfflowdn.models import DenoisingNetwork
from tfflowdn.scripts import measure_softness
from tfflowdn.stages import Run, train_denoiser, weighted_pairs
from tfflowdn.stages.objective import objective, rehearsed_pairs

CONFIGS = Path(__file__).parent.parent / "configs"


def _get_config(name, variant="smoke"):
    return runpy.run_path(str(CONFIGS / f"{name}.py"))["get_config"](variant)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rows, columns = np.meshgrid(np.arange(20), np.arange(24), indexing="ij")
    for pool, noise in (("clean", 0.0), ("noisy", 0.1), ("held_out", 0.0)):
        rng = np.random.default_rng(len(pool))
        (folder / pool).mkdir()
        for index in range(3):
            picture = 0.5 + 0.4 * np.sin(rows / rng.uniform(2, 5) + columns / 4)
            picture = picture + noise * rng.standard_normal(picture.shape)
            path = folder / pool / f"{index}.tif"
            data.write_image(path, np.float32(picture[..., np.newaxis]))
    return folder


@pytest.fixture(scope="module")
def prior_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("prior") / "prior.keras"
    models.FlowPrior(**_get_config("prior_glow").prior).save(path)
    return str(path)


def _config(pictures, prior=None, variant="smoke"):
    config = _get_config("denoiser_resnet", variant)
    config.prior = prior
    config.clean.spec = str(pictures / "clean")
    config.noisy.spec = str(pictures / "noisy")
    return config


@pytest.fixture
def decoded(monkeypatch):
    """The names of the pictures that were decoded, in order."""
    names, stored = [], data.FileSource.stored

    def read(source, index):
        names.append(source.paths[index].name)
        return stored(source, index)

    monkeypatch.setattr(data.FileSource, "stored", read)
    return names


def test_the_stages_decode_each_picture_once(pictures, prior_path, decoded):
    config = _config(pictures, prior_path)
    run = Run(config)
    works = [stages.STAGES[name](config[name], run) for name in ("start", "objective")]
    for work in works:
        for step in (0, 1):
            next(iter(work.batches(step)))
        work.names(0)
    assert sorted(decoded) == sorted(2 * [f"{index}.tif" for index in range(3)])
    assert works[0].model is works[1].model.network is run.network


def test_the_channels_are_those_of_the_clean_pictures_without_a_model(
    pictures, decoded
):
    config = _config(pictures)
    run = Run(config)
    assert run.channels == run.network.channels == 1
    run.pictures("clean")
    assert len(decoded) == 3


def test_rehearsed_pairs_accompany_the_noisy_pictures(pictures, prior_path):
    config = _config(pictures, prior_path)
    run = Run(config)
    batches = objective(config.objective, run).batches
    (noisy, synthetic), clean = next(iter(batches(3)))
    crops = data.RandomCrops(run.pictures("noisy"), **config.objective.crops)
    np.testing.assert_array_equal(noisy, next(iter(crops(3))))
    assert noisy.shape == synthetic.shape == clean.shape == (4, 8, 8, 1)
    levels = np.std(synthetic - clean, axis=(1, 2, 3))
    assert 0 < levels.max() < 2 * config.objective.rehearsal.noise.max_sigma
    start = data.RandomCrops(run.pictures("clean"), **config.start.crops)
    assert not np.allclose(clean, next(iter(start(3))))
    (_, again), _ = list(batches(2).take(2))[1]
    np.testing.assert_array_equal(again, synthetic)
    config.objective.loss.rehearsal_weight = 0.0
    assert next(iter(objective(config.objective, run).batches(0))).shape == (4, 8, 8, 1)


def test_rehearsed_crops_have_options_of_their_own(pictures):
    def clean_crops(contrast):
        config = _config(pictures)
        crops = config.objective.rehearsal.crops
        crops.contrast_range = (contrast, contrast)
        pairs = rehearsed_pairs(config.objective, Run(config))
        return next(iter(pairs(0)))[1].numpy()

    plain = clean_crops(1.0)
    mean = plain.mean(axis=(1, 2), keepdims=True)
    expected = mean + 0.25 * (plain - mean)
    np.testing.assert_allclose(clean_crops(0.25), expected, atol=1e-6)


def test_weights_make_every_level_of_noise_count_alike():
    rng = np.random.default_rng(0)
    clean = rng.uniform(size=(3, 8, 8, 1)).astype("float32")
    levels = np.array([0.1, 0.4, 0.0], "float32")
    signs = np.sign(rng.normal(size=clean.shape)).astype("float32")
    noisy = clean + levels[:, None, None, None] * signs
    mse = levels**2

    def pairs(first_step):
        assert first_step == 5
        return tf.data.Dataset.from_tensors((noisy, clean))

    assert weighted_pairs(pairs, None) is pairs
    *same, weights = next(iter(weighted_pairs(pairs, 0.1)(5)))
    np.testing.assert_array_equal(same, [noisy, clean])
    assert weights.shape == (3, 1, 1)
    expected = 1 / (mse + 0.01)
    expected /= expected.mean()
    np.testing.assert_allclose(np.ravel(weights), expected, rtol=1e-4)
    # Keras multiplies the squared error of every pixel by its picture's weight.
    loss = keras.losses.MeanSquaredError()(clean, noisy, sample_weight=weights)
    np.testing.assert_allclose(loss, np.mean(expected * mse), rtol=1e-4)


def _no_stage(config, _):
    config.start = config.objective = None
    return re.escape(f"at least one of the stages {[*stages.STAGES]}")


def _no_clean_pictures(config, _):
    config.clean.spec, config.objective = "", None
    return r"--config.clean.spec=PICTURES must be given.*Received: clean.spec=''"


def _no_noisy_pictures(config, _):
    config.noisy.spec = None
    return r"--config.noisy.spec=PICTURES must be given.*Received: noisy.spec=None"


def _no_prior(config, _):
    config.prior = None
    return r"--config.prior=PRIOR.keras must be given.*Received: prior=None"


def _no_references(config, pictures):
    config.validation.noisy = str(pictures / "noisy")
    return "--config.validation.clean=PICTURES must be given"


def _other_network(config, _):
    config.network.kind = "unet"
    return "kind must be one of .*'resnet'.*Received: kind='unet'"


def _foreign_denoiser(config, pictures):
    inputs = keras.Input((None, None, 1))
    outputs = keras.layers.Conv2D(1, 3, padding="same")(inputs)
    config.denoiser = str(pictures.parent / "foreign.keras")
    keras.Model(inputs, outputs).save(config.denoiser)
    return "denoiser must hold a DenoisingNetwork.*a Functional"


@pytest.mark.parametrize(
    "spoil",
    [
        _no_stage,
        _no_clean_pictures,
        _no_noisy_pictures,
        _no_prior,
        _no_references,
        _other_network,
        _foreign_denoiser,
    ],
)
def test_a_missing_part_is_reported_before_any_output(
    spoil, pictures, prior_path, tmp_path
):
    config = _config(pictures, prior_path)
    message = spoil(config, pictures)
    with pytest.raises(ValueError, match=message):
        train_denoiser(config, tmp_path)
    assert not list(tmp_path.iterdir())


def test_noise2void_reads_noisy_pictures_only(pictures, tmp_path):
    config = _config(pictures, variant="smoke_noise2void")
    config.clean.spec = None
    path = train_denoiser(config, tmp_path / "run")
    assert inference.load_denoiser(path).channels == 1
    assert (tmp_path / "run/noise2void/history.csv").exists()
    config.noisy.spec = ""
    message = "--config.noisy.spec=PICTURES must be given because Noise2Void learns"
    with pytest.raises(ValueError, match=message):
        train_denoiser(config, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("section", ["clean", "validation"])
def test_train_prior_needs_pictures(section, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(pictures)  # The current directory is not taken for pictures.
    config = _get_config("prior_glow")
    config.clean.spec = config.validation.spec = str(pictures / "clean")
    config[section].spec = ""
    message = rf"--config.{section}.spec=PICTURES must be given.*Received: {section}"
    with pytest.raises(ValueError, match=message):
        stages.train_prior(config, tmp_path)


def test_damaged_validation_pictures_are_reported_before_training(
    pictures, prior_path, tmp_path
):
    (tmp_path / "noisy").mkdir()
    for path in (pictures / "held_out").iterdir():
        whole = path.read_bytes()
        (tmp_path / "noisy" / path.name).write_bytes(whole[: len(whole) * 3 // 4])
    config = _config(pictures, prior_path)
    config.validation.noisy = str(tmp_path / "noisy")
    config.validation.clean = str(pictures / "held_out")
    with pytest.raises(data.ImageReadError, match=r"noisy.*\.tif"):
        train_denoiser(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@keras.saving.register_keras_serializable("stages_test")
class Average(DenoisingNetwork):
    """A network of one's own: one convolution."""

    def __init__(self, channels=1, *, width=3, **kwargs):
        super().__init__(channels, **kwargs)
        self.width = width
        self.layer = keras.layers.Conv2D(channels, width, padding="same")
        self.layer.build((None, None, None, channels))
        self.built = True

    receptive_radius = property(lambda self: self.width // 2)

    def call(self, noisy):
        return self.layer(noisy)

    def get_config(self):
        return {**super().get_config(), "width": self.width}


def _copy_of_start(section, run):
    """A stage of one's own: as the start, without noise."""
    return run.pair_work(section, lambda images, **_: images)


def test_a_stage_and_a_network_of_ones_own(pictures, tmp_path, monkeypatch):
    monkeypatch.setitem(models.NETWORKS, "average", Average)
    monkeypatch.setitem(stages.STAGES, "identity", _copy_of_start)
    smoke = _config(pictures).to_dict()
    smoke["identity"] = smoke.pop("start")
    del smoke["objective"]
    smoke["network"] = {"kind": "average", "width": 5, "precision": "float32"}
    config = type(_config(pictures))(smoke)
    path = train_denoiser(config, tmp_path / "run")
    assert (tmp_path / "run" / "identity" / "history.csv").exists()
    network = inference.load_denoiser(path)
    assert isinstance(network, Average) and network.width == 5
    assert inference.Denoiser(network).margin == 2
    noisy = np.full((6, 7), 128, np.uint8)
    assert inference.denoise(noisy, network).shape == (6, 7)
    config.denoiser = str(path)
    assert isinstance(Run(config).network, Average)


def test_a_network_must_have_a_receptive_radius():
    class Incomplete(DenoisingNetwork):
        pass

    with pytest.raises(TypeError, match="receptive_radius"):
        Incomplete()


def test_pictures_that_cannot_be_decoded_are_found_first(pictures, tmp_path):
    config = _get_config("noise")
    config.clean.spec = str(pictures / "clean")
    config.noisy.spec = str(tmp_path / "noisy")
    config.evidence = "calm"
    (tmp_path / "noisy").mkdir()
    for name in ("0.tif", "1.tif"):
        content = (pictures / "noisy" / name).read_bytes()
        (tmp_path / "noisy" / name).write_bytes(content)
    broken = _png_without_pixels()
    for name in ("a.png", "b.png"):
        (tmp_path / "noisy" / name).write_bytes(broken)
    with pytest.raises(data.ImageReadError, match=r"(?s)2 of 4.*a\.png.*b\.png"):
        stages.train_noise(config, tmp_path / "run")
    noisy, clean = str(tmp_path / "noisy"), str(pictures / "clean")
    with pytest.raises(data.ImageReadError, match=r"(?s)2 of 4.*a\.png.*b\.png"):
        measure_softness.zoom_range(noisy, clean, None)


def _png_without_pixels():
    content = tf.io.encode_png(np.zeros((20, 24, 1), np.uint8)).numpy()
    start = content.index(b"IDAT")
    return content[: start + 8] + content[-16:]
