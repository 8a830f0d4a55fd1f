"""Scores BM3D (CBM3D in color) on one noise of the protocol.

    pip install bm3d   # Its license permits research only; tfflowdn does not need it.
    python tools/peers/bm3d_quality.py --pictures PICTURES --noise correlated

BM3D gets the standard deviation of the noise, for each picture its own where the noise
depends on the signal; our methods do not get it. For `real` it gets the value of
`SIGMAS` that is best on the middle of these pictures: the search climbs from the middle
value while the mean PSNR rises. PICTURES come from tools/prepare_protocol.py.
"""

from __future__ import annotations

import functools
import multiprocessing
import sys
from pathlib import Path

import numpy as np
from absl import flags, logging

sys.path.append(str(Path(__file__).resolve().parent.parent))
import harness  # noqa: E402
import measure_quality  # noqa: E402

bm3d = harness.lazy("bm3d")
data = harness.lazy("tfflowdn.data")
inference = harness.lazy("tfflowdn.inference")

FLAGS = flags.FLAGS
SIDE = 128  # Pixels of the middle.
SIGMAS = tuple(sigma / 255 for sigma in (4, 6, 8, 10, 12, 15, 20, 25))


def _read(path, side):
    image = data.to_float(data.read_image(path))
    if side is None:
        return image
    top, left = ((size - side) // 2 for size in image.shape[:2])
    return image[top : top + side, left : left + side]


def _denoise(job):
    """Returns the scores of one picture; sigma None is the true one."""
    *paths, sigma, side = job
    noisy, clean = (_read(path, side) for path in paths)
    sigma = sigma or float(np.std(noisy - clean))
    color = noisy.shape[-1] == 3
    result = bm3d.bm3d_rgb(noisy, sigma) if color else bm3d.bm3d(noisy[..., 0], sigma)
    denoised = np.float32(result.reshape(noisy.shape))
    (row,) = inference.score_pairs([(noisy, clean)], lambda _: denoised)
    return row


def _mean(pool, noisy, clean, sigma=None, side=None):
    pairs = zip(sorted(noisy.iterdir()), sorted(clean.iterdir()), strict=True)
    jobs = [(*pair, sigma, side) for pair in pairs]
    if any(one.stem != other.stem for one, other, *_ in jobs):
        raise ValueError(f"{noisy.name} and {clean.name} must hold the same names.")
    return inference.summarize(pool.map(_denoise, jobs, chunksize=1))


def _best_sigma(mean_of):
    """Returns the best of `SIGMAS`; PSNR is assumed to have one maximum."""
    psnrs = {}

    def psnr(index):
        sigma = SIGMAS[index]
        if sigma not in psnrs:
            psnrs[sigma] = mean_of(sigma=sigma, side=SIDE)["psnr"]
            logging.info("sigma %.0f: %.3f dB", 255 * sigma, psnrs[sigma])
        return psnrs[sigma]

    best = len(SIGMAS) // 2
    while True:
        around = range(max(best - 1, 0), min(best + 2, len(SIGMAS)))
        highest = max(around, key=psnr)
        if highest == best:
            return SIGMAS[best]
        best = highest


def _main():
    paths = Path(FLAGS.pictures), Path()
    protocol = measure_quality.Protocol(*paths, FLAGS.noise, "float32")
    scores = {}
    with multiprocessing.get_context("spawn").Pool(FLAGS.processes) as pool:
        for name, folder in protocol.test.items():
            mean = functools.partial(_mean, pool, folder, protocol.test_clean)
            sigma = _best_sigma(mean) if FLAGS.noise == "real" else None
            scores[name] = mean(sigma=sigma)
            if sigma:
                scores[name]["sigma"] = 255 * sigma
    measure_quality.publish(FLAGS.noise, "bm3d", scores, FLAGS.output)


if __name__ == "__main__":
    flags.DEFINE_string("pictures", None, "Folder of the pictures.", required=True)
    flags.DEFINE_enum("noise", None, measure_quality.NOISES, "Noise.", required=True)
    flags.DEFINE_integer("processes", 2, "Pictures at once.")
    flags.DEFINE_string("output", None, "Folder of scores to add to.")
    harness.run(_main)
