"""The scripts end to end on tiny pictures, and their messages for bad input."""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path

import forks
import keras
import numpy as np
import pytest
import tensorflow as tf
import tifffile

from tfflowdn import FlowPrior, data, devices, inference, training
from tfflowdn.devices import map_shards
from tfflowdn.scripts import denoise_queue
from tfflowdn.scripts.denoise import denoise_files
from tfflowdn.scripts.evaluate import evaluate
from tfflowdn.scripts.score import score
from tfflowdn.stages import train_denoiser, train_noise, train_prior

ROOT = Path(__file__).parent.parent


def _config(name, variant="smoke"):
    return runpy.run_path(str(ROOT / "configs" / f"{name}.py"))["get_config"](variant)


def _write_pictures(folder, count=3, size=(20, 24), channels=1, seed=0, noise=0.0):
    folder.mkdir(parents=True, exist_ok=True)
    rng, noise_rng = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    for index in range(count):
        rows, columns = np.meshgrid(*map(np.arange, size), indexing="ij")
        picture = 0.5 + 0.4 * np.sin(rows / rng.uniform(2, 5) + columns / 4)
        picture = np.repeat(picture[..., np.newaxis], channels, -1)
        picture = np.float32(picture + noise * noise_rng.standard_normal(picture.shape))
        if noise:
            data.write_image(folder / f"{index}.tif", picture)
        else:
            picture = data.from_float(picture, np.uint8)
            data.write_image(folder / f"{index}.png", picture)
    return str(folder)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    return {
        "clean": _write_pictures(folder / "clean", seed=0),
        "held_out": _write_pictures(folder / "held_out", seed=1),
        "noisy": _write_pictures(folder / "noisy", seed=2, noise=0.1),
        "reference": _write_pictures(folder / "reference", seed=2),
        "noisy_held_out": _write_pictures(folder / "noisy_held_out", seed=1, noise=0.1),
        "rgb": _write_pictures(folder / "rgb", channels=3),
        "noisy_rgb": _write_pictures(folder / "noisy_rgb", channels=3, noise=0.1),
    }


def _prior_config(pictures, name="prior_glow"):
    config = _config(name)
    config.clean.spec, config.validation.spec = pictures["clean"], pictures["held_out"]
    return config


@pytest.fixture(scope="module")
def prior_path(pictures, tmp_path_factory):
    return train_prior(_prior_config(pictures), tmp_path_factory.mktemp("prior"))


@pytest.fixture(scope="module")
def denoiser_path(pictures, prior_path, tmp_path_factory):
    config = _denoiser_config(pictures, prior_path)
    return train_denoiser(config, tmp_path_factory.mktemp("denoiser"))


def _denoiser_config(pictures, prior_path, name="denoiser_resnet", variant="smoke"):
    config = _config(name, variant)
    config.prior = str(prior_path)
    config.clean.spec, config.noisy.spec = pictures["clean"], pictures["noisy"]
    config.validation.noisy = pictures["noisy_held_out"]
    config.validation.clean = pictures["held_out"]
    return config


def _history(folder):
    return (folder / "history.csv").read_text().splitlines()


def test_train_prior_writes_its_outputs(prior_path):
    workdir = prior_path.parent
    prior = keras.models.load_model(prior_path, compile=False)
    assert isinstance(prior, FlowPrior)
    assert prior.initialized
    assert len(_history(workdir)) == 3
    assert "val_bits_per_dim" in _history(workdir)[0]
    assert "gradient_norm" in _history(workdir)[0]
    grid = data.read_image(workdir / "samples" / "epoch_0002.png")
    assert grid.shape == (32, 32, 1)
    events = list((workdir / "logs" / "samples").glob("*tfevents*"))
    tags = {
        value.tag
        for event in tf.compat.v1.train.summary_iterator(str(events[0]))
        for value in event.summary.value
    }
    assert tags == {"samples"}
    assert not list(workdir.rglob(".tmp.*"))
    page = (workdir / "report.html").read_text("utf-8")
    assert "bits/dim on the validation pictures" in page and "epoch 0002" in page


def test_train_prior_resumes_where_it_was(prior_path, pictures, tmp_path):
    config = _prior_config(pictures)
    config.training.num_steps = 2
    train_prior(config, tmp_path)
    weights = (tmp_path / "checkpoint.npz").read_bytes()
    train_prior(config, tmp_path)
    assert (tmp_path / "checkpoint.npz").read_bytes() == weights
    config.training.num_steps = 4
    train_prior(config, tmp_path)
    assert [row.split(",")[0] for row in _history(tmp_path)] == ["epoch", "0", "1"]
    del prior_path


def test_train_prior_saves_what_bfloat16_trained_in_float32(
    prior_path, pictures, tmp_path
):
    path = train_prior(_prior_config(pictures), tmp_path, precision="mixed_bfloat16")
    prior = keras.models.load_model(path, compile=False)
    expected = keras.models.load_model(prior_path, compile=False)
    assert prior.flow_options == expected.flow_options
    losses = [
        float(row.split(",")[_history(folder)[0].split(",").index("loss")])
        for folder in (tmp_path, prior_path.parent)
        for row in _history(folder)[-1:]
    ]
    assert losses[0] == pytest.approx(losses[1], abs=0.02)
    assert losses[0] != pytest.approx(losses[1], abs=1e-6)
    config = _prior_config(pictures)
    config.training.num_steps = 6  # Continues in bfloat16 on every machine.
    train_prior(config, tmp_path)
    assert json.loads((tmp_path / "precision.json").read_text()) == "mixed_bfloat16"


@pytest.mark.parametrize("chosen", [None, False, True])
def test_train_prior_saves_what_patch_gradients_trained_without_them(
    chosen, prior_path, pictures, tmp_path, monkeypatch
):
    trained = []
    fit = training.fit

    def keep(prior, *arguments, **options):
        trained.append(prior.flow_options["patch_gradients"])
        fit(prior, *arguments, **options)

    monkeypatch.setattr(training, "fit", keep)
    config = _prior_config(pictures)
    config.prior.flow_options.patch_gradients = chosen
    if chosen is None:  # A run continues with or without them.
        config.training.num_steps = 2
        train_prior(config, tmp_path, patch_gradients=True)
        config.training.num_steps = 4
    path = train_prior(config, tmp_path, patch_gradients=chosen is False)
    assert trained == ([True, False] if chosen is None else [chosen])
    assert len(_history(tmp_path)) == 3
    prior = keras.models.load_model(path, compile=False)
    expected = keras.models.load_model(prior_path, compile=False)
    assert prior.flow_options == expected.flow_options
    assert "patch_gradients" not in prior.flow_options
    for result, weight in zip(prior.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(result, weight, atol=1e-4)


@pytest.mark.parametrize("gpus", [[], ["GPU:0"]])
def test_patches_pay_without_a_gpu(gpus, monkeypatch):
    found = {"GPU": gpus}
    monkeypatch.setattr(tf.config, "list_physical_devices", found.get)
    assert devices.patches_pay() == (not gpus)


@pytest.mark.parametrize("seconds", [(2.0, 1.0), (1.0, 2.0)])
def test_the_faster_precision_is_measured(monkeypatch, seconds):
    assert devices._seconds_of_convolution("bfloat16") > 0
    times = dict(zip(["float32", "bfloat16"], seconds, strict=True))
    monkeypatch.setattr(devices, "_seconds_of_convolution", times.get)
    expected = "mixed_bfloat16" if times["bfloat16"] < times["float32"] else None
    assert devices.faster_precision() == expected


@pytest.mark.parametrize("name", ["prior_nice", "prior_realnvp", "prior_paper"])
def test_every_prior_trains(name, pictures, tmp_path):
    config = _prior_config(pictures, name)
    config.training.num_steps = config.training.steps_per_epoch = 1
    prior = keras.models.load_model(train_prior(config, tmp_path), compile=False)
    assert np.isfinite(prior.log_prob(np.full((1, 8, 8, 1), 0.5))).all()


def test_train_denoiser_trains_both_parts(denoiser_path):
    workdir = denoiser_path.parent
    for part in ("start", "objective"):
        assert len(_history(workdir / part)) == 3
        assert "val_psnr" in _history(workdir / part)[0]
    assert "rehearsal_mse" in _history(workdir / "objective")[0]
    page = (workdir / "report.html").read_text("utf-8")
    parts = ("start: psnr", "objective: psnr", "Samples of the prior", "the mean PSNR")
    assert all(part in page for part in parts)
    assert page.count("<tr><td data-value") == 3 and "network.num_blocks" in page
    network = keras.models.load_model(denoiser_path, compile=False)
    assert any(np.any(weights) for weights in network.tail.get_weights())


def _events(folder):
    """Returns the values of TensorBoard's events: (tag, step) and the value."""
    (path,) = folder.glob("*tfevents*")
    return {
        (value.tag, event.step): value
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }


def test_tensorboard_shows_how_a_denoiser_trains(denoiser_path):
    logs = denoiser_path.parent / "start" / "logs"
    pictures = _events(logs / "pictures")
    for step in (0, 2, 4):  # Before the training and after each epoch.
        assert np.isfinite(float(tf.make_ndarray(pictures["psnr", step].tensor)))
        for index in range(3):
            values = tf.make_ndarray(pictures[f"noisy_denoised_{index}", step].tensor)
            sheet = tf.io.decode_png(values[2])
            assert sheet.shape == (20, 3 * 24 + 2 * 4, 1)
    steps = _events(logs / "steps")
    for tag in ("loss", "learning_rate", "seconds_per_step"):
        for step in (1, 2, 3, 4):
            assert float(tf.make_ndarray(steps[tag, step].tensor)) > 0
    text = tf.make_ndarray(steps["configuration", 0].tensor).item().decode()
    assert "| network.num_blocks |" in text and "| start.training.num_steps |" in text


def test_the_objective_without_rehearsal_needs_no_clean_pictures(
    pictures, prior_path, tmp_path
):
    config = _denoiser_config(pictures, prior_path)
    config.clean.spec, config.start = None, None
    assert config.objective.loss.rehearsal_weight == 10
    message = (
        "--config.clean.spec=PICTURES must be given because .*rehearsal_weight is above"
    )
    with pytest.raises(ValueError, match=message):
        train_denoiser(config, tmp_path)
    assert not list(tmp_path.iterdir())
    config.objective.loss.rehearsal_weight = 0.0
    train_denoiser(config, tmp_path)
    assert "rehearsal_mse" not in _history(tmp_path / "objective")[0]


@pytest.mark.parametrize("noise_floor", [0.0, -0.1, 2.0])
def test_noise_floor_must_be_above_0(pictures, noise_floor, tmp_path):
    config = _denoiser_config(pictures, "")
    config.objective = None
    config.start.loss.noise_floor = noise_floor
    message = rf"noise_floor must be above 0 .*Received: noise_floor={noise_floor}"
    with pytest.raises(ValueError, match=message):
        train_denoiser(config, tmp_path)
    assert not list(tmp_path.iterdir())


def test_weights_change_the_start(pictures, tmp_path):
    histories = []
    for noise_floor in (None, 2 / 255):
        config = _denoiser_config(pictures, "")
        config.objective = None
        config.start.loss.noise_floor = noise_floor
        train_denoiser(config, tmp_path / str(noise_floor))
        histories.append(_history(tmp_path / str(noise_floor) / "start"))
    names = [history[0] for history in histories]
    assert names[0] == names[1] and histories[0] != histories[1]


def test_both_trainings_run_on_two_replicas(pictures, strategies, tmp_path):
    prior_config = _prior_config(pictures)
    prior_config.training.num_steps = 2
    prior_config.prior.flow_options.num_levels = 1
    two = {"strategy": strategies[1]}
    prior = train_prior(prior_config, tmp_path / "prior", **two)
    config = _denoiser_config(pictures, prior)
    config.start.training.num_steps = config.objective.training.num_steps = 2
    denoiser = train_denoiser(config, tmp_path / "denoiser", **two)
    network = inference.load_denoiser(denoiser)
    assert any(np.any(weights) for weights in network.tail.get_weights())
    for folder in ("prior", "denoiser/start", "denoiser/objective"):
        assert len(_history(tmp_path / folder)) == 2


def test_shards_train_the_same_denoiser(
    pictures, prior_path, denoiser_path, tmp_path, monkeypatch
):
    config = _denoiser_config(pictures, prior_path)
    whole = inference.load_denoiser(denoiser_path)
    used = set()
    for module in ("resnet", "flow_density"):

        def recorded(function, batch, num_shards, module=module):
            used.add((module, num_shards))
            return map_shards(function, batch, num_shards)

        monkeypatch.setattr(f"tfflowdn.models.{module}.map_shards", recorded)
    parts = inference.load_denoiser(
        train_denoiser(config, tmp_path / "parts", num_shards=2)
    )
    assert {("resnet", 2), ("flow_density", 2)} <= used
    for one, two in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4)


def test_rgb_pictures_train_both_stages(pictures, tmp_path):
    config = _prior_config(pictures)
    config.prior.image_shape = (8, 8, 3)
    config.prior.flow_options.num_levels = 1
    config.clean.spec = config.validation.spec = pictures["rgb"]
    config.training.num_steps = 2
    prior = train_prior(config, tmp_path / "prior")
    grid = data.read_image(tmp_path / "prior" / "samples" / "epoch_0001.png")
    assert grid.shape == (32, 32, 3)
    config = _denoiser_config(pictures, prior)
    config.clean.spec = config.validation.clean = pictures["rgb"]
    config.noisy.spec = config.validation.noisy = pictures["noisy_rgb"]
    config.start.training.num_steps = config.objective.training.num_steps = 2
    network = inference.load_denoiser(train_denoiser(config, tmp_path / "denoiser"))
    assert inference.num_channels(network) == 3
    for shape in [(7, 9, 3), (7, 9)]:  # A color model also denoises gray.
        image = np.full(shape, 128, np.uint8)
        assert inference.denoise(image, network).shape == shape


def test_another_prior_in_the_workdir_is_said_before_the_start(
    pictures, prior_path, tmp_path
):
    training.prepare_workdir(tmp_path / "objective", {"prior": "another"})
    config = _denoiser_config(pictures, prior_path)
    with pytest.raises(ValueError, match=r"\['prior'\] differ"):
        train_denoiser(config, tmp_path)
    assert not (tmp_path / "start").exists()


def test_paper_denoiser_trains_from_scratch(pictures, prior_path, tmp_path):
    config = _denoiser_config(pictures, prior_path, "denoiser_paper")
    config.clean.spec = None
    train_denoiser(config, tmp_path)
    assert not (tmp_path / "start").exists()
    assert (tmp_path / "objective" / "checkpoint.npz").exists()


def _noise_config(pictures, denoiser):
    config = _config("noise")
    config.noisy.spec, config.clean.spec = pictures["noisy"], pictures["clean"]
    config.denoiser = str(denoiser)
    return config


@pytest.fixture(scope="module")
def noise_path(pictures, denoiser_path, tmp_path_factory):
    config = _noise_config(pictures, denoiser_path)
    return train_noise(config, tmp_path_factory.mktemp("noise"))


def test_train_noise_learns_a_model_and_reports_it(noise_path):
    model = inference.load_noise(noise_path)
    assert model.num_pictures == 3
    report = json.loads((noise_path.parent / "noise.json").read_text())
    learned = report["learned"]
    brightness, curve = model.level_curve()
    np.testing.assert_allclose(learned["brightness"], brightness)
    np.testing.assert_allclose(learned["std"], curve)
    assert learned["autocorrelation"][0] == pytest.approx([1])
    levels = np.exp(model.log_levels.numpy())
    assert learned["level_quantiles"][-1] == pytest.approx(levels.max())
    assert "true" not in report
    assert (noise_path.parent / "noise.png").exists()
    page = (noise_path.parent / "report.html").read_text("utf-8")
    parts = ("drawn from the learned noise", "Spectrum", "fit 2", "brightness, units")
    assert all(part in page for part in parts)


def test_train_noise_shows_the_truth_where_it_is_known(
    pictures, denoiser_path, tmp_path
):
    config = _noise_config(pictures, denoiser_path)
    config.residuals.num_rounds = 0
    config.reference = pictures["reference"]
    train_noise(config, tmp_path)
    truth = json.loads((tmp_path / "noise.json").read_text())["true"]
    known = [level for (level,) in truth["std"] if level is not None]
    assert known == pytest.approx([0.1] * len(known), rel=0.2)
    assert "true, gray" in (tmp_path / "report.html").read_text("utf-8")


def test_train_noise_of_calm_places_needs_the_noisy_pictures_alone(pictures, tmp_path):
    config = _config("noise")
    config.noisy.spec, config.evidence = pictures["noisy"], "calm"
    learned = inference.load_noise(train_noise(config, tmp_path / "a"))
    assert 1 <= learned.num_pictures <= 3
    assert (tmp_path / "a/noise.png").exists()
    config.evidence = "texture"
    with pytest.raises(ValueError, match="Received: evidence='texture'"):
        train_noise(config, tmp_path / "b")


def _distill_config(pictures, denoiser, noise):
    config = _denoiser_config(pictures, "", variant="smoke_distill")
    config.denoiser, config.noise = str(denoiser), str(noise)
    return config


def test_distillation_goes_on_with_the_denoiser(
    pictures, denoiser_path, noise_path, tmp_path
):
    config = _distill_config(pictures, denoiser_path, noise_path)
    config.noisy.spec = None
    distilled = train_denoiser(config, tmp_path)
    assert len(_history(tmp_path / "distill")) == 3
    before, after = (
        inference.load_denoiser(path).get_weights()
        for path in (denoiser_path, distilled)
    )
    changes = [np.abs(a - b).max() for a, b in zip(before, after, strict=True)]
    assert 0 < max(changes) < 0.1
    assert "Noise: removed" in (tmp_path / "report.html").read_text("utf-8")


def test_the_objective_with_the_likelihood_of_the_learned_noise(
    pictures, denoiser_path, noise_path, prior_path, tmp_path
):
    config = _denoiser_config(pictures, prior_path, variant="smoke_likelihood")
    config.denoiser, config.noise = str(denoiser_path), str(noise_path)
    before = inference.load_denoiser(denoiser_path).get_weights()
    after = inference.load_denoiser(train_denoiser(config, tmp_path)).get_weights()
    changes = [np.abs(a - b).max() for a, b in zip(after, before, strict=True)]
    assert 0 < max(changes) < 0.1
    assert "noise" in json.loads((tmp_path / "objective/model.json").read_text())
    logged = _history(tmp_path / "objective")[0]
    assert "noise_mismatch" in logged and "rehearsal_mse" in logged
    config.objective.data_term = "residual"
    with pytest.raises(ValueError, match="data_term must be.*Received: .*'residual'"):
        train_denoiser(config, tmp_path / "other")
    config.objective.data_term, config.noise = "noise", None
    with pytest.raises(ValueError, match="the stage needs a noise model"):
        train_denoiser(config, tmp_path / "other")


def test_a_denoiser_of_other_channels_is_said(pictures, noise_path, tmp_path):
    config = _distill_config(pictures, "denoiser_rgb", noise_path)
    with pytest.raises(ValueError, match=r"for 1 channel.*'denoiser_rgb', for 3"):
        train_denoiser(config, tmp_path)


def test_another_denoiser_to_begin_with_is_another_run(pictures, tmp_path):
    config = _denoiser_config(pictures, "")
    config.objective, config.start.training.num_steps = None, 0
    config.denoiser = "denoiser_gray"
    begun = inference.load_denoiser(train_denoiser(config, tmp_path))
    assert begun.hidden_channels == 64
    config.denoiser = ""
    with pytest.raises(ValueError, match=r"\['denoiser'\] differ"):
        train_denoiser(config, tmp_path)


def test_the_general_denoisers_are_evaluated_on_color(pictures):
    report = evaluate(pictures["noisy_rgb"], pictures["rgb"], inference.GENERAL)
    assert report["mean"]["psnr"] > report["mean"]["noisy_psnr"]


def test_distillation_begins_with_a_model_of_a_name(pictures, noise_path, tmp_path):
    config = _distill_config(pictures, "denoiser_gray", noise_path)
    config.distill.training.num_steps = config.distill.training.steps_per_epoch = 1
    network = inference.load_denoiser(train_denoiser(config, tmp_path))
    assert network.hidden_channels == 64


def test_distillation_of_no_steps_is_the_denoiser(
    pictures, denoiser_path, noise_path, tmp_path
):
    config = _distill_config(pictures, denoiser_path, noise_path)
    config.distill.training.num_steps = 0
    distilled = train_denoiser(config, tmp_path)
    for before, after in zip(
        *(
            inference.load_denoiser(path).get_weights()
            for path in (denoiser_path, distilled)
        ),
        strict=True,
    ):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    "key, message",
    [
        ("noise", "noise must be a .keras file"),
        ("denoiser", "model must hold a denoiser.*a FlowPrior"),
    ],
)
def test_distillation_says_which_model_is_wrong(
    key, message, pictures, prior_path, denoiser_path, noise_path, tmp_path
):
    config = _distill_config(pictures, denoiser_path, noise_path)
    config[key] = str(prior_path) if key == "denoiser" else "nowhere.keras"
    with pytest.raises(ValueError, match=message):
        train_denoiser(config, tmp_path)


def test_the_start_alone_needs_no_prior(pictures, tmp_path):
    config = _denoiser_config(pictures, "")
    config.objective = None
    network = inference.load_denoiser(train_denoiser(config, tmp_path))
    assert network.channels == 1
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["start"]


def test_denoise_keeps_names_formats_and_depth(denoiser_path, tmp_path):
    source = tmp_path / "in" / "deep"
    source.mkdir(parents=True)
    rng = np.random.default_rng(0)
    kinds = {
        "gray.png": (np.uint8, 1),
        "color.png": (np.uint8, 3),
        "alpha.png": (np.uint8, 4),
        "photo.jpg": (np.uint8, 3),
        "deep.tif": (np.uint16, 1),
        "float.tif": (np.float32, 3),
    }
    inputs = {}
    for name, (dtype, channels) in kinds.items():
        picture = rng.random((13, 17, channels), np.float32)
        inputs[name] = data.from_float(picture, dtype)
        data.write_image(source / name, inputs[name])
    written = denoise_files([str(tmp_path / "in")], tmp_path / "out", denoiser_path)
    assert {path.name for path in written} == set(kinds)
    for path in written:
        assert path.parent.name == "deep"
        denoised = data.read_image(path)
        assert denoised.dtype == inputs[path.name].dtype
        assert denoised.shape == inputs[path.name].shape
    alpha = data.read_image(tmp_path / "out" / "deep" / "alpha.png")[..., 3]
    np.testing.assert_array_equal(alpha, inputs["alpha.png"][..., 3])
    deep = data.read_image(tmp_path / "out" / "deep" / "deep.tif")
    assert len(np.unique(deep % 257)) > 1  # Never through 8 bits.


def test_denoise_stacks_and_arrays(denoiser_path, tmp_path):
    stack = np.random.default_rng(0).integers(0, 2**16, (3, 2, 9, 11), np.uint16)
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    tifffile.imwrite(folder / "stack.tif", stack, photometric="minisblack")
    np.save(folder / "array.npy", stack)
    denoise_files([str(folder)], output, denoiser_path, axes="TZYX")
    array = np.load(output / "array.npy")
    expected = inference.denoise(stack, denoiser_path, axes="TZYX")
    np.testing.assert_array_equal(array, expected)
    pages = tifffile.imread(output / "stack.tif").reshape(stack.shape)
    np.testing.assert_allclose(pages, expected, atol=1)
    assert not list(output.glob(".*"))


def test_a_range_is_stored_in_training_and_used_by_all_scripts(
    pictures, prior_path, tmp_path
):
    for name in ("clean", "held_out", "noisy", "noisy_held_out"):
        (tmp_path / name).mkdir()
        for path in Path(pictures[name]).iterdir():  # 12 bits in 16.
            unit = data.to_float(data.read_image(path))
            pixels = data.from_float(unit, np.uint16, (0, 4095))
            data.write_image(tmp_path / name / f"{path.stem}.tif", pixels)
    deep = {path.name: str(path) for path in tmp_path.iterdir()}
    config = _prior_config(deep)
    config.clean.pixel_range = "0,4095"
    prior = train_prior(config, tmp_path / "prior")
    assert inference.load_prior(prior).pixel_range == "0.0,4095.0"
    bits = [
        score(folder["held_out"], str(path))["mean"]["bits_per_dim"]
        for folder, path in ((deep, prior), (pictures, prior_path))
    ]
    assert bits[0] == pytest.approx(bits[1], abs=0.1)
    config = _denoiser_config(deep, prior)
    config.clean.pixel_range = "0,4095"
    config.noisy.pixel_range = "1%,99%"
    path = train_denoiser(config, tmp_path / "denoiser")
    denoiser = inference.Denoiser.from_pretrained(path)
    assert denoiser.pixel_range == "1.0%,99.0%"
    (written, *_) = denoise_files([deep["noisy"]], tmp_path / "out", path)
    noisy = data.read_image(Path(deep["noisy"]) / written.name)
    np.testing.assert_array_equal(data.read_image(written), denoiser(noisy))
    report = evaluate(deep["noisy_held_out"], deep["held_out"], str(path), "0,4095")
    assert report["mean"]["noisy_psnr"] == pytest.approx(20, abs=1.5)
    by_percentiles = evaluate(deep["noisy_held_out"], deep["held_out"], str(path))
    change = 20 * np.log10(np.ptp(np.percentile(noisy, [1, 99])) / 4095)
    expected = report["mean"]["noisy_psnr"] + change
    assert by_percentiles["mean"]["noisy_psnr"] == pytest.approx(expected, abs=1)


def test_percentiles_are_those_of_all_pages_of_a_stack(denoiser_path, tmp_path):
    stack = np.random.default_rng(0).integers(0, 4096, (3, 20, 30), np.uint16)
    stack[1] //= 4
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "a.tif", stack, photometric="minisblack")
    np.save(tmp_path / "in" / "a.npy", stack)
    options = {"axes": "ZYX", "pixel_range": "1%,99%"}
    denoise_files([str(tmp_path / "in")], tmp_path / "out", denoiser_path, **options)
    expected = inference.denoise(stack, denoiser_path, **options)
    result = tifffile.imread(tmp_path / "out" / "a.tif")
    np.testing.assert_allclose(result, expected, atol=1)
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "a.npy"), expected)


@pytest.mark.parametrize("most_bytes", [1000, 10**6])
def test_few_pictures_wait_where_they_are_large(
    denoiser_path, tmp_path, monkeypatch, most_bytes
):
    (tmp_path / "in").mkdir()
    for index in range(12):
        pixels = np.full((20, 30, 1), index, np.uint8)
        data.write_image(tmp_path / "in" / f"{index:02d}.png", pixels)
    waiting, most = set(), []
    read_picture, write_image = denoise_queue.read, data.write_image

    def read(path, options):
        waiting.add(path.name)
        most.append(len(waiting))
        return read_picture(path, options)

    def write(path, *args):
        write_image(path, *args)
        waiting.remove(path.name)

    monkeypatch.setattr(denoise_queue, "read", read)
    monkeypatch.setattr(data, "write_image", write)
    monkeypatch.setattr(denoise_queue, "MAX_WAITING_BYTES", most_bytes)
    written = denoise_files([str(tmp_path / "in")], tmp_path / "out", denoiser_path)
    assert [path.name for path in written] == [f"{n:02d}.png" for n in range(12)]
    assert not waiting
    assert max(most) > 2 if most_bytes > 1000 else max(most) == 1


def test_a_broken_file_does_not_stop_the_others(denoiser_path, pictures, tmp_path):
    folder, output = tmp_path / "in", tmp_path / "out"
    shutil.copytree(pictures["clean"], folder)
    names = sorted(path.name for path in folder.iterdir())
    whole = (folder / names[1]).read_bytes()
    (folder / names[1]).write_bytes(whole[: len(whole) // 2])
    message = rf"1 of {len(names)} pictures failed.*\n.*{names[1]}"
    with pytest.raises(ValueError, match=message):
        denoise_files([str(folder)], output, denoiser_path)
    assert sorted(p.name for p in output.iterdir()) == [names[0], *names[2:]]
    before = {path: path.stat().st_mtime_ns for path in output.iterdir()}
    (folder / names[1]).write_bytes(whole)
    written = denoise_files([str(folder)], output, denoiser_path, skip_existing=True)
    assert written == [output / names[1]]
    assert before.items() <= {p: p.stat().st_mtime_ns for p in output.iterdir()}.items()


def test_denoise_overwrites_nothing_unasked(denoiser_path, pictures):
    before = {path: path.read_bytes() for path in Path(pictures["noisy"]).iterdir()}
    with pytest.raises(ValueError, match="--overwrite must be set"):
        denoise_files([pictures["noisy"]], pictures["noisy"], denoiser_path)
    assert before == {p: p.read_bytes() for p in Path(pictures["noisy"]).iterdir()}


def test_denoise_says_what_is_wrong_before_any_work(denoiser_path, pictures, tmp_path):
    for options, message in [
        ({"strength": 2}, "within \\[0, 1\\]. Received: strength=2"),
        ({"pixel_range": "5,1"}, "pixel_range='5,1'"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            denoise_files([pictures["clean"]], tmp_path / "o", denoiser_path, **options)
        assert "failed" not in str(caught.value)
    assert not (tmp_path / "o").exists()


def test_denoise_refuses_two_inputs_of_one_output(denoiser_path, pictures, tmp_path):
    twice = [pictures["clean"], pictures["held_out"]]
    with pytest.raises(ValueError, match="must not share an output"):
        denoise_files(twice, tmp_path, denoiser_path)


def test_denoise_array_shapes_and_dtypes(denoiser_path):
    network = inference.load_denoiser(denoiser_path)
    for shape in [(9, 11), (9, 11, 1), (9, 11, 3), (2, 9, 11, 1), (1, 1), (9, 11, 2)]:
        for dtype in (np.uint8, np.uint16, np.float32, np.float64):
            image = data.from_float(np.full(shape, 0.25, np.float32), dtype)
            denoised = inference.denoise(image, network)
            assert (denoised.shape, denoised.dtype) == (shape, dtype)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, 3, 7)), r"Received: image.shape=\(3, 3, 7\)"),
        (np.zeros((0, 3)), r"Received: image.shape=\(0, 3\)"),
        (np.zeros((3, 3), np.int64), "Received: dtype=int64"),
        (np.full((3, 3), np.nan), "Received: num_missing=9"),
    ],
)
def test_denoise_refuses_bad_arrays(image, message, denoiser_path):
    with pytest.raises(ValueError, match=message):
        inference.denoise(image, denoiser_path)


def test_a_gray_model_denoises_color_by_the_channel(denoiser_path):
    network = inference.load_denoiser(denoiser_path)
    color = np.random.default_rng(0).random((8, 10, 3), np.float32)
    planes = [inference.denoise(color[..., i], network) for i in range(3)]
    together = inference.denoise(color, network)
    np.testing.assert_allclose(together, np.stack(planes, -1), atol=1e-6)


def test_evaluate_scores_before_and_after(denoiser_path, pictures):
    report = evaluate(
        pictures["noisy_held_out"], pictures["held_out"], str(denoiser_path)
    )
    assert set(report["pictures"]) == {"0.tif", "1.tif", "2.tif"}
    assert report["mean"]["noisy_psnr"] == pytest.approx(20, abs=1.5)
    network = inference.load_denoiser(denoiser_path)
    noisy = data.read_image(Path(pictures["noisy_held_out"]) / "0.tif")
    clean = data.to_float(data.read_image(Path(pictures["held_out"]) / "0.png"))
    error = np.clip(inference.denoise(noisy, network), 0, 1) - clean
    expected = -10 * np.log10(np.mean(error**2))
    assert report["pictures"]["0.tif"]["psnr"] == pytest.approx(expected, abs=1e-3)
    with pytest.raises(ValueError, match="must be different files"):
        evaluate(pictures["clean"], pictures["clean"])


def test_evaluate_takes_the_options_of_denoise(denoiser_path, pictures):
    noisy, clean = pictures["noisy_held_out"], pictures["held_out"]
    untouched = evaluate(noisy, clean, str(denoiser_path), strength=0.0)["mean"]
    assert untouched["psnr"] == pytest.approx(untouched["noisy_psnr"], abs=1e-5)
    report = evaluate(noisy, clean, str(denoiser_path), self_ensemble=True)
    denoiser = inference.Denoiser.from_pretrained(str(denoiser_path))
    picture = data.to_float(data.read_image(Path(noisy) / "0.tif"))
    denoised = denoiser(picture, self_ensemble=True)
    reference = data.to_float(data.read_image(Path(clean) / "0.png"))
    error = np.clip(denoised, 0, 1) - reference
    expected = -10 * np.log10(np.mean(error**2))
    assert report["pictures"]["0.tif"]["psnr"] == pytest.approx(expected, abs=1e-3)


def test_score_is_that_of_the_dequantized_picture(prior_path, pictures, tmp_path):
    report = score(pictures["held_out"], str(prior_path), tmp_path / "maps")
    assert set(report["pictures"]) == {"0.png", "1.png", "2.png"}
    prior = inference.load_prior(prior_path)
    picture = data.to_float(data.read_image(Path(pictures["held_out"]) / "1.png"))
    noisy = prior.dequantize(picture[np.newaxis], [prior.seed, -1])
    row = report["pictures"]["1.png"]
    bits = float(prior.bits_per_dim(noisy)[0])
    assert row["bits_per_dim"] == pytest.approx(bits, rel=1e-5)
    heat = prior.likelihood_map(picture)
    assert row["highest"] == pytest.approx(heat.max(), rel=1e-5)
    drawn = data.read_image(tmp_path / "maps" / "1.png")
    assert drawn.shape == (20, 24, 3)
    order = np.argsort(heat.ravel())  # Brighter means more bits/dim.
    assert (np.diff(drawn.sum(-1, dtype=int).ravel()[order]) >= -1).all()


def test_score_says_what_is_wrong(prior_path, denoiser_path, pictures):
    for path, prior, message in [
        ("no/such/folder", prior_path, "existing folder"),
        (pictures["rgb"], prior_path, "channels"),
        (pictures["clean"], "none.keras", "prior must be a .keras file"),
        (pictures["clean"], denoiser_path, "prior must hold a FlowPrior"),
    ]:
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            score(path, str(prior))


def test_scripts_run_as_commands(denoiser_path, prior_path, pictures, tmp_path):
    def run(script, *arguments):
        return forks.run(["-m", f"tfflowdn.scripts.{script}", *arguments])

    report = tmp_path / "report.json"
    held_out = ("--noisy", pictures["noisy_held_out"], "--reference")
    done = run("evaluate", *held_out, pictures["held_out"], "--output", report)
    assert done.returncode == 0, done.stderr
    mean = json.loads(report.read_text())["mean"]
    assert f"{mean['noisy_psnr']:10.4f}" in done.stdout
    done = run(
        "train_prior",
        *("--config", "configs/prior_glow.py:smoke", "--config.crops.wrong=1"),
        *("--workdir", tmp_path),
    )
    assert done.returncode != 0
    assert "wrong" in done.stderr
    output = ("--model", tmp_path / "none.keras", "--output", tmp_path)
    done = run("denoise", pictures["noisy"], *output)
    assert done.returncode == 1
    assert "ValueError: model must be a .keras file" in done.stderr
    assert "Traceback" not in done.stderr
    done = run("score", pictures["clean"], "--prior", prior_path, "--output", report)
    assert done.returncode == 0, done.stderr
    mean = json.loads(report.read_text())["mean"]
    assert f"{mean['bits_per_dim']:12.4f}" in done.stdout
    done = run("export_model", denoiser_path, "--name", "d", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "d" / "1" / "saved_model.pb").exists()


def _missing_folder(config, _):
    config.clean.spec = "no/such/folder"
    return "no/such/folder"


def _empty_folder(config, tmp_path):
    (tmp_path / "empty").mkdir()
    config.clean.spec = str(tmp_path / "empty")
    return "empty"


def _broken_file(config, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n rest is lost")
    config.clean.spec = str(tmp_path / "broken")
    return "a.png"


def _small_pictures(config, tmp_path):
    config.clean.spec = _write_pictures(tmp_path / "small", size=(6, 30))
    return "crop_size=8"


def _rgb_pictures(config, tmp_path):
    config.clean.spec = _write_pictures(tmp_path / "rgb", channels=3)
    return "channels"


def _odd_crop(config, _):
    config.prior.image_shape = (10, 10, 1)
    return "divisible by 2\\*\\*num_levels"


def _non_finite(config, tmp_path):
    (tmp_path / "nan").mkdir()
    picture = np.full((20, 20, 1), np.nan, np.float32)
    tifffile.imwrite(tmp_path / "nan" / "a.tif", picture)
    config.clean.spec = str(tmp_path / "nan")
    return "finite"


def _other_model(config, tmp_path):
    identity = {**config.prior.to_dict(), "flow": "nice"}
    del identity["flow_options"]["patch_gradients"]  # Another way, not another model.
    training.prepare_workdir(tmp_path, identity)
    return r"\['flow'\] differ"


@pytest.mark.parametrize(
    "spoil",
    [
        _missing_folder,
        _empty_folder,
        _broken_file,
        _small_pictures,
        _rgb_pictures,
        _odd_crop,
        _non_finite,
        _other_model,
    ],
)
def test_train_prior_says_what_is_wrong(spoil, pictures, tmp_path):
    config = _prior_config(pictures)
    message = spoil(config, tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train_prior(config, tmp_path)
    assert not (tmp_path / "checkpoint.npz").exists()


def test_train_denoiser_says_what_is_wrong(
    pictures, prior_path, denoiser_path, tmp_path
):
    def fails(message, **changes):
        config = _denoiser_config(pictures, prior_path)
        for key, value in changes.items():
            config.update_from_flattened_dict({key.replace("__", "."): value})
        with pytest.raises(ValueError, match=message):
            train_denoiser(config, tmp_path)

    fails("prior must be a .keras file", prior="none.keras")
    fails("prior must hold a FlowPrior", prior=str(denoiser_path))
    fails("channels", noisy__spec=pictures["rgb"])
    fails("must be divisible by 4", objective__crops__crop_size=10)
    fails("multiple of steps_per_epoch", objective__training__num_steps=3)
    assert not list(tmp_path.iterdir())
    fails("prior_weight must be a number", objective__loss__prior_weight=-1.0)
    fails("rehearsal_weight must be", objective__loss__rehearsal_weight=-1.0)
