"""Trains a prior and a denoiser on photographs, and denoises a held-out one.

    python tools/quickstart.py

takes the photographs in the wheel of scikit-image, as gray pictures. A small Glow
learns a prior from clean pictures. A denoiser starts on the clean pictures with generic
noise and continues under the prior on other, noisy pictures (sigma 25 of 255). No
training sees the held-out picture. quickstart/ gets the pictures, the models and
comparison.png, noisy | denoised | clean. About 2 minutes on 2 cores.
"""

from __future__ import annotations

import time
from pathlib import Path

import harness
import numpy as np
from absl import flags

data = harness.lazy("tfflowdn.data")
devices = harness.lazy("tfflowdn.devices")
image = harness.lazy("PIL.Image")
inference = harness.lazy("tfflowdn.inference")
noise = harness.lazy("tfflowdn.noise")
skimage = harness.lazy("skimage")
stages = harness.lazy("tfflowdn.stages")

FLAGS = flags.FLAGS
CLEAN = (
    "astronaut.png",
    "chelsea.png",
    "motorcycle_left.png",
    "brick.png",
    "grass.png",
)
VALIDATION = ("moon.png",)
NOISY = ("coffee.png", "rocket.jpg", "coins.png", "gravel.png")
HELD_OUT = "camera.png"
NOISE_SIGMA = 25 / 255


def _photograph(name):
    """Returns a photograph in the wheel of scikit-image, gray uint8 [H, W, 1]."""
    path = Path(skimage.__file__).parent / "data" / name
    return np.asarray(image.open(path).convert("L"))[..., np.newaxis]


def _add_noise(picture, index):
    rng = np.random.default_rng([0, index])
    return noise.add_noise(
        data.to_float(picture), "gaussian", rng, noise_sigma=NOISE_SIGMA
    )


def _write_pictures(folder):
    for pool, names in (("clean", CLEAN), ("validation", VALIDATION), ("noisy", NOISY)):
        (folder / pool).mkdir(parents=True, exist_ok=True)
        for index, name in enumerate(names):
            picture = _photograph(name)
            if pool == "noisy":
                picture = _add_noise(picture, index)
            data.write_image(folder / pool / f"{Path(name).stem}.tif", picture)


def _train(folder, num_shards):
    prior = harness.config("prior_glow", "quickstart")
    prior.clean.spec = str(folder / "clean")
    prior.validation.spec = str(folder / "validation")
    denoiser = harness.config("denoiser_resnet", "quickstart")
    denoiser.prior = str(
        stages.train_prior(prior, folder / "prior", num_shards=num_shards)
    )
    denoiser.clean.spec = str(folder / "clean")
    denoiser.noisy.spec = str(folder / "noisy")
    return stages.train_denoiser(denoiser, folder / "denoiser", num_shards=num_shards)


def _main():
    start, folder = time.monotonic(), Path(FLAGS.output)
    _write_pictures(folder)
    model = _train(folder, devices.share_cores())
    clean = data.to_float(_photograph(HELD_OUT))
    noisy = _add_noise(_photograph(HELD_OUT), len(NOISY))
    denoised = inference.denoise(noisy, model)
    row = inference.score_pairs([(noisy, clean)], lambda _: denoised)[0]
    middle = (slice(60, 316), slice(128, 384))
    shown = np.concatenate([p[middle] for p in (noisy, denoised, clean)], axis=1)
    data.write_image(folder / "comparison.png", data.from_float(shown, np.uint8))
    print(
        f"{HELD_OUT}, never seen: PSNR {row['noisy_psnr']:.2f} dB noisy, "
        f"{row['psnr']:.2f} dB denoised (SSIM {row['noisy_ssim']:.3f}, "
        f"{row['ssim']:.3f}). {folder / 'comparison.png'} shows noisy | denoised | "
        f"clean. {(time.monotonic() - start) / 60:.1f} minutes."
    )


if __name__ == "__main__":
    flags.DEFINE_string("output", "quickstart", "Folder to write.")
    harness.run(_main)
