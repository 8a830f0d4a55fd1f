"""Trainings that are stopped: by a kill, by SIGTERM, by the disk, by another one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import forks
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfflowdn import data, files, training
from tfflowdn.scripts import command
from tfflowdn.training import checkpoint

ROOT = Path(__file__).parent.parent
STEPS = 5  # of an epoch


def _model():
    dense = keras.layers.Dense(1, kernel_initializer="ones")
    return keras.Sequential([keras.Input((3,)), dense])


def _batches(step):
    def pair(index):
        x = tf.random.stateless_normal([4, 3], [0, index])
        return x, x @ [[2.0], [3.0], [-1.0]]

    return tf.data.Dataset.counter(step).map(pair)


class _Record(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.epochs, self.num_steps = [], 0

    def on_train_batch_end(self, batch, logs=None):
        del batch, logs
        self.num_steps += 1

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append((epoch, dict(logs)))


def _fit(directory, model=None, **kwargs):
    model, record = model or _model(), _Record()
    options = {
        "num_steps": 3 * STEPS,
        "steps_per_epoch": STEPS,
        "learning_rate": 0.1,
        "warmup_steps": 4,
        "validation": _batches(1000).take(2),
        "loss": "mse",
        "callbacks": [record],
        **kwargs,
    }
    with contextlib.suppress(training.PreemptionError):
        training.fit(model, _batches, directory=directory, **options)
    return model, record


def _stop_after(num_steps):
    asked = iter(range(num_steps))
    return lambda: next(asked, None) is None


@pytest.mark.parametrize("ema_momentum", [None, 0.9])
def test_a_run_stopped_anywhere_ends_as_if_it_had_not_been(tmp_path, ema_momentum):
    options = {"ema_momentum": ema_momentum, "monitor": "val_loss"}
    saved = []
    options["save_best"] = lambda path: saved.append(path.name)
    model, record = _fit(tmp_path / "whole", **options)
    expected, saved[:] = saved[:], []
    epochs = {}
    options["checkpoint_seconds"] = 0
    steps = []
    for _ in range(6):  # It is asked after each step, batch of validation, and epoch.
        resumed, part = _fit(tmp_path / "parts", stop=_stop_after(3), **options)
        epochs |= dict(part.epochs)
        steps.append(part.num_steps)
    # The third and the fifth stop in a validation: their last step is taken again.
    assert steps == [4, 2, 4, 2, 4, 1]
    for one, other in zip(resumed.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert list(epochs) == [0, 1, 2]
    for index, logs in record.epochs:
        assert epochs[index] == pytest.approx(logs, rel=1e-5)
    assert saved == expected
    one, other = (
        np.loadtxt(tmp_path / run / "history.csv", delimiter=",", skiprows=1)
        for run in ("whole", "parts")
    )
    np.testing.assert_allclose(one, other, rtol=1e-5)


def test_a_checkpoint_within_an_epoch_follows_the_clock(tmp_path, monkeypatch):
    now, steps = [0.0], []
    monkeypatch.setattr(training.save_checkpoint.time, "monotonic", lambda: now[0])
    save = checkpoint.Checkpoint.save

    def record(self, model, state):
        steps.append(state["step"])
        save(self, model, state)

    def stop():
        now[0] += 1
        return False

    monkeypatch.setattr(checkpoint.Checkpoint, "save", record)
    _fit(tmp_path, stop=stop, checkpoint_seconds=2, num_steps=2 * STEPS)
    assert steps == [2, 4, 5, 6, 8, 10]  # The clock also runs after an epoch.


def test_a_callback_may_end_the_training(tmp_path):
    early = keras.callbacks.EarlyStopping("val_loss", min_delta=1e9, patience=0)
    _, record = _fit(tmp_path, callbacks=[early])
    assert (
        checkpoint.Checkpoint(tmp_path / "checkpoint.npz").state()["step"] < 3 * STEPS
    )
    del record


def test_another_process_in_the_directory_is_an_error(tmp_path):
    _fit(tmp_path, num_steps=STEPS)
    before = (tmp_path / "checkpoint.npz").read_bytes()
    code = (
        "import filelock, sys; lock = filelock.FileLock(sys.argv[1]); lock.acquire();"
        "print('locked', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    process.stdout.readline()
    with pytest.raises(ValueError, match="No two processes may train in one work dir"):
        _fit(tmp_path)
    assert (tmp_path / "checkpoint.npz").read_bytes() == before
    process.kill()  # As it may itself: the lock must go with it.
    process.communicate()
    _fit(tmp_path)


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"

    def fail(temporary):
        temporary.write_text("half of")
        raise OSError(28, "No space left on device")

    with pytest.raises(
        OSError, match=r"a\.json was not written\. Received: .*No space"
    ):
        files.replace(path, fail)
    path.write_text("old")
    with pytest.raises(OSError, match=r"a\.json is as it was before\. Received:"):
        files.replace(path, fail)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def _can_mount():
    command = ["unshare", "--user", "--map-root-user", "--mount", "true"]
    return shutil.which("unshare") and not subprocess.run(command).returncode


TRAIN_ON_A_SMALL_DISK = """
import pathlib, subprocess, sys
sys.path.insert(0, {tests!r})
from training_resume_test import STEPS, _fit, checkpoint

disk = pathlib.Path({disk!r})

def fill():
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass

def mount(mode):
    subprocess.check_call(["mount", "-o", "remount," + mode, disk])

problems = {{
    "full": (fill, (disk / "filler").unlink),
    "read_only": (lambda: mount("ro"), lambda: mount("rw")),
}}
for problem, (spoil, repair) in problems.items():
    directory = disk / problem
    _fit(directory, num_steps=STEPS)
    before = (directory / "checkpoint.npz").read_bytes()
    spoil()
    try:
        _fit(directory)
    except OSError as error:
        print(problem, "ERROR", error)
    assert (directory / "checkpoint.npz").read_bytes() == before
    checkpoint.Checkpoint(directory / "checkpoint.npz").state()
    repair()
    _, record = _fit(directory)
    print(problem, "STEPS", record.num_steps)
"""


@pytest.mark.skipif(not _can_mount(), reason="needs the right to mount")
def test_a_disk_that_is_full_or_read_only(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    code = TRAIN_ON_A_SMALL_DISK.format(tests=str(ROOT / "tests"), disk=str(disk))
    mount = f'mount -t tmpfs -o size=2m tmpfs {disk} && exec {sys.executable} -c "$0"'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    for problem, message in (
        ("full", r"full ERROR The disk must have room for (.|\n)*No space left"),
        (
            "read_only",
            r"read_only ERROR The work directory must be writable.*Read-only",
        ),
    ):
        assert re.search(message, done.stdout), done.stdout + done.stderr
        assert f"{problem} STEPS {2 * STEPS}" in done.stdout, done.stdout + done.stderr


def test_killed_trainings_end_as_if_they_had_not_been(tmp_path):
    output = tmp_path / "soak.json"
    options = ["--kills=2", "--num_steps=50", f"--output={output}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = forks.run([ROOT / "tools/soak_kills.py", *options], env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(output.read_text())
    for stage in ("prior", "denoiser"):
        assert results[stage]["kills"] == 2
        assert results[stage]["variables_difference"] < 1e-6


def _write_pictures(folder):
    for pool in ("clean", "held_out"):
        (folder / pool).mkdir()
        for index in range(3):
            picture = np.random.default_rng(index).integers(
                0, 256, (20, 24, 1), "uint8"
            )
            data.write_image(folder / pool / f"{index}.png", picture)


def _train_prior(folder, workdir, *flags):
    """Starts `train_prior` on random pictures."""
    config = {
        "clean.spec": folder / "clean",
        "validation.spec": folder / "held_out",
    }
    return forks.Fork(
        [
            *("-m", "tfflowdn.scripts.train_prior"),
            *("--config", "configs/prior_glow.py:smoke", "--workdir", workdir),
            *(f"--config.{name}={value}" for name, value in config.items()),
            *flags,
        ]
    )


def test_sigterm_writes_a_checkpoint_and_asks_for_more(tmp_path):
    _write_pictures(tmp_path)
    workdir = tmp_path / "run"
    flags = ("--config.training.num_steps=100000", "--seed=1")
    flags += ("--config.training.steps_per_epoch=100000",)
    process = _train_prior(tmp_path, workdir, *flags)
    while process.poll() is None and not list(workdir.glob("logs/*/*")):
        time.sleep(0.1)  # TensorBoard's file opens when the training begins.
    process.send_signal(signal.SIGTERM)
    _, message = process.communicate()
    assert process.returncode == command.EXIT_RESUME == 143, message
    step = checkpoint.Checkpoint(workdir / "checkpoint.npz").state()["step"]
    assert f"asked to stop, and did after step {step}; given again" in message
    assert "Traceback" not in message
    assert 0 < step < 100000


def test_a_seed_gives_the_same_bits_again(tmp_path):
    _write_pictures(tmp_path)
    runs = [tmp_path / "one", tmp_path / "two", tmp_path / "other"]
    seeds = ("--seed=7", "--seed=7", "--seed=8")
    for workdir, seed in zip(runs, seeds, strict=True):
        process = _train_prior(tmp_path, workdir, seed)
        _, message = process.communicate()
        assert process.returncode == 0, message
    one, two, other = (
        keras.models.load_model(run / "best.keras", compile=False) for run in runs
    )
    assert (one.seed, other.seed) == (7, 8)
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(
        np.any(a != b)
        for a, b in zip(one.get_weights(), other.get_weights(), strict=True)
    )
