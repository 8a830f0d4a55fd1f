"""Scores BM3D (CBM3D in colour) on one noise of the protocol, beside ours.

    pip install bm3d   # Its licence is for research: no dependency of tfflowdn.
    python tools/peers/bm3d_quality.py --pictures PICTURES --noise correlated

It is told what our methods are not: the standard deviation of the noise, the picture's
own where it depends on the signal. For `real` it gets that one of `SIGMAS` which is
best on the middle of these very pictures: the search climbs from the middle one while
the mean PSNR rises. PICTURES are those of tools/prepare_protocol.py.
"""

from __future__ import annotations

import functools
import multiprocessing
import sys
from pathlib import Path

import bm3d
import numpy as np
from absl import app, flags, logging

from tfflowdn import data, inference

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import measure_quality  # noqa: E402

FLAGS = flags.FLAGS
SIDE = 128  # Pixels, of the middle.
SIGMAS = tuple(sigma / 255 for sigma in (4, 6, 8, 10, 12, 15, 20, 25))


def _read(path, side):
    image = data.to_float(data.read_image(path))
    if side is None:
        return image
    top, left = ((size - side) // 2 for size in image.shape[:2])
    return image[top : top + side, left : left + side]


def _denoise(job):
    """Returns the scores of one picture, denoised with a sigma or the true one."""
    *paths, sigma, side = job
    noisy, clean = (_read(path, side) for path in paths)
    sigma = sigma or float(np.std(noisy - clean))
    colour = noisy.shape[-1] == 3
    result = bm3d.bm3d_rgb(noisy, sigma) if colour else bm3d.bm3d(noisy[..., 0], sigma)
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
    """Returns the best of `SIGMAS`, among which PSNR is taken to have one maximum."""
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


def _main(argv):
    del argv
    protocol = measure_quality.Protocol(
        Path(FLAGS.pictures), Path(), FLAGS.noise, "float32"
    )
    scores = {}
    with multiprocessing.get_context("spawn").Pool(FLAGS.processes) as pool:
        for name, folder in protocol.test.items():
            mean = functools.partial(_mean, pool, folder, protocol.test_clean)
            sigma = _best_sigma(mean) if FLAGS.noise == "real" else None
            scores[name] = mean(sigma=sigma)
            if sigma:
                scores[name]["sigma"] = 255 * sigma
    measure_quality.publish(FLAGS.noise, "bm3d", scores, Path(FLAGS.output))


if __name__ == "__main__":
    flags.DEFINE_string("pictures", None, "Folder of the pictures.", required=True)
    flags.DEFINE_enum("noise", None, measure_quality.NOISES, "Noise.", required=True)
    flags.DEFINE_integer("processes", 2, "Pictures at once.")
    flags.DEFINE_string("output", str(measure_quality.RESULTS), "Folder of scores.")
    app.run(_main)
