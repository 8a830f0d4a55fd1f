"""Damaged, foreign and absurd models: a ValueError that names the file, at once."""

from __future__ import annotations

import json
import logging
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfflowdn import (
    Denoiser,
    NoiseModel,
    ResNetDenoiser,
    UnpairedDenoiser,
    denoise,
    inference,
    load_denoiser,
    load_noise,
    load_prior,
    saving,
    serving,
)

LOADS = {"denoiser": load_denoiser, "prior": load_prior, "noise": load_noise}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_prior):
    """A file of each kind of model, and an exported denoiser."""
    folder = tmp_path_factory.mktemp("models")
    network, prior = ResNetDenoiser(num_blocks=1, hidden_channels=2), make_prior()
    network.save(folder / "denoiser.keras")
    prior.save(folder / "prior.keras")
    NoiseModel(num_pictures=2, num_knots=3, order=2).save(folder / "noise.keras")
    UnpairedDenoiser(network, prior).save(folder / "unpaired.keras")
    serving.export_model(network, folder, "served", 1)
    return folder


def _rewritten(source, target, members):
    """Copies a model with other members; None leaves a member out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        contents = {name: old.read(name) for name in old.namelist()} | members
        for name, content in contents.items():
            if content is not None:
                new.writestr(name, content)
    return target


def _reconfigured(source, target, change):
    with zipfile.ZipFile(source) as file:
        config = json.loads(file.read("config.json"))
    change(config)
    return _rewritten(source, target, {"config.json": json.dumps(config)})


def _refuse(path, message, load=load_denoiser):
    with pytest.raises(ValueError, match=f"(?s){message}") as caught:
        load(path)
    assert "Received: " in str(caught.value) and path.name in str(caught.value)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"config.json": None}, "config.json is missing"),
        ({"metadata.json": None}, "metadata.json is missing"),
        ({"model.weights.h5": None}, "model.weights.h5 is missing"),
        ({"config.json": "{"}, "config.json must be JSON"),
        ({"config.json": 100_000 * "["}, "config.json must be JSON"),
        ({"config.json": "[]"}, "must name the class"),
        ({"config.json": '{"class_name": 3}'}, "must be a text, but is 3"),
        ({"model.weights.h5": b"x"}, "must be complete"),
        ({"code.py": "x"}, r"no other members, but it has \['code.py'\]"),
    ],
)
def test_members(folder, tmp_path, members, message):
    source, target = folder / "denoiser.keras", tmp_path / "a.keras"
    _refuse(_rewritten(source, target, members), message)


def test_a_file_with_any_flipped_bit_loads_equal_weights_or_is_refused(
    folder, tmp_path
):
    content, path = (folder / "denoiser.keras").read_bytes(), tmp_path / "a.keras"
    weights = load_denoiser(folder / "denoiser.keras").get_weights()
    rng, num_refused = np.random.default_rng(0), 0
    for place in rng.integers(len(content), size=25):
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            loaded = load_denoiser(path).get_weights()
        except ValueError as error:
            num_refused += 1
            assert "a.keras" in str(error)
        else:
            for one, other in zip(weights, loaded, strict=True):
                np.testing.assert_array_equal(one, other)
    assert num_refused > 15


@pytest.mark.parametrize("size", [0, 5, 500])
def test_a_file_that_was_cut_off(folder, tmp_path, size):
    path = tmp_path / "a.keras"
    path.write_bytes((folder / "denoiser.keras").read_bytes()[:size])
    _refuse(path, "complete ZIP archive")


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        *(("denoiser", "num_blocks", v) for v in (10**6, -1, "x", None)),
        *(("denoiser", "hidden_channels", v) for v in (2**14, 10**12, 0)),
        *(("denoiser", "channels", v) for v in (10**7, 5)),
        *(("denoiser", key, 0) for key in ("scale", "argument")),
        *(("denoiser", "pixel_range", v) for v in ("9,3", 7)),
        *(("prior", "image_shape", v) for v in ([10**6, 10**6, 1], [4], "a")),
        ("prior", "flow", "other"),
        ("prior", "flow_options", {"num_levels": 30}),
        ("prior", "flow_options", {"num_steps": 10**9}),
        ("noise", "num_pictures", 10**7),
        ("noise", "order", 10**5),
        ("noise", "num_knots", 10**7),
    ],
)
def test_absurd_arguments(folder, tmp_path, kind, key, value):
    def change(config):
        config["config"][key] = value

    source, target = folder / f"{kind}.keras", tmp_path / "a.keras"
    _refuse(_reconfigured(source, target, change), "must", LOADS[kind])


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("other", "Network"),
        ("keras.utils", "get_file"),
        ("keras.layers", "Lambda"),
        ("keras.layers", "TFSMLayer"),
        ("os", "system"),
    ],
)
def test_unknown_classes(folder, tmp_path, module, name):
    def change(config):
        config["build_config"]["part"] = {
            "class_name": name,
            "module": module,
            "config": {},
            "registered_name": None,
        }

    path = _reconfigured(folder / "denoiser.keras", tmp_path / "a.keras", change)
    _refuse(path, f"classes of tfflowdn, .*'{name}' of '{module}'")


def test_a_network_of_layers_of_keras_is_loaded(tmp_path):
    inputs = keras.Input((None, None, 1))
    hidden = keras.layers.Conv2D(2, 3, padding="same", activation="relu")(inputs)
    hidden = keras.layers.BatchNormalization()(keras.layers.Dropout(0.1)(hidden))
    network = keras.Model(inputs, inputs + keras.layers.Conv2D(1, 1)(hidden))
    network.compile("adam", "mse", metrics=["mae"])
    network.save(tmp_path / "a.keras")
    picture = np.random.default_rng(0).random((6, 5), np.float32)
    loaded = denoise(picture, tmp_path / "a.keras")
    np.testing.assert_allclose(loaded, denoise(picture, network), atol=1e-6)


def _weights(write):
    """Returns the content of a file of weights."""
    with h5py.File("weights", "w", driver="core", backing_store=False) as file:
        write(file)
        file.flush()
        return file.id.get_file_image()


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda f: f.create_dataset("a", (10**6, 10**6)), "without content"),
        (lambda f: f.update(a=h5py.ExternalLink("/etc/passwd", "b")), "a is a link"),
        (lambda f: f.update(a=h5py.SoftLink("/b")), "a is a link"),
        (
            lambda f: f.create_dataset("a", (4,), "f4", external=[("b", 0, 16)]),
            "in another file",
        ),
    ],
)
def test_arrays_of_weights(folder, tmp_path, write, message):
    members = {"model.weights.h5": _weights(write)}
    path = _rewritten(folder / "denoiser.keras", tmp_path / "a.keras", members)
    _refuse(path, message)


def test_a_compressed_bomb(folder, tmp_path):
    path = tmp_path / "a.keras"
    _rewritten(folder / "denoiser.keras", path, {"model.weights.h5": None})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("model.weights.h5", bytes(2**23))
    _refuse(path, "not be larger than 200 times")


def test_weights_that_are_not_finite(tmp_path):
    network = ResNetDenoiser(num_blocks=1, hidden_channels=2)
    network.head.kernel.assign(np.full(network.head.kernel.shape, np.nan))
    network.save(tmp_path / "a.keras")
    _refuse(tmp_path / "a.keras", "weights of a model must be finite")


@pytest.mark.parametrize("name", ["denoiser", "prior", "noise", "unpaired"])
def test_files_have_the_versions_and_newer_ones_are_said(
    folder, tmp_path, caplog, name
):
    source, target = folder / f"{name}.keras", tmp_path / "a.keras"
    load = LOADS.get(name, load_denoiser)
    with zipfile.ZipFile(source) as file:
        record = json.loads(file.read("config.json"))["build_config"][saving.RECORD]
    assert record == saving.versions()
    with caplog.at_level(logging.WARNING):
        load(source)
    assert not caplog.records

    def record_version(config, **versions):
        config["build_config"][saving.RECORD] = {**record, **versions}

    _reconfigured(source, target, lambda c: record_version(c, version="99.0"))
    load(target)
    assert "written by tfflowdn 99.0, which is newer" in caplog.text
    newer = {"version": "99.0", "format_version": saving.FORMAT_VERSION + 1}
    _reconfigured(source, target, lambda c: record_version(c, **newer))
    _refuse(target, "install a newer version of tfflowdn", load)


def test_a_file_without_versions_is_loaded(folder, tmp_path):
    def forget(config):
        del config["build_config"]

    path = _reconfigured(folder / "denoiser.keras", tmp_path / "a.keras", forget)
    assert load_denoiser(path).num_blocks == 1


class _Foreign(tf.Module):
    """A network that also writes a file."""

    def __init__(self, path):
        super().__init__()
        self._path = str(path)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 1), name="noisy")])
    def serve(self, noisy):
        tf.io.write_file(self._path, "written")
        return {"denoised": noisy}


def test_foreign_saved_models_are_loaded_only_with_trust(tmp_path):
    written, folder = tmp_path / "written", tmp_path / "model"
    module = _Foreign(written)
    tf.saved_model.save(module, str(folder), signatures={"serve": module.serve})
    message = "--trust_saved_model .*trust=True"
    _refuse(folder, f"{message}.*has no assets.extra/manifest.json")
    manifest = folder / inference.MANIFEST
    manifest.parent.mkdir()
    manifest.write_text(json.dumps(inference.checksums(folder)))
    _refuse(folder, f"{message}.*the operation 'WriteFile'", Denoiser.from_pretrained)
    assert not written.exists()
    picture = np.full((5, 4), 0.5, np.float32)
    with pytest.raises(ValueError, match="WriteFile"):
        denoise(picture, folder)
    np.testing.assert_array_equal(denoise(picture, folder, trust=True), picture)
    assert written.exists()


def test_an_export_must_be_unchanged(folder, tmp_path):
    source, target = folder / "served" / "1", tmp_path / "1"
    assert load_denoiser(source).channels == 1
    for name, content, problem in (
        ("saved_model.pb", b"x", "'saved_model.pb' does not fit"),
        ("variables/other", b"x", "'variables/other' does not fit"),
        ("fingerprint.pb", None, "which lacks 'fingerprint.pb'"),
        (inference.MANIFEST, b"{", "is not JSON"),
        (inference.MANIFEST, b"[]", "is not an object"),
    ):
        tf.io.gfile.rmtree(str(target)) if target.exists() else None
        for path in sorted(source.rglob("*")):
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file():
                copy.write_bytes(path.read_bytes())
        if content is None:
            (target / name).unlink()
        else:
            (target / name).write_bytes(content)
        _refuse(target, problem)
    facts = target / inference.FACTS
    facts.write_text(json.dumps({"format_version": 9, "versions": {"tfflowdn": "8"}}))
    _refuse(target, "install a newer version", lambda p: load_denoiser(p, trust=True))


def test_a_saved_model_must_have_the_signature(tmp_path):
    module = _Foreign(tmp_path / "written")
    tf.saved_model.save(module, str(tmp_path / "a"), signatures={"x": module.serve})
    _refuse(
        tmp_path / "a", "have the signature serve", lambda p: load_denoiser(p, trust=1)
    )
