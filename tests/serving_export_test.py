"""Exported SavedModels work in a process without tfflowdn."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import forks
import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

import tfflowdn
from tfflowdn import (
    Denoiser,
    FlowPrior,
    ResNetDenoiser,
    denoise,
    files,
    load_denoiser,
    serving,
)

CALLER = """
import sys
import numpy as np
import tensorflow as tf
denoiser, prior, folder = sys.argv[1:]
images = np.load(f"{folder}/images.npy")
denoiser, prior = tf.saved_model.load(denoiser), tf.saved_model.load(prior)
outputs = {
    **denoiser.signatures["serving_default"](noisy=tf.constant(images)),
    **prior.signatures["serving_default"](images=tf.constant(images)),
    **prior.signatures["bits_per_dim"](images=tf.constant(images)),
    **prior.signatures["sample"](
        num_samples=tf.constant(3), temperature=tf.constant(0.5)
    ),
}
np.savez(f"{folder}/outputs.npz", **{k: v.numpy() for k, v in outputs.items()})
assert "tfflowdn" not in sys.modules and "tensorflow_probability" not in sys.modules
"""


@pytest.fixture(scope="module")
def network(randomize):
    network = ResNetDenoiser(1, num_blocks=1, hidden_channels=4)
    randomize(network, scale=0.1)
    return network


def test_both_models_in_a_fresh_process(network, randomize, tmp_path):
    options = {"num_levels": 1, "num_steps": 1, "hidden_channels": 4}
    prior = FlowPrior("glow", (8, 8, 1), flow_options=options)
    randomize(*prior.flow_layers, scale=0.1)
    images = np.random.default_rng(0).random((2, 11, 6, 1), np.float32)
    np.save(tmp_path / "images.npy", images)
    folders = [
        serving.export_model(model, tmp_path, name)
        for name, model in (("denoiser", network), ("prior", prior))
    ]
    command = [sys.executable, "-c", CALLER, *map(str, folders), str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outputs = np.load(tmp_path / "outputs.npz")
    np.testing.assert_allclose(outputs["denoised"], denoise(images, network), atol=1e-5)
    np.testing.assert_allclose(outputs["log_prob"], prior.log_prob(images), rtol=1e-5)
    bits = prior.bits_per_dim(images)
    np.testing.assert_allclose(outputs["bits_per_dim"], bits, rtol=1e-5)
    assert outputs["images"].shape == (3, 8, 8, 1)


def test_versions_count_up_and_nothing_is_replaced(network, tmp_path):
    first = serving.export_model(network, tmp_path, "denoiser")
    second = serving.export_model(network, tmp_path, "denoiser")
    assert [first.name, second.name] == ["1", "2"]
    assert sorted(path.name for path in first.parent.iterdir()) == ["1", "2"]
    with pytest.raises(ValueError, match="Received: version=2"):
        serving.export_model(network, tmp_path, "denoiser", version=2)
    with pytest.raises(ValueError, match="Received: version=0"):
        serving.export_model(network, tmp_path, "denoiser", version=0)


@pytest.fixture(scope="module")
def saved_model(network, tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    card = root / "card.md"
    card.write_text("Trained on nothing.\n")
    return serving.export_model(network, root, "denoiser", max_pixels=900, card=card)


def _saved_model_cli(*arguments):
    tool = Path(sys.executable).with_name("saved_model_cli")
    done = forks.run([tool, *arguments])
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_saved_model_cli_shows_the_signatures(saved_model):
    shown = _saved_model_cli("show", "--dir", saved_model, "--all")
    for expected in (
        "inputs['noisy_bytes'] tensor_info:\n        dtype: DT_STRING\n"
        "        shape: (-1)",
        "outputs['denoised_bytes'] tensor_info:\n        dtype: DT_STRING\n"
        "        shape: (-1)",
        "inputs['noisy'] tensor_info:\n        dtype: DT_UINT8\n"
        "        shape: (-1, -1, -1, 1)",
        "outputs['denoised'] tensor_info:\n        dtype: DT_FLOAT\n"
        "        shape: (-1, -1, -1, 1)",
    ):
        assert expected in shown
    names = {"encoded", "network", "serve", "serving_default", "uint8"}
    assert all(f"signature_def['{name}']" in shown for name in names)


def test_saved_model_cli_runs_a_signature(saved_model, network, tmp_path):
    noisy = np.random.default_rng(0).random((1, 45, 50, 1), np.float32)
    np.save(tmp_path / "noisy.npy", noisy)
    _saved_model_cli(
        "run",
        *("--dir", saved_model, "--tag_set", "serve"),
        *("--signature_def", "serving_default"),
        *("--inputs", f"noisy={tmp_path / 'noisy.npy'}", "--outdir", tmp_path),
    )
    denoised = np.load(tmp_path / "denoised.npy")
    np.testing.assert_allclose(denoised, network(noisy), atol=1e-5)


def test_the_files_of_a_model(saved_model, network):
    extra = saved_model / "assets.extra"
    assert (extra / "card.md").read_text() == "Trained on nothing.\n"
    facts = json.loads((extra / "model.json").read_text())
    rebuilt = keras.saving.deserialize_keras_object(facts.pop("model"))
    assert rebuilt.get_config() == network.get_config()
    versions = facts.pop("versions")
    assert versions["tensorflow"] == tf.__version__
    assert versions["tfflowdn"] == tfflowdn.__version__
    assert facts == {
        "kind": "denoiser",
        "format_version": 1,
        "pixel_range": "dtype",
        "parameters": network.count_params(),
        "channels": 1,
        "max_pixels": 900,
        "max_request_pixels": 100_000_000,
        "receptive_radius": network.receptive_radius,
        "scale": 2,
    }
    # Each weight is stored once.
    variables = tf.train.list_variables(str(saved_model / "variables" / "variables"))
    assert len([name for name, _ in variables if "VALUE" in name]) == len(
        network.weights
    )


@pytest.mark.parametrize("pixel_range, fits", [("0,4095", True), ("0,1", False)])
def test_a_model_of_another_range_has_all_signatures(
    tmp_path, caplog, pixel_range, fits
):
    network = ResNetDenoiser(num_blocks=0, hidden_channels=2, pixel_range=pixel_range)
    folder = serving.export_model(network, tmp_path, "denoiser")
    assert set(tf.saved_model.load(str(folder)).signatures) == {
        "encoded",
        "network",
        "serve",
        "serving_default",
        "uint8",
    }
    assert load_denoiser(folder).pixel_range == network.pixel_range
    assert ("cannot hold the pixel range" in caplog.text) is not fits


@pytest.mark.parametrize(
    "name", ["../escape", "a/b", "", ".", "..", ".a", "a\\b", "/a"]
)
def test_a_name_is_one_component_of_a_path(network, tmp_path, name):
    with pytest.raises(ValueError, match="name must be one component of a path"):
        serving.export_model(network, tmp_path / "models", name)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_explained(network, tmp_path, monkeypatch):
    for error in (
        OSError(28, "No space left on device"),
        tf.errors.ResourceExhaustedError(None, None, "No space left on device"),
    ):

        def write(*_, error=error):
            raise error

        monkeypatch.setattr("tfflowdn.serving.export._write_saved_model", write)
        with pytest.raises(OSError, match="must have room for .* No space left"):
            serving.export_model(network, tmp_path, "denoiser")
        assert not list((tmp_path / "denoiser").iterdir())


def test_the_folder_of_a_killed_export_is_deleted(network, tmp_path, monkeypatch):
    (tmp_path / "denoiser").mkdir()
    monkeypatch.setattr("tfflowdn.files.os.getpid", lambda: 2**22 + 1)
    stale = tmp_path / "denoiser" / files._temporary_name("")
    monkeypatch.undo()
    stale.mkdir()
    (stale / "saved_model.pb").write_bytes(b"")
    serving.export_model(network, tmp_path, "denoiser", format="litert")
    assert [path.name for path in stale.parent.iterdir()] == ["1.tflite"]


def test_the_manifest_has_the_checksum_of_every_file(saved_model):
    manifest = json.loads((saved_model / "assets.extra" / "manifest.json").read_text())
    paths = {p.relative_to(saved_model).as_posix(): p for p in saved_model.rglob("*")}
    found = {name for name, path in paths.items() if path.is_file()}
    assert found == {*manifest, "assets.extra/manifest.json"}
    for name, checksum in manifest.items():
        assert hashlib.sha256(paths[name].read_bytes()).hexdigest() == checksum


def test_warm_up_requests_fit_the_signatures(make_prior, saved_model, tmp_path):
    prior = serving.export_model(make_prior("glow"), tmp_path, "prior")
    expected = {
        saved_model: ["serving_default", "uint8", "encoded"],
        prior: ["serving_default", "bits_per_dim", "sample"],
    }
    for folder, signatures in expected.items():
        loaded = tf.saved_model.load(str(folder))
        found = []
        path = folder / "assets.extra" / "tf_serving_warmup_requests"
        for record in tf.data.TFRecordDataset(str(path)):
            log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
            request = log.predict_log.request
            assert request.model_spec.name == folder.parent.name
            found.append(request.model_spec.signature_name)
            inputs = {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
            inputs = {k: tf.constant(v) for k, v in inputs.items()}
            for output in loaded.signatures[found[-1]](**inputs).values():
                assert tf.size(output) > 0
        assert found == signatures


def test_a_model_without_the_package_of_the_warm_up(
    network, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    folder = serving.export_model(network, tmp_path, "denoiser")
    assert "tfflowdn[serving]" in caplog.text
    assert not (folder / "assets.extra" / "tf_serving_warmup_requests").exists()


def test_a_saved_model_has_its_receptive_radius(saved_model, network, tmp_path):
    loaded = Denoiser(load_denoiser(saved_model), max_pixels=900)
    expected = Denoiser(network, max_pixels=900)
    assert (loaded.margin, loaded.multiple) == (expected.margin, expected.multiple)
    picture = np.random.default_rng(0).random((60, 70), np.float32)
    np.testing.assert_allclose(loaded(picture), expected(picture), atol=1e-5)
    # It is measured without tiles, and for models of older versions.
    whole = serving.export_model(network, tmp_path, "whole", max_pixels=None)
    shutil.copytree(whole, tmp_path / "1")
    (tmp_path / "1" / "assets.extra" / "model.json").unlink()
    for folder in (whole, tmp_path / "1"):
        loaded = Denoiser(load_denoiser(folder, trust=True), max_pixels=10_000)
        assert loaded.multiple == 32
        assert 0 < loaded.margin <= expected.margin


@pytest.mark.parametrize(
    "options, message",
    [
        ({"max_pixels": 100}, "longer than their margins"),
        (
            {"card": "no/such/file"},
            "card must be a file. Received: card='no/such/file'",
        ),
    ],
)
def test_nothing_is_left_of_a_bad_call(network, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        serving.export_model(network, tmp_path, "denoiser", **options)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
