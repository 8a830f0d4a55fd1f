"""Lays out the protocol's gray pictures: pools, validation and test, with noise.

    python tools/prepare_protocol.py --data DATA --output PICTURES --sigma 25

DATA holds `train400/` and `bsd68/`. PICTURES gets, noise being Gaussian, float32 TIFF,
neither clipped nor quantised, drawn by `default_rng([seed, index])` for each picture:

    clean/                       train400 001-200
    noisy/                       train400 201-380 with noise, no references
    validation_{clean,noisy}/    train400 381-400
    test_{clean,noisy}/          bsd68
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from absl import app, flags

from tfflowdn import data

FLAGS = flags.FLAGS
TEST_SEED, POOL_SEED, VALIDATION_SEED = 0, 1, 2


def _add_noise(paths, folder, noise_sigma, seed):
    folder.mkdir(parents=True, exist_ok=True)
    for index, path in enumerate(paths):
        image = data.to_float(data.read_image(path))
        rng = np.random.default_rng([seed, index])
        noisy = data.add_noise(image, "gaussian", rng, noise_sigma=noise_sigma)
        data.write_image(folder / f"{path.stem}.tif", noisy)


def _copy(paths, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        shutil.copy(path, folder)


def _main(argv):
    del argv
    source, output = Path(FLAGS.data), Path(FLAGS.output)
    sigma = FLAGS.sigma / 255
    pool = sorted((source / "train400").glob("*.png"))
    test = sorted((source / "bsd68").glob("*.png"))
    if len(pool) != 400 or len(test) != 68:
        raise ValueError(
            "DATA must hold 400 pictures in train400/ and 68 in bsd68/. "
            f"Received: {len(pool)} and {len(test)}."
        )
    _copy(pool[:200], output / "clean")
    _add_noise(pool[200:380], output / "noisy", sigma, POOL_SEED)
    _copy(pool[380:], output / "validation_clean")
    _add_noise(pool[380:], output / "validation_noisy", sigma, VALIDATION_SEED)
    _copy(test, output / "test_clean")
    _add_noise(test, output / "test_noisy", sigma, TEST_SEED)


if __name__ == "__main__":
    flags.DEFINE_string("data", None, "Folder with train400/ and bsd68/.")
    flags.DEFINE_string("output", None, "Folder to write.")
    flags.DEFINE_float("sigma", 25, "Standard deviation of the noise, 0-255 scale.")
    flags.mark_flags_as_required(["data", "output"])
    app.run(_main)
