"""Compares the estimates without references with the truth, on the protocol's noises.

    python tools/validate_no_reference.py --data DATA --noise poisson --output RESULTS

DATA holds `train400/`, `bsd68/` and for `microscope` `w2s/`. The noise is learned as
`adapt` does it: from the residuals of the model on noisy pictures of train400 and its
clean pictures. Then the PSNR of denoised test pictures is estimated, and compared with
the true one. RESULTS gets NOISE.json: for each picture the estimate and the truth, and
their correlation, the mean difference and the root mean square difference.
"""

from __future__ import annotations

import json
from pathlib import Path

import harness
import numpy as np
from absl import flags, logging

data = harness.lazy("tfflowdn.data")
inference = harness.lazy("tfflowdn.inference")
noises = harness.lazy("tfflowdn.noise")
tfflowdn = harness.lazy("tfflowdn")

FLAGS = flags.FLAGS
NOISES = {
    "gaussian_15": ("gaussian", {"noise_sigma": 15 / 255}),
    "gaussian_25": ("gaussian", {"noise_sigma": 25 / 255}),
    "gaussian_50": ("gaussian", {"noise_sigma": 50 / 255}),
    "poisson": ("poisson", {}),
    "heteroscedastic": ("heteroscedastic", {}),
    "correlated": ("correlated", {}),
    "stripes": ("stripes", {}),
    "impulses": ("impulses", {}),
    "microscope": ("", {}),
}


def main() -> None:
    """Runs the tool."""
    folder = Path(FLAGS.data)
    denoiser = tfflowdn.Denoiser.from_pretrained(FLAGS.model)

    def denoise(picture: np.ndarray) -> np.ndarray:
        return denoiser(np.float32(picture), pixel_range="dtype")

    noisy, clean, tests = _pools(folder)
    logging.info("Learning the noise of %d pictures", len(noisy))
    model = noises.estimate_noise(denoise, noisy, clean, num_steps=FLAGS.noise_steps)
    pictures = [picture for _, picture, _ in tests]
    rows = inference.score_without_references(denoise, pictures, model)
    result = {
        "model": FLAGS.model,
        "pictures": {
            name: {
                "estimate": row["psnr"],
                "spread": row["psnr_spread"],
                "truth": _psnr(denoise(picture), truth),
                "noisy_estimate": row["noisy_psnr"],
                "noisy_truth": _psnr(picture, truth),
            }
            for row, (name, picture, truth) in zip(rows, tests, strict=True)
        },
    }
    result |= _summary(list(result["pictures"].values()))
    print(json.dumps({k: v for k, v in result.items() if k != "pictures"}, indent=1))
    if FLAGS.output:
        path = Path(FLAGS.output) / f"{FLAGS.noise}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


def _pools(folder: Path) -> tuple[list, list, list]:
    """Returns noisy pictures, clean ones, and (name, noisy, truth) of the tests."""
    if FLAGS.noise == "microscope":
        return _microscope(folder / "w2s")
    train = _read(folder / "train400")
    names = list(train)
    noisy = [
        _with_noise(train[name], index)
        for index, name in list(enumerate(names))[200:380][:: FLAGS.stride]
    ]
    clean = [train[name] for name in names[:200][:: FLAGS.stride]]
    tests = [
        (name, _with_noise(picture, index), picture)
        for index, (name, picture) in enumerate(_read(folder / "bsd68").items())
    ]
    return noisy, clean, tests[:: FLAGS.test_stride]


def _microscope(folder: Path) -> tuple[list, list, list]:
    """Returns w2s; the truth is fitted to the noisy picture as its page says."""
    noisy, clean = (list(_read(folder / name).values()) for name in ("noisy", "clean"))
    averages = _read(folder / "test_average")
    tests = []
    for name, picture in list(_read(folder / "test_noisy").items())[:: FLAGS.stride]:
        average = averages[name].ravel().astype(np.float64)
        slope, offset = np.polyfit(average, picture.ravel(), 1)
        tests.append((name, picture, slope * averages[name] + offset))
    middles = [
        [inference.middle(picture, 256) for picture in pool[:: FLAGS.stride]]
        for pool in (noisy, clean)
    ]
    return *middles, tests


def _read(folder: Path) -> dict[str, np.ndarray]:
    paths = sorted(path for path in folder.iterdir() if path.suffix != ".md")
    return {path.stem: data.to_float(data.read_image(path)) for path in paths}


def _with_noise(picture: np.ndarray, index: int) -> np.ndarray:
    kind, options = NOISES[FLAGS.noise]
    rng = np.random.default_rng([0, index])
    return np.float32(noises.add_noise(picture, kind, rng, **options))


def _psnr(picture: np.ndarray, truth: np.ndarray) -> float:
    error = np.clip(picture, 0, 1) - np.clip(truth, 0, 1)
    return float(-10 * np.log10(np.mean(error**2)))


def _summary(rows: list[dict[str, float]]) -> dict[str, float]:
    estimate, truth = (
        np.array([row[k] for row in rows]) for k in ("estimate", "truth")
    )
    difference = estimate - truth
    return {
        "mean_estimate": float(estimate.mean()),
        "mean_truth": float(truth.mean()),
        "difference": float(difference.mean()),
        "rms": float(np.sqrt(np.mean(difference**2))),
        "correlation": float(np.corrcoef(estimate, truth)[0, 1]),
    }


if __name__ == "__main__":
    flags.DEFINE_string("data", None, "Folder of the pictures.", required=True)
    flags.DEFINE_enum("noise", None, list(NOISES), "The noise.", required=True)
    flags.DEFINE_string("model", "denoiser_gray", "The denoiser.")
    flags.DEFINE_string("output", None, "Folder for the results.")
    flags.DEFINE_integer("stride", 6, "Uses every n-th picture to learn the noise.", 1)
    flags.DEFINE_integer("test_stride", 3, "Uses every n-th test picture.", 1)
    flags.DEFINE_integer("noise_steps", 200, "Steps of a fit of the noise.", 1)
    harness.run(main)
