"""Measures how long a training step waits for its batch.

    python tools/benchmark_input.py --output tools/results/input.json

writes 4,000 pictures (smooth random fields of 180 x 180 pixels, 8-bit PNG) and takes
steps of each training on them, as `train_prior` and `train_denoiser` do: prior_glow,
the start of denoiser_resnet with its noise, and its objective. `wait` is the share of
the time in which the step waits for the pipeline, which runs on the same cores.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import harness
import numpy as np
from absl import flags

data = harness.lazy("tfflowdn.data")
models = harness.lazy("tfflowdn.models")
noise = harness.lazy("tfflowdn.noise")
stages = harness.lazy("tfflowdn.stages")

FLAGS = flags.FLAGS
WARM_UP = 3


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
    config = harness.config("prior_glow", FLAGS.variant)
    size = config.prior.image_shape[0]
    prior = models.FlowPrior(**config.prior)
    crops = data.RandomCrops(source, crop_size=size, **config.crops)
    prior.initialize(next(iter(crops())))
    prior.compile("adam")
    yield "prior", prior, crops()
    config = harness.config("denoiser_resnet", FLAGS.variant)
    network = models.make_network(1, **config.network)
    network.compile("adam", loss="mse")
    crops = data.RandomCrops(source, **config.start.crops)
    generic = noise.GenericNoise(**config.start.noise)
    yield "start", network, stages.noisy_pairs(crops, generic, noise_seed=0)(0)
    denoiser = models.UnpairedDenoiser(network, prior, **config.objective.loss)
    denoiser.compile("adam")
    batches = crops = data.RandomCrops(source, **config.objective.crops)
    if denoiser.rehearsal_weight:
        pairs = stages.noisy_pairs(crops, generic, noise_seed=0)
        batches = stages.with_pairs(crops, pairs)
    yield "objective", denoiser, batches(0)


def _measure(model, batches):
    """Returns the times of the first batch and of a step, and the share of waiting."""
    iterator, batch = iter(batches), None

    def load():
        nonlocal batch
        batch = next(iterator)

    def step():
        model.train_on_batch(*(batch if isinstance(batch, tuple) else (batch,)))

    first = harness.seconds(load)
    times = harness.turns({"step": step, "wait": load}, FLAGS.steps + WARM_UP)
    means = {name: statistics.fmean(values[WARM_UP:]) for name, values in times.items()}
    return {
        "first_batch_s": round(first, 2),
        "step_ms": round(1000 * means["step"], 2),
        "wait_ms": round(1000 * means["wait"], 3),
        "wait": round(means["wait"] / sum(means.values()), 4),
    }


def _main():
    names = ("pictures", "steps", "variant")
    record = {name: FLAGS[name].value for name in names}
    with tempfile.TemporaryDirectory() as name:
        _write_pictures(Path(name))
        source = data.open_source(name, channels=1)
        for part, model, batches in _parts(source):
            record[part] = _measure(model, batches)
            print(part, record[part], flush=True)
    harness.save(record, FLAGS.output)


if __name__ == "__main__":
    flags.DEFINE_integer("pictures", 4000, "Number of pictures.")
    flags.DEFINE_integer("steps", 60, "Steps to time.")
    flags.DEFINE_string("variant", "quickstart", "Variant of the configurations.")
    flags.DEFINE_string("output", None, "JSON file to write.")
    harness.run(_main)
