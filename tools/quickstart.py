"""Adapts a denoiser to noisy photographs, and denoises a held-out one.

    python tools/quickstart.py

takes the photographs in the wheel of scikit-image, as gray pictures. Some of them get
noise that neighboring pixels share (sigma 25 of 255). `adapt` learns this noise,
adapts `denoiser_gray` to it with other, clean photographs, and denoises the noisy ones.
Neither the noise nor the held-out picture is known to it. quickstart/ gets the
pictures, the results, the run with its report, and comparison.png: the held-out picture
noisy | by denoiser_gray | adapted | clean. About 2.5 minutes on 2 idle cores.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import harness
import numpy as np
from absl import flags

data = harness.lazy("tfflowdn.data")
image = harness.lazy("PIL.Image")
inference = harness.lazy("tfflowdn.inference")
noise = harness.lazy("tfflowdn.noise")
skimage = harness.lazy("skimage")

FLAGS = flags.FLAGS
PHOTOGRAPHS = {
    "clean": (
        "astronaut.png",
        "chelsea.png",
        "motorcycle_left.png",
        "motorcycle_right.png",
        "brick.png",
        "grass.png",
    ),
    "validation": ("moon.png",),
    "noisy": ("coffee.png", "rocket.jpg", "coins.png", "gravel.png"),
    "held_out": ("camera.png",),
}
SHOWN = (slice(60, 316), slice(128, 384))
START = "denoiser_gray"
DONE = (0, 3)  # 3: the starting model was better.


def _photograph(name: str) -> np.ndarray:
    """Returns a photograph in the wheel of scikit-image, gray uint8 [H, W, 1]."""
    path = Path(skimage.__file__).parent / "data" / name
    return np.asarray(image.open(path).convert("L"))[..., np.newaxis]


def _add_noise(picture: np.ndarray, index: int) -> np.ndarray:
    rng = np.random.default_rng([0, index])
    noisy = noise.add_noise(data.to_float(picture), "correlated", rng)
    return data.from_float(noisy, np.uint8)


def _write_pictures(folder: Path) -> None:
    for pool, names in PHOTOGRAPHS.items():
        (folder / pool).mkdir(parents=True, exist_ok=True)
        for index, name in enumerate(names):
            picture = _photograph(name)
            if pool == "noisy":
                picture = _add_noise(picture, index)
            data.write_image(folder / pool / f"{Path(name).stem}.png", picture)


def _adapt(folder: Path) -> Path:
    """Runs the command, and returns the path of its denoiser."""
    output, workdir = folder / "denoised", folder / "run"
    command = ["-m", "tfflowdn.scripts.adapt", folder / "noisy", "--overwrite"]
    command += ["--output", output, "--workdir", workdir, "--clean", folder / "clean"]
    command += ["--minutes", f"{FLAGS.minutes:g}"]
    code = subprocess.run([sys.executable, *map(str, command)], check=False).returncode
    if code not in DONE:
        sys.exit(code)
    return workdir / "denoiser.keras"


def _main() -> None:
    began, folder = time.monotonic(), Path(FLAGS.output)
    _write_pictures(folder)
    models = {START: START, "adapted": str(_adapt(folder))}
    (name,) = PHOTOGRAPHS["held_out"]
    clean = _photograph(name)
    results = {"noisy": _add_noise(clean, len(PHOTOGRAPHS["noisy"]))}
    for title, model in models.items():
        results[title] = inference.denoise(results["noisy"], model)
    pairs = [(data.to_float(p), data.to_float(clean)) for p in results.values()]
    scores = inference.score_pairs(pairs, lambda picture: picture)
    shown = np.concatenate([p[SHOWN] for p in (*results.values(), clean)], axis=1)
    data.write_image(folder / "comparison.png", shown)
    print(f"{name}, never seen:")
    for title, row in zip(results, scores, strict=True):
        print(f"  {title}: PSNR {row['psnr']:.2f} dB, SSIM {row['ssim']:.3f}")
    print(
        f"{folder / 'comparison.png'} shows {' | '.join([*results, 'clean'])}. "
        f"{(time.monotonic() - began) / 60:.1f} minutes."
    )


if __name__ == "__main__":
    flags.DEFINE_string("output", "quickstart", "Folder to write.")
    flags.DEFINE_float("minutes", 2.0, "Time for `adapt`, in minutes.")
    harness.run(_main)
