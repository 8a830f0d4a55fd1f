"""Checks that a trained flow is invertible in float32 and that its samples are finite.

    python tools/check_trained_flow.py --prior PRIOR.keras --pictures DIR

prints a JSON object: the largest error |x - f(g(x))| of a pixel, where g is the map to
the latent and f its inverse, over 1,000 samples of the prior and over as many crops of
the pictures with noise of 25/255 and of 50/255, and the share of images within the
tolerance; the number of finite samples among 1,000 at temperature 1.5; and whether the
flow passed. The exit code is 1 if it did not.
prior_gray does not pass at 50/255, ten times its training noise: a third of the crops
gets latents of 1e9 and more, and the round trip fails in float32. Each coupling can
scale by exp(log_scale_bound), so that a smaller bound limits it.
results/check_96_steps.json is the report of configs/prior_glow.py:gray with 32 steps
per level, log_scale_bound 0.5 and a learning rate of 2e-3, after 1,200 steps.
TensorFloat-32 is switched off, because it keeps only 10 bits in convolutions of a GPU.
"""

from __future__ import annotations

import sys
from typing import Any

import harness
import numpy as np
from absl import flags

data = harness.lazy("tfflowdn.data")
inference = harness.lazy("tfflowdn.inference")
tf = harness.lazy("tensorflow")

FLAGS = flags.FLAGS
BATCH_SIZE = 100


def check(prior: Any, pictures: str, count: int, tolerance: float) -> dict:
    """Returns the report that the docstring of the module describes, as JSON types.

    Args:
      prior: The trained flow.
      pictures: Folder, glob or file of pictures at least as large as its crops.
      count: Number of images of each kind.
      tolerance: Upper bound of the round-trip error of a pixel.
    """
    images = {
        "samples": _samples(prior, count, temperature=1.0),
        "noise_25": _noisy_crops(prior, pictures, count, 25 / 255),
        "noise_50": _noisy_crops(prior, pictures, count, 50 / 255),
    }
    trips = {
        name: _round_trip(prior, batch, tolerance) for name, batch in images.items()
    }
    hot = _samples(prior, count, temperature=1.5)
    finite = np.isfinite(hot).all(axis=(1, 2, 3))
    accurate = all(trip["max_error"] < tolerance for trip in trips.values())
    return {
        "count": count,
        "tolerance": tolerance,
        "round_trips": trips,
        "temperature_1.5": {
            "num_finite": int(finite.sum()),
            "max_pixel": float(np.max(np.abs(hot[finite]), initial=0)),
        },
        "passed": bool(accurate and finite.all()),
    }


def _samples(prior, count, temperature):
    batches = [
        prior.sample(min(BATCH_SIZE, count - first), temperature, seed=first)
        for first in range(0, count, BATCH_SIZE)
    ]
    return np.concatenate(batches)


def _noisy_crops(prior, pictures, count, noise_sigma):
    """Returns random crops of the size of the training, float32 [count, H, W, C]."""
    rng = np.random.default_rng(0)
    height, width, channels = prior.image_shape
    source = data.open_source(pictures, channels=channels)
    images = [data.to_float(image) for image in source.dataset().as_numpy_iterator()]
    crops = []
    for index in range(count):
        image = images[index % len(images)]
        top = rng.integers(image.shape[0] - height + 1)
        left = rng.integers(image.shape[1] - width + 1)
        crops.append(image[top : top + height, left : left + width])
    return np.float32(crops + noise_sigma * rng.standard_normal(np.shape(crops)))


def _round_trip(prior, images, tolerance):
    bijector = prior.distribution.bijector

    @tf.function(reduce_retracing=True)
    def round_trip(x):
        z = bijector.inverse(x)
        return z, bijector.forward(tf.identity(z))  # Bypasses the cache of TFP.

    errors, latents = [], []
    for first in range(0, len(images), BATCH_SIZE):
        x = images[first : first + BATCH_SIZE]
        z, result = round_trip(tf.constant(x))
        errors.append(np.abs(result - x).max(axis=(1, 2, 3)))
        latents.append(np.abs(z).max())
    errors = np.concatenate(errors)
    return {
        "max_error": float(errors.max()),
        "share_accurate": float(np.mean(errors < tolerance)),
        "median_error": float(
            np.median(errors)
        ),  # Of the largest errors of the images.
        "max_latent": float(max(latents)),
    }


def _main():
    tf.config.experimental.enable_tensor_float_32_execution(False)
    prior = inference.load_prior(FLAGS.prior)
    report = check(prior, FLAGS.pictures, FLAGS.count, FLAGS.tolerance)
    harness.save(report, FLAGS.output)
    sys.exit(0 if report["passed"] else 1)


if __name__ == "__main__":
    flags.DEFINE_string("prior", None, "Prior, a .keras file.", required=True)
    flags.DEFINE_string(
        "pictures", None, "Pictures: a folder, a glob or a file.", required=True
    )
    flags.DEFINE_integer("count", 1000, "Images of each kind.")
    flags.DEFINE_float("tolerance", 1e-4, "Upper bound of every round-trip error.")
    flags.DEFINE_string("output", None, "JSON file to write.")
    harness.run(_main)
