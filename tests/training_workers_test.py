"""Two worker processes on this machine train as one process does."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path

import forks
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfflowdn import data, devices
from tfflowdn.models import FlowPrior
from tfflowdn.scripts import command
from tfflowdn.training.checkpoint import Checkpoint

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures and a prior."""
    folder = tmp_path_factory.mktemp("workers")
    # Two held-out pictures are whole batches of crops, which workers need.
    for pool, count in (("clean", 2), ("held_out", 2), ("noisy", 3)):
        (folder / pool).mkdir()
        for index in range(count):
            picture = np.random.default_rng(index).integers(
                0, 256, (20, 24, 1), "uint8"
            )
            data.write_image(folder / pool / f"{index}.png", picture)
    options = {"num_levels": 2, "num_steps": 1, "hidden_channels": 4}
    FlowPrior("glow", (8, 8, 1), flow_options=options).save(folder / "prior.keras")
    return folder


def _command(stage, folder, workdir, **changes):
    # The noise of a replica is its own, and so left out where replicas are compared.
    values = {
        "prior": {
            "clean.spec": folder / "clean",
            "validation.spec": folder / "held_out",
            "prior.dequantization_sigma": 0.0,
        },
        "denoiser": {
            "clean.spec": folder / "clean",
            "noisy.spec": folder / "noisy",
            "prior": folder / "prior.keras",
            "validation.noisy": folder / "held_out",
            "validation.clean": folder / "clean",
            "objective.loss.dequantize": False,
        },
    }[stage]
    config = {"prior": "prior_glow", "denoiser": "denoiser_resnet"}[stage]
    return [
        *("-m", f"tfflowdn.scripts.train_{stage}", "--seed=0"),
        *("--config", f"configs/{config}.py:smoke", "--workdir", str(workdir)),
        *(f"--config.{name}={value}" for name, value in {**values, **changes}.items()),
    ]


def _start(arguments, workers=None, index=0):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if workers:
        arguments = [*arguments, "--strategy=multi_worker"]
        task = {"type": "worker", "index": index}
        environment["TF_CONFIG"] = json.dumps(
            {"cluster": {"worker": workers}, "task": task}
        )
    return forks.Fork(arguments, env=environment)


def _start_two(arguments):
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    workers = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return [_start(arguments, workers, index) for index in range(2)]


def _wait(*processes):
    outputs = []
    for process in processes:
        outputs += process.communicate()
        if process.returncode:  # The others would wait for it.
            for other in processes:
                other.kill()
    assert not any(process.returncode for process in processes), "\n".join(outputs)


def _columns(path):
    """Returns the columns of a history but the norm of a replica's own gradient."""
    table = np.genfromtxt(path, delimiter=",", names=True)
    return [table[name] for name in table.dtype.names if name != "gradient_norm"]


def _assert_same_run(one, other):
    names = [
        sorted(path.relative_to(run).as_posix() for path in run.rglob("*.[cjkn]*"))
        for run in (one, other)
    ]
    assert names[0] == names[1] and "model.json" in names[0]
    for name in names[0]:
        if name.endswith(".npz"):
            with np.load(one / name) as a, np.load(other / name) as b:
                arrays = [
                    [file[n] for n in file.files if n != "state"] for file in (a, b)
                ]
        elif name.endswith(".csv"):
            arrays = [_columns(run / name) for run in (one, other)]
        elif name.endswith(".keras"):
            arrays = [
                keras.models.load_model(run / name, compile=False).get_weights()
                for run in (one, other)
            ]
        else:
            assert (one / name).read_text() == (other / name).read_text()
            continue
        for a, b in zip(*arrays, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=name)


def test_two_workers_train_a_denoiser_as_one_process(folder, tmp_path):
    one = _start(_command("denoiser", folder, tmp_path / "one"))
    two = _start_two(_command("denoiser", folder, tmp_path / "two"))
    _wait(one, *two)
    _assert_same_run(tmp_path / "one", tmp_path / "two")


def test_two_workers_of_which_one_is_killed_train_a_prior_as_one_process(
    folder, tmp_path
):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    longer = {"training.num_steps": 80, "training.steps_per_epoch": 40}
    often = {**longer, "training.checkpoint_seconds": 0}
    one = _start(_command("prior", folder, whole, **longer))
    chief, other = _start_two(_command("prior", folder, parts, **often))
    checkpoint = Checkpoint(parts / "checkpoint.npz")
    while not (checkpoint.exists() and checkpoint.state()["step"] > 10):
        assert chief.poll() is other.poll() is None
        time.sleep(0.05)
    other.send_signal(signal.SIGKILL)
    other.communicate()
    output = "".join(chief.communicate())
    assert chief.returncode == command.EXIT_RESUME, output
    assert 10 < checkpoint.state()["step"] < 80
    _wait(one, *_start_two(_command("prior", folder, parts, **longer)))
    _assert_same_run(whole, parts)


def test_one_and_four_replicas_train_alike(tmp_path):
    output = tmp_path / "scaling.json"
    tool = ROOT / "tools" / "benchmark_scaling.py"
    options = [
        "--variant=smoke",
        "--steps=3",
        "--replicas=1",
        "--replicas=4",
        f"--output={output}",
    ]
    _wait(_start([tool, *options]))
    results = json.loads(output.read_text())
    for stage in ("prior", "denoiser"):
        differences = results[stage]["weights_difference"]
        assert list(differences) == ["1", "4"]
        # Three of Adam's steps move a weight by up to 3e-3, of which rounding decides
        # a little where a gradient is near 0.
        assert max(differences.values()) < 3e-5
        assert results[stage]["gradient_bytes"] > 0


@pytest.mark.parametrize(
    ("task", "others", "chief"),
    [
        (("worker", 0), {}, True),
        (("worker", 1), {}, False),
        (("worker", 0), {"chief": ["a:1"]}, False),
        (("chief", 0), {"chief": ["a:1"]}, True),
    ],
)
def test_the_chief_is_one(monkeypatch, task, others, chief):
    cluster = tf.train.ClusterSpec({"worker": ["b:1", "c:1"], **others})
    strategy = object.__new__(tf.distribute.MultiWorkerMirroredStrategy)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        cluster, task_type=task[0], task_id=task[1]
    )
    monkeypatch.setattr(
        tf.distribute.MultiWorkerMirroredStrategy, "cluster_resolver", resolver
    )
    assert devices.is_chief(strategy) == chief


def test_strategies_say_what_is_wrong(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match="TF_CONFIG must name the workers"):
        devices.make_strategy("multi_worker")
    with pytest.raises(ValueError, match="strategy must be one of .*strategy='tpu'"):
        devices.make_strategy("tpu")
    batches = tf.data.Dataset.from_tensor_slices(tf.zeros([6, 2])).batch(3, True)
    with pytest.raises(ValueError, match="batch_size=3, num_replicas=2"):
        devices.check_batch_size(batches, 2)
    devices.check_batch_size(batches, 3)
