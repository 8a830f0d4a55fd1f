"""Scores a general denoiser on the test pictures of the protocol.

    python tools/measure_general.py --data DATA --model denoiser_gray \
        --output tools/results/general/denoiser_gray.json

DATA holds bsd68/, cbsd68/, w2s/, polyu/ and gb82/; a set that is absent is left out. A
model for gray pictures is scored on BSD68 and on the 21 pairs of real microscopy, a
model for color on CBSD68, on the JPEG files of the Canon 600D and on the clean pictures
of gb82. The noises are `NOISES`; `clean` compares a clean picture with itself. The
model knows neither the kind nor the level of the noise. The noise of a picture
depends on its number only. Each set is a test set: choose a model on other pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness
import numpy as np
from absl import flags

data = harness.lazy("tfflowdn.data")
inference = harness.lazy("tfflowdn.inference")
noise = harness.lazy("tfflowdn.noise")

FLAGS = flags.FLAGS
SETS = {1: "bsd68", 3: "cbsd68"}
NOISES: dict[str, tuple[str, dict[str, float]] | None] = {
    "5": ("gaussian", {"noise_sigma": 5 / 255}),
    "15": ("gaussian", {"noise_sigma": 15 / 255}),
    "25": ("gaussian", {"noise_sigma": 25 / 255}),
    "50": ("gaussian", {"noise_sigma": 50 / 255}),
    "correlated": ("correlated", {}),
    "stripes": ("stripes", {}),
    "impulses": ("impulses", {}),
    "clean": None,
}
TEST_CAMERA = "Canon600D"


Pairs = Iterator[tuple[np.ndarray, np.ndarray]]


def pictures(folder: Path, pattern: str = "*") -> Iterator[np.ndarray]:
    """Yields the pictures of a folder by name, float32 [H, W, C] in [0, 1]."""
    for path in sorted(folder.glob(pattern)):
        yield data.to_float(data.read_image(path))


def synthetic_pairs(folder: Path, kind: str) -> Pairs:
    """Yields (noisy, clean) pictures of a folder with a noise of `NOISES`."""
    for index, clean in enumerate(pictures(folder)):
        if NOISES[kind] is None:
            yield clean, clean
            continue
        name, params = NOISES[kind]
        rng = np.random.default_rng([0, index])
        yield noise.add_noise(clean, name, rng, **params), clean


def microscope_pairs(folder: Path) -> Pairs:
    """Yields (noisy, truth) of w2s.

    Each file was stretched to 8 bits separately, so the truth is the average of 400
    exposures after a least-squares fit of gain and offset to the noisy picture.
    """
    sides = (folder / "test_noisy", folder / "test_average")
    for noisy, average in zip(*map(pictures, sides), strict=True):
        gain, offset = np.polyfit(average.ravel(), noisy.ravel(), 1)
        yield noisy, np.float32(gain * average + offset)


def camera_pairs(folder: Path) -> Pairs:
    """Yields (noisy, mean of many exposures) of the pictures of the test camera."""
    sides = (f"{TEST_CAMERA}*_real.JPG", f"{TEST_CAMERA}*_mean.JPG")
    yield from zip(*(pictures(folder, side) for side in sides), strict=True)


def test_sets(root: Path, channels: int) -> dict[str, Pairs]:
    """Returns the pairs of every test set at `root` for a number of channels."""
    folder = root / SETS[channels]
    sets = {}
    if folder.is_dir():
        sets = {f"{folder.name}_{k}": synthetic_pairs(folder, k) for k in NOISES}
    if channels == 1 and (root / "w2s").is_dir():
        sets["w2s"] = microscope_pairs(root / "w2s")
    if channels == 3 and (root / "polyu").is_dir():
        sets["polyu_canon600d"] = camera_pairs(root / "polyu")
    if channels == 3 and (root / "gb82").is_dir():
        sets["gb82_clean"] = synthetic_pairs(root / "gb82", "clean")
    return sets


def _summary(pairs, denoiser) -> dict[str, float]:
    rows = inference.score_pairs(pairs, lambda picture: denoiser(picture))
    finite = [{k: v for k, v in row.items() if np.isfinite(v)} for row in rows]
    names = [name for name in rows[0] if all(name in row for row in finite)]
    means = {name: float(np.mean([row[name] for row in rows])) for name in names}
    return {**means, "worst_psnr": min(row["psnr"] for row in rows)}


def measure(root: Path, model: str) -> dict[str, Any]:
    """Returns the scores of a denoiser by set and noise."""
    denoiser = inference.Denoiser.from_pretrained(model)
    sets = test_sets(root, denoiser.channels)
    return {name: _summary(pairs, denoiser) for name, pairs in sets.items()}


def _main() -> None:
    results = measure(Path(FLAGS.data), FLAGS.model)
    columns = ("noisy_psnr", "psnr", "ssim", "worst_psnr")
    harness.print_table(
        ("set and noise", *columns),
        [(name, *(row.get(c) for c in columns)) for name, row in results.items()],
    )
    harness.save({"model": FLAGS.model, "results": results}, FLAGS.output)


if __name__ == "__main__":
    flags.DEFINE_string("data", None, "Folder of the test sets.", required=True)
    flags.DEFINE_string("model", None, "Name or file of a denoiser.", required=True)
    flags.DEFINE_string("output", None, "JSON file to write; none by default.")
    harness.run(_main)
