"""Measures the step of each training, in milliseconds, and what sharing cores gains.

    python tools/benchmark_training.py

times prior_glow:gray, then the parts of denoiser_resnet on random pictures, each with
the cores at one operation of the whole batch (TensorFlow's own way) and with the cores
at parts of the batch (the scripts' way). The two run in turns, `--rounds` times, each
in a process of its own; of each the median step counts, without those that compile.
Milliseconds are those of one machine, an idle one; the ratios are to compare.
"""

from __future__ import annotations

import json
import runpy
import statistics
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
from absl import app, flags

from tfflowdn import devices
from tfflowdn.models import FlowPrior, UnpairedDenoiser, make_network

FLAGS = flags.FLAGS
TOOLS = Path(__file__).resolve().parent
WAYS = ("whole", "parts")
WARM_UP = 3


class _Timer(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.times = []

    def on_train_batch_end(self, batch, logs=None):
        del batch, logs
        self.times.append(time.perf_counter())


def _config(name, variant):
    path = TOOLS.parent / "configs" / f"{name}.py"
    return runpy.run_path(str(path))["get_config"](variant)


def _milliseconds(model, images, targets=None, **compile_options):
    """Returns those of each step on one batch."""
    model.compile(optimizer="adam", **compile_options)
    timer = _Timer()
    model.fit(
        images,
        targets,
        batch_size=len(keras.tree.flatten(images)[0]),
        epochs=FLAGS.steps + WARM_UP,
        verbose=0,
        callbacks=[timer],
    )
    return list(1000 * np.diff(timer.times)[WARM_UP - 1 :])


def _crops(part):
    return _pictures(part.crops.batch_size, part.crops.crop_size)


def _pictures(count, size):
    return np.random.default_rng(0).random((count, size, size, 1), np.float32)


def _measure(num_shards):
    """Returns the milliseconds of the steps of each training, by its name."""
    config = _config("prior_glow", "gray")
    prior = FlowPrior(**config.prior)
    prior.num_shards = num_shards
    crops = _pictures(config.crops.batch_size, config.prior.image_shape[0])
    steps = {"prior": _milliseconds(prior, crops)}
    for variant in ("full", "from_scratch"):
        config = _config("denoiser_resnet", variant)
        config.network.precision = FLAGS.precision
        network = make_network(1, **config.network)
        network.num_shards = num_shards
        if "start" in config:
            noisy = _crops(config.start)
            steps["start"] = _milliseconds(network, noisy, noisy, loss="mse")
        denoiser = UnpairedDenoiser(network, prior, **config.objective.loss)
        noisy = _crops(config.objective)
        batch = (noisy, None)
        if denoiser.rehearsal_weight:
            batch = ((noisy, noisy), noisy)
        steps[f"objective, {variant}"] = _milliseconds(denoiser, *batch)
    return steps


def _run(way):
    """Returns what a fresh process measures in one of the two ways."""
    arguments = [f"--worker={way}", f"--steps={FLAGS.steps}"]
    arguments.append(f"--precision={FLAGS.precision}")
    output = subprocess.check_output([sys.executable, __file__, *arguments], text=True)
    return json.loads(output.splitlines()[-1])


def _main(argv):
    del argv
    if FLAGS.worker:
        num_shards = devices.share_cores() if FLAGS.worker == "parts" else 1
        print(json.dumps(_measure(num_shards)))
        return
    steps = {way: {} for way in WAYS}
    for way in WAYS * FLAGS.rounds:
        for name, times in _run(way).items():
            steps[way].setdefault(name, []).extend(times)
    report = {}
    print("| | whole batch, ms | parts, ms | speed of parts |")
    print("| --- | --: | --: | --: |")
    for name in steps["whole"]:
        whole, parts = (statistics.median(steps[way][name]) for way in WAYS)
        report[name] = {"whole": whole, "parts": parts, "speed_of_parts": whole / parts}
        print(f"| {name} | {whole:.1f} | {parts:.1f} | {whole / parts:.2f} |")
    report = {"precision": FLAGS.precision, "steps": report}
    Path(FLAGS.output).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    flags.DEFINE_integer("rounds", 3, "Processes of each way.")
    flags.DEFINE_integer("steps", 20, "Steps that each of them times.")
    flags.DEFINE_string("precision", "float32", "Of the denoiser's blocks.")
    flags.DEFINE_string(
        "output", str(TOOLS / "results/training.json"), "JSON to write."
    )
    flags.DEFINE_enum("worker", None, WAYS, "For its own processes.")
    app.run(_main)
