"""Measures the step of each training in milliseconds, and the gain of sharing cores.

    python tools/benchmark_training.py

times prior_glow:gray and the stages of denoiser_resnet on random pictures. Each runs in
two ways: the cores work on one operation of the whole batch (the default of TensorFlow)
or on parts of the batch (the default of our commands). The two ways run in turns,
`--rounds` times, each in its own process; the median step counts, without the steps
that compile. Compare only the ratios between machines.
"""

from __future__ import annotations

import statistics

import harness
import numpy as np
from absl import flags

devices = harness.lazy("tfflowdn.devices")
models = harness.lazy("tfflowdn.models")

FLAGS = flags.FLAGS
WAYS = ("whole", "parts")
WARM_UP = 3


def _milliseconds(model, images, *targets, batch_size, **compile_options):
    """Returns the time of each step on one batch."""
    model.compile(optimizer="adam", **compile_options)
    options = {"batch_size": batch_size, "epochs": FLAGS.steps + WARM_UP}
    times = harness.step_seconds(model, images, *targets, **options)
    return [1000 * seconds for seconds in times[WARM_UP - 1 :]]


def _pictures(count, size):
    return np.random.default_rng(0).random((count, size, size, 1), np.float32)


def _measure(way):
    """Returns the milliseconds of the steps of each training, by its name."""
    num_shards = devices.share_cores() if way == "parts" else 1
    config = harness.config("prior_glow", "gray")
    prior = models.FlowPrior(**config.prior)
    prior.num_shards = num_shards
    count = config.crops.batch_size
    crops = _pictures(count, config.prior.image_shape[0])
    steps = {"prior": _milliseconds(prior, crops, batch_size=count)}
    for variant in ("full", "from_scratch"):
        config = harness.config("denoiser_resnet", variant)
        config.network.precision = FLAGS.precision
        network = models.make_network(1, **config.network)
        network.num_shards = num_shards
        if "start" in config:
            count = config.start.crops.batch_size
            noisy = _pictures(count, config.start.crops.crop_size)
            options = {"batch_size": count, "loss": "mse"}
            steps["start"] = _milliseconds(network, noisy, noisy, **options)
        denoiser = models.UnpairedDenoiser(network, prior, **config.objective.loss)
        count = config.objective.crops.batch_size
        noisy = _pictures(count, config.objective.crops.crop_size)
        batch = ((noisy, noisy), noisy) if denoiser.rehearsal_weight else (noisy,)
        times = _milliseconds(denoiser, *batch, batch_size=count)
        steps[f"objective, {variant}"] = times
    return steps


def _main():
    steps = {way: {} for way in WAYS}
    for way in WAYS * FLAGS.rounds:
        for name, times in harness.fresh(way=way).items():
            steps[way].setdefault(name, []).extend(times)
    record = {}
    for name in steps["whole"]:
        whole, parts = (statistics.median(steps[way][name]) for way in WAYS)
        record[name] = {"whole": whole, "parts": parts, "speed_of_parts": whole / parts}
    header = ["", "whole batch, ms", "parts, ms", "speed of parts"]
    harness.print_table(header, [[name, *row.values()] for name, row in record.items()])
    harness.save({"precision": FLAGS.precision, "steps": record}, FLAGS.output)


if __name__ == "__main__":
    flags.DEFINE_integer("rounds", 3, "Processes of each way.")
    flags.DEFINE_integer("steps", 20, "Steps that each process times.")
    flags.DEFINE_string("precision", "float32", "Precision of the denoiser's blocks.")
    flags.DEFINE_string("output", None, "JSON file to write.")
    harness.run(_main, _measure)
