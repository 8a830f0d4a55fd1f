"""Measures the step of each training, in milliseconds.

    python tools/benchmark_training.py

times prior_glow:gray, then the two parts of denoiser_resnet on random pictures: median
over `--steps` steps after as many warm-up steps as compile everything. Figures of one
machine; compare two versions by runs in turns on an idle one.
"""

from __future__ import annotations

import runpy
import time
from pathlib import Path

import keras
import numpy as np
from absl import app, flags

from tfflowdn.models import FlowPrior, ResNetDenoiser, UnpairedDenoiser

FLAGS = flags.FLAGS
CONFIGS = Path(__file__).resolve().parent.parent / "configs"


class _Timer(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.times = []

    def on_train_batch_end(self, batch, logs=None):
        del batch, logs
        self.times.append(time.perf_counter())


def _median_step(model, images, targets=None, **compile_options):
    """Returns the median time of a step on one batch, in ms, the first 3 left out."""
    model.compile(optimizer="adam", **compile_options)
    timer = _Timer()
    model.fit(
        images,
        targets,
        batch_size=len(keras.tree.flatten(images)[0]),
        epochs=FLAGS.steps + 3,
        verbose=0,
        callbacks=[timer],
    )
    return 1000 * float(np.median(np.diff(timer.times)[2:]))


def _main(argv):
    del argv
    rng = np.random.default_rng(0)
    prior_config = runpy.run_path(str(CONFIGS / "prior_glow.py"))["get_config"]("gray")
    config = runpy.run_path(str(CONFIGS / "denoiser_resnet.py"))["get_config"]("full")
    config.network.precision = FLAGS.precision

    def pictures(crops):
        size = crops.get("crop_size", prior_config.prior.image_shape[0])
        return rng.random((crops.batch_size, size, size, 1), np.float32)

    prior = FlowPrior(**prior_config.prior)
    steps = {"prior": _median_step(prior, pictures(prior_config.crops))}
    network = ResNetDenoiser(1, **config.network)
    noisy = pictures(config.start.crops)
    steps["start"] = _median_step(network, noisy, noisy, loss="mse")
    denoiser = UnpairedDenoiser(network, prior, **config.objective.loss)
    noisy = pictures(config.objective.crops)
    steps["objective"] = _median_step(denoiser, (noisy, noisy), noisy)
    counts = {
        "prior": prior_config.training.num_steps,
        "start": config.start.training.num_steps,
        "objective": config.objective.training.num_steps,
    }
    for name, milliseconds in steps.items():
        minutes = milliseconds * counts[name] / 60_000
        print(
            f"{name:10} {milliseconds:7.1f} ms a step, "
            f"{counts[name]:6d} steps in {minutes:5.1f} min"
        )


if __name__ == "__main__":
    flags.DEFINE_integer("steps", 30, "Steps to time.")
    flags.DEFINE_string("precision", "float32", "Of the denoiser's blocks.")
    app.run(_main)
