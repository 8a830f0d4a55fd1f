"""Measures how long a training step waits for its batch.

    python tools/benchmark_input.py --output tools/results/input.json

writes 4,000 pictures (smooth random fields of 180 x 180, 8 bits, PNG), then takes steps
of each training on them, as `train_prior` and `train_denoiser` do: prior_glow, the
start of denoiser_resnet with its noise, and its objective. `wait` is the share of the
time in which the step waits for the pipeline, which runs on the same cores.
"""

from __future__ import annotations

import json
import os
import runpy
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from absl import app, flags

from tfflowdn import data
from tfflowdn.models import FlowPrior, UnpairedDenoiser, make_network
from tfflowdn.noise import GenericNoise
from tfflowdn.stages import noisy_pairs, with_pairs

FLAGS = flags.FLAGS
CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def _write_pictures(folder):
    rng = np.random.default_rng(0)
    axes = np.arange(180) / 180
    for index in range(FLAGS.pictures):
        waves = [np.sin(rng.uniform(5, 60) * axes + rng.uniform(0, 6)) for _ in "1234"]
        field = np.outer(waves[0], waves[1]) + np.outer(waves[2], waves[3])
        picture = 0.5 + 0.2 * field + 0.01 * rng.standard_normal(field.shape)
        picture = data.from_float(np.float32(picture[..., np.newaxis]), np.uint8)
        data.write_image(folder / f"{index:05d}.png", picture)


def _parts(source):
    """Yields the name, the model and the batches of each training."""

    def config(name):
        return runpy.run_path(str(CONFIGS / f"{name}.py"))["get_config"](FLAGS.variant)

    prior_config, denoiser_config = config("prior_glow"), config("denoiser_resnet")
    size = prior_config.prior.image_shape[0]
    prior = FlowPrior(**prior_config.prior)
    crops = data.RandomCrops(source, crop_size=size, **prior_config.crops)
    prior.initialize(next(iter(crops())))
    prior.compile("adam")
    yield "prior", prior, crops()
    network = make_network(1, **denoiser_config.network)
    network.compile("adam", loss="mse")
    crops = data.RandomCrops(source, **denoiser_config.start.crops)
    noise = GenericNoise(**denoiser_config.start.noise)
    yield "start", network, noisy_pairs(crops, noise, noise_seed=0)(0)
    denoiser = UnpairedDenoiser(network, prior, **denoiser_config.objective.loss)
    denoiser.compile("adam")
    batches = crops = data.RandomCrops(source, **denoiser_config.objective.crops)
    if denoiser.rehearsal_weight:
        batches = with_pairs(crops, noisy_pairs(crops, noise, noise_seed=0))
    yield "objective", denoiser, batches(0)


def _measure(model: keras.Model, batches):
    """Returns the time to the first batch, the step's, and the share spent waiting."""

    def seconds(function, *arguments):
        start = time.perf_counter()
        result = function(*arguments)
        return time.perf_counter() - start, result

    iterator = iter(batches)
    first, batch = seconds(next, iterator)
    waits, steps = [], []
    for index in range(FLAGS.steps + 3):
        pair = batch if isinstance(batch, tuple) else (batch,)
        step, _ = seconds(model.train_on_batch, *pair)
        wait, batch = seconds(next, iterator)
        if index >= 3:
            waits.append(wait)
            steps.append(step)
    return {
        "first_batch_s": round(first, 2),
        "step_ms": round(1000 * float(np.mean(steps)), 2),
        "wait_ms": round(1000 * float(np.mean(waits)), 3),
        "wait": round(sum(waits) / (sum(waits) + sum(steps)), 4),
    }


def _main(argv):
    del argv
    with tempfile.TemporaryDirectory() as name:
        _write_pictures(Path(name))
        source = data.open_source(name, channels=1)
        results = {
            "pictures": FLAGS.pictures,
            "steps": FLAGS.steps,
            "cores": os.cpu_count(),
            "variant": FLAGS.variant,
        }
        for part, model, batches in _parts(source):
            results[part] = _measure(model, batches)
            print(part, results[part], flush=True)
    if FLAGS.output:
        Path(FLAGS.output).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    flags.DEFINE_integer("pictures", 4000, "Pictures.")
    flags.DEFINE_integer("steps", 60, "Steps to time.")
    flags.DEFINE_string("variant", "quickstart", "Of the configurations.")
    flags.DEFINE_string("output", None, "JSON file to write.")
    app.run(_main)
