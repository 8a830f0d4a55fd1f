"""Simulates a time-lapse stack of a microscope's 12-bit camera, and scores results.

    python tools/simulate_timelapse.py --output STACK
    adapt STACK/noisy.tif --output STACK/adapted --minutes 15
    denoise STACK/noisy.tif --range 105,631 --output STACK/started
    python tools/simulate_timelapse.py --output STACK --record RESULTS.json

STACK gets noisy.tif, one file of 24 pages of 16 bits, and clean.tif. A field of a
photograph of the package (gb82, CC0) moves and bleaches. The camera adds the noise of
photons (`GAIN` counts each), read-out noise and an offset. The last call scores the
stack, STACK/started (the starting model) and STACK/adapted: the PSNR for a data range
of 900 counts, the brightest place.
"""

from __future__ import annotations

from pathlib import Path

import harness
import numpy as np
from absl import flags
from PIL import Image

data = harness.lazy("tfflowdn.data")
metrics = harness.lazy("tfflowdn.metrics")
tifffile = harness.lazy("tifffile")

FLAGS = flags.FLAGS
PHOTOGRAPH = "grass"
FRAMES, SIDE, STEP = 24, 224, 3  # The field moves by STEP pixels a frame.
PEAK, BLEACHING = 900.0, 0.03  # Counts above the offset, and their loss a frame.
GAIN, READ_NOISE, OFFSET = 4.0, 8.0, 100.0  # Counts.
LARGEST = 4095
SEED = 0


def clean_stack() -> np.ndarray:
    """Returns the counts without noise, float64 [frames, H, W]."""
    (path,) = (p for p in data.photographs() if p.stem == PHOTOGRAPH)
    with Image.open(path) as image:
        field = np.asarray(image.convert("L"), np.float64) / 255
    frames = []
    for index in range(FRAMES):
        start = index * STEP
        crop = field[start : start + SIDE, start : start + SIDE]
        frames.append(OFFSET + PEAK * (1 - BLEACHING) ** index * crop**2)
    return np.stack(frames)


def with_noise(clean: np.ndarray) -> np.ndarray:
    """Returns the counts that the camera stores, uint16."""
    rng = np.random.default_rng(SEED)
    photons = rng.poisson((clean - OFFSET) / GAIN)
    counts = OFFSET + GAIN * photons + READ_NOISE * rng.normal(size=clean.shape)
    return np.uint16(np.clip(np.rint(counts), 0, LARGEST))


def write(folder: Path) -> None:
    """Writes the two stacks."""
    folder.mkdir(parents=True, exist_ok=True)
    clean = clean_stack()
    options = {"photometric": "minisblack", "compression": "zlib"}
    tifffile.imwrite(folder / "clean.tif", np.uint16(np.rint(clean)), **options)
    tifffile.imwrite(folder / "noisy.tif", with_noise(clean), **options)


def score(folder: Path) -> dict[str, float]:
    """Returns the mean PSNR of the frames of each stack that exists, in dB."""
    clean = clean_stack()[..., np.newaxis]
    stacks = {
        "noisy": folder / "noisy.tif",
        "starting model": folder / "started/noisy.tif",
        "adapted": folder / "adapted/noisy.tif",
    }
    return {
        name: _psnr(clean, tifffile.imread(path))
        for name, path in stacks.items()
        if path.exists()
    }


def _psnr(clean: np.ndarray, stack: np.ndarray) -> float:
    stack = np.float64(stack)[..., np.newaxis]
    return float(np.mean(metrics.psnr(clean, stack, data_range=PEAK)))


def main() -> None:
    """Writes the stacks, or scores results."""
    folder = Path(FLAGS.output)
    if FLAGS.record:
        harness.save({"psnr": score(folder), "frames": FRAMES}, FLAGS.record)
    else:
        write(folder)


if __name__ == "__main__":
    flags.DEFINE_string("output", None, "Folder of the stacks.", required=True)
    flags.DEFINE_string("record", None, "JSON file for the scores.")
    harness.run(main)
