"""Writes the pictures of the protocol: pools, validation and test, with each noise.

    python tools/prepare_protocol.py --data DATA --output PICTURES

DATA holds `train400/`, `bsd68/`, `bsds400_color/`, `cbsd68/`, `polyu/` and `w2s/`.
`--parts` chooses some of `gray`, `color`, `real` and `microscope`. PICTURES gets these
gray pictures; the noisy ones are float32 TIFF, neither clipped nor quantized, with the
noise of `default_rng([seed, index])` for each picture:

    clean/                           train400 001-200
    validation_clean/  test_clean/   train400 381-400, and bsd68
    NOISE/noisy/                     train400 201-380 with noise, no references
    NOISE/validation_noisy/          of `gaussian`, of 25 (of 255)
    NOISE/test/                      of `gaussian`, test_15/, test_25/ and test_50/

for `gaussian` (in `noisy/` each picture has its own level, up to 50 of 255), `poisson`,
`heteroscedastic`, `correlated`, `stripes` and `impulses`. The folder `color/` has the
same of color pictures (bsds400_color and cbsd68), and the noise `paper` of Kattakinda
and Rajagopalan (2020): Gaussian noise whose sigma is uniform in (0, 0.2) for each
picture. These color pictures have camera noise:

    real/clean/                      the first 200 of bsds400_color
    real/validation_clean/           its last 20, for priors
    real/noisy/  real/references/    polyu, Canon5D2 and NikonD800
    real/test/  real/test_clean/     polyu, Canon600D

and these are gray fields of microscopes:

    microscope/clean/  microscope/noisy/             w2s, of other fields
    microscope/test/   microscope/test_clean/        w2s; each average with the gain and
                                                     offset that fit the noisy picture

The references serve only the comparison with true pairs.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import harness
import measure_general
import numpy as np
from absl import flags

data = harness.lazy("tfflowdn.data")
noises = harness.lazy("tfflowdn.noise")

FLAGS = flags.FLAGS
TEST_SEED, POOL_SEED, VALIDATION_SEED = 0, 1, 2
SYNTHETIC = (
    "gaussian",
    "poisson",
    "heteroscedastic",
    "correlated",
    "stripes",
    "impulses",
)
PARTS = ("gray", "color", "real", "microscope")
MAX_SIGMAS = {"gaussian": 50 / 255, "paper": 0.2}
GAUSSIAN_TESTS = {f"test_{sigma}": sigma / 255 for sigma in (15, 25, 50)}
TEST_CAMERA = "Canon600D"


def add_noise(
    image: np.ndarray, kind: str, rng: np.random.Generator, sigma: float | None = None
) -> np.ndarray:
    """Adds noise of the protocol; Gaussian noise without `sigma` has a random one."""
    if kind not in MAX_SIGMAS:
        return noises.add_noise(image, kind, rng)
    sigma = rng.uniform(0, MAX_SIGMAS[kind]) if sigma is None else sigma
    return noises.add_noise(image, "gaussian", rng, noise_sigma=sigma)


def test_sigmas(kind: str) -> dict[str, float | None]:
    """Returns the folders of the test pictures with the sigma of Gaussian noise."""
    return GAUSSIAN_TESTS if kind == "gaussian" else {"test": None}


def _write_noisy(paths, folder, seed, kind, sigma=None):
    folder.mkdir(parents=True, exist_ok=True)
    for index, path in enumerate(paths):
        image = data.to_float(data.read_image(path))
        noisy = add_noise(image, kind, np.random.default_rng([seed, index]), sigma)
        data.write_image(folder / f"{path.stem}.tif", noisy)


def _copy(paths, folder, ending=""):
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        shutil.copy(path, folder / f"{path.stem.removesuffix(ending)}{path.suffix}")


def _pictures(folder, suffix, count):
    paths = sorted(folder.glob(f"*{suffix}"))
    if len(paths) != count:
        raise ValueError(
            f"DATA must hold {count} pictures *{suffix} in {folder.name}/. "
            f"Received: {len(paths)}."
        )
    return paths


def _prepare_gray(source, output):
    pool = _pictures(source / "train400", ".png", 400)
    test = _pictures(source / "bsd68", ".png", 68)
    _prepare_synthetic(pool, test, output, SYNTHETIC)


def _prepare_color(source, output):
    pool = _pictures(source / "bsds400_color", ".jpg", 400)
    test = _pictures(source / "cbsd68", ".png", 68)
    _prepare_synthetic(pool, test, output / "color", (*SYNTHETIC, "paper"))


def _prepare_synthetic(pool, test, output, kinds):
    _copy(pool[:200], output / "clean")
    _copy(pool[380:], output / "validation_clean")
    _copy(test, output / "test_clean")
    for kind in kinds:
        folder, sigmas = output / kind, test_sigmas(kind)
        _write_noisy(pool[200:380], folder / "noisy", POOL_SEED, kind)
        for name, sigma in sigmas.items():
            _write_noisy(test, folder / name, TEST_SEED, kind, sigma)
        validation, sigma = folder / "validation_noisy", sigmas.get("test_25")
        _write_noisy(pool[380:], validation, VALIDATION_SEED, kind, sigma)


def _prepare_real(source, output):
    output = output / "real"
    clean = _pictures(source / "bsds400_color", ".jpg", 400)
    noisy = _pictures(source / "polyu", "_real.JPG", 73)
    mean = _pictures(source / "polyu", "_mean.JPG", 73)
    _copy(clean[:200], output / "clean")
    _copy(clean[380:], output / "validation_clean")
    for paths, ending, pool, test in (
        (noisy, "_real", "noisy", "test"),
        (mean, "_mean", "references", "test_clean"),
    ):
        is_test = [path.name.startswith(TEST_CAMERA) for path in paths]
        pairs = list(zip(paths, is_test, strict=True))
        _copy([path for path, t in pairs if not t], output / pool, ending)
        _copy([path for path, t in pairs if t], output / test, ending)


def _prepare_microscope(source, output):
    source, output = source / "w2s", output / "microscope"
    for pool in ("clean", "noisy"):
        _copy(sorted((source / pool).glob("*.png")), output / pool)
    noisy = sorted((source / "test_noisy").glob("*.png"))
    _copy(noisy, output / "test")
    (output / "test_clean").mkdir(parents=True, exist_ok=True)
    pairs = measure_general.microscope_pairs(source)
    for path, (_, truth) in zip(noisy, pairs, strict=True):
        data.write_image(output / "test_clean" / f"{path.stem}.tif", truth)


def _main():
    prepare = {
        "gray": _prepare_gray,
        "color": _prepare_color,
        "real": _prepare_real,
        "microscope": _prepare_microscope,
    }
    for part in FLAGS.parts:
        prepare[part](Path(FLAGS.data), Path(FLAGS.output))


if __name__ == "__main__":
    flags.DEFINE_string("data", None, "Folder of the data.", required=True)
    flags.DEFINE_string("output", None, "Folder to write.", required=True)
    flags.DEFINE_multi_enum("parts", PARTS, PARTS, "Parts; may be repeated.")
    harness.run(_main)
