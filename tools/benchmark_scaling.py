"""Measures trainings on 1, 2 and 4 replicas, and estimates those on many GPUs.

    python tools/benchmark_scaling.py --output tools/results/scaling.json

trains the prior of prior_glow and the network of denoiser_resnet under the objective
for some steps of one global batch, each number of replicas in a process of its own, on
logical devices of this machine's CPU: they share its cores, so the times say what the
distribution costs, not what it gains. The weights in the end must be those of a single
replica (`weights_difference`).

The estimate is by arithmetic. A step of an equal batch on each of n GPUs takes that of
one, `--step_ms`, and the exchange of the gradients: in a ring, 2 (n - 1) / n of their
bytes through the slowest link, `--link_gbytes`, plus `--latency_us` for each of its
2 (n - 1) hops. Nothing of it is hidden behind the gradient's computation. Over machines
there is one such ring in each and one between them, at `--network_gbytes`.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

from tfflowdn.models import FlowPrior, UnpairedDenoiser, make_network
from tfflowdn.training.optimizer import GuardedAdam

FLAGS = flags.FLAGS
CONFIGS = Path(__file__).resolve().parent.parent / "configs"
STAGES = ("prior", "denoiser")


class _Timer(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.times = []

    def on_train_batch_end(self, batch, logs=None):
        del batch, logs
        self.times.append(time.perf_counter())


def _config(name):
    return runpy.run_path(str(CONFIGS / f"{name}.py"))["get_config"](FLAGS.variant)


def _model(stage):
    config = _config("prior_glow")
    # The noise of a replica is its own.
    prior = FlowPrior(**{**config.prior, "dequantization": None})
    if stage == "prior":
        return prior, config.crops.batch_size, config.prior.image_shape[0]
    config = _config("denoiser_resnet")
    network = make_network(1, **config.network)
    options = {**config.objective.loss, "dequantize": False, "rehearsal_weight": 0.0}
    crops = config.objective.crops
    return (
        UnpairedDenoiser(network, prior, **options),
        crops.batch_size,
        crops.crop_size,
    )


def _strategy(num_replicas):
    cpu = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * num_replicas
    tf.config.set_logical_device_configuration(cpu, logical)
    if num_replicas == 1:
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(num_replicas)])


def _measure(stage, num_replicas, path):
    """Trains and saves weights, gradient bytes and the median step to an npz."""
    with _strategy(num_replicas).scope():
        model, batch_size, size = _model(stage)
        # The learning rate is that of the global batch for any number of replicas.
        model.compile(GuardedAdam(1e-3, clip_norm=50.0))
    rng = np.random.default_rng(0)
    images = rng.random((FLAGS.steps, batch_size, size, size, 1), np.float32)
    timer = _Timer()
    dataset = tf.data.Dataset.from_tensor_slices(images)
    model.fit(dataset, shuffle=False, verbose=0, callbacks=[timer])
    variables = model.trainable_variables
    np.savez(
        path,
        *[variable.numpy() for variable in variables],
        gradient_bytes=sum(4 * int(np.prod(v.shape)) for v in variables),
        step_ms=1000 * np.median(np.diff(timer.times)[1:]),
    )


def _run(stage, num_replicas, folder):
    path = folder / f"{stage}_{num_replicas}.npz"
    options = {"stage": stage, "replicas": num_replicas, "output": path}
    options |= {"steps": FLAGS.steps, "variant": FLAGS.variant}
    flags_of_child = [f"--{name}={value}" for name, value in options.items()]
    subprocess.run([sys.executable, __file__, *flags_of_child], check=True)
    with np.load(path) as file:
        return dict(file)


def _estimate(gradient_bytes):
    """Returns the share of perfect scaling on 8 GPUs and on 8 machines of 8."""

    def ring(n, gbytes):
        seconds = 2 * (n - 1) / n * gradient_bytes / (gbytes * 1e9)
        return 1000 * seconds + 2 * (n - 1) * FLAGS.latency_us / 1000

    one_machine = ring(8, FLAGS.link_gbytes)
    machines = one_machine + ring(8, FLAGS.network_gbytes)
    return {
        name: {
            "exchange_ms": round(exchange, 3),
            "efficiency": round(FLAGS.step_ms / (FLAGS.step_ms + exchange), 3),
        }
        for name, exchange in (("8 GPUs", one_machine), ("8 x 8 GPUs", machines))
    }


def _summary(stage, folder):
    runs = {n: _run(stage, n, folder) for n in (1, 2, 4)}
    names = [name for name in runs[1] if name.startswith("arr_")]
    gradient_bytes = int(runs[1]["gradient_bytes"])
    return {
        "gradient_bytes": gradient_bytes,
        "step_ms": {n: round(float(run["step_ms"]), 2) for n, run in runs.items()},
        "weights_difference": {
            n: max(float(np.abs(run[k] - runs[1][k]).max()) for k in names)
            for n, run in runs.items()
        },
        "estimate": _estimate(gradient_bytes),
    }


def _main(argv):
    del argv
    if FLAGS.replicas:
        _measure(FLAGS.stage, FLAGS.replicas, FLAGS.output)
        return
    assumed = ("step_ms", "link_gbytes", "network_gbytes", "latency_us")
    with tempfile.TemporaryDirectory() as folder:
        results = {
            "cores": os.cpu_count(),
            "steps": FLAGS.steps,
            "variant": FLAGS.variant,
            "assumed": {name: FLAGS[name].value for name in assumed},
            **{stage: _summary(stage, Path(folder)) for stage in STAGES},
        }
    text = json.dumps(results, indent=1)
    print(text)
    if FLAGS.output:
        Path(FLAGS.output).write_text(text + "\n")


if __name__ == "__main__":
    flags.DEFINE_integer("steps", 20, "Steps of each training.")
    flags.DEFINE_enum(
        "variant", "quickstart", ["quickstart", "smoke"], "Of the configs."
    )
    flags.DEFINE_string("output", None, "JSON file to write.")
    flags.DEFINE_float("step_ms", 20, "Assumed step of one GPU.")
    flags.DEFINE_float("link_gbytes", 200, "Assumed GB/s between a machine's GPUs.")
    flags.DEFINE_float("network_gbytes", 10, "Assumed GB/s between machines.")
    flags.DEFINE_float("latency_us", 20, "Assumed latency of a hop.")
    flags.DEFINE_enum("stage", None, STAGES, "For the processes that this one starts.")
    flags.DEFINE_integer("replicas", 0, "Likewise.")
    app.run(_main)
