"""Measures how many errors lie within the predicted standard deviations.

    python tools/measure_uncertainty.py --data DATA --model denoiser_gray \
        --output tools/results/uncertainty/denoiser_gray.json

DATA holds bsd68/ or cbsd68/. For each noise of the protocol, `within_1` and `within_2`
are the shares of the values whose error is at most one and two standard deviations of
`Denoiser(..., return_std=True)`, in the mean over the pictures. 0.683 and 0.954 are
right. `time_ratio` is the time with standard deviations over the time without, in
alternating turns. The model is told neither the kind nor the level of the noise.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import harness
import measure_general
import numpy as np
from absl import flags

inference = harness.lazy("tfflowdn.inference")
noises = harness.lazy("tfflowdn.noise")

FLAGS = flags.FLAGS
NOISES: dict[str, tuple[str, dict[str, float]]] = {
    "15": ("gaussian", {"noise_sigma": 15 / 255}),
    "25": ("gaussian", {"noise_sigma": 25 / 255}),
    "50": ("gaussian", {"noise_sigma": 50 / 255}),
    "poisson": ("poisson", {}),
    "heteroscedastic": ("heteroscedastic", {}),
    "correlated": ("correlated", {}),
    "stripes": ("stripes", {}),
    "impulses": ("impulses", {}),
}
TURNS = 7
SIDE = 512


def coverage(denoiser: Any, folder: Path, kind: str) -> dict[str, float]:
    """Returns the shares within one and two standard deviations for a noise."""
    name, params = NOISES[kind]
    shares = []
    for index, clean in enumerate(measure_general.pictures(folder)):
        rng = np.random.default_rng([0, index])
        noisy = noises.add_noise(clean, name, rng, **params)
        denoised, std = denoiser(noisy, pixel_range="dtype", return_std=True)
        error = np.abs(denoised - clean)
        shares.append([np.mean(error <= std), np.mean(error <= 2 * std)])
    within = np.mean(shares, axis=0)
    return {"within_1": float(within[0]), "within_2": float(within[1])}


def time_ratio(denoiser: Any) -> float:
    """Returns the ratio of the times with and without standard deviations."""
    rng = np.random.default_rng(0)
    picture = rng.random((SIDE, SIDE, denoiser.channels), np.float32)
    ratios = []
    for turn in range(TURNS + 1):
        seconds = []
        for with_std in (False, True):
            began = time.perf_counter()
            denoiser(picture, pixel_range="dtype", return_std=with_std)
            seconds.append(time.perf_counter() - began)
        if turn:  # The first turn traces.
            ratios.append(seconds[1] / seconds[0])
    return statistics.median(ratios)


def _main() -> None:
    denoiser = inference.Denoiser.from_pretrained(FLAGS.model)
    folder = Path(FLAGS.data, measure_general.SETS[denoiser.channels])
    results = {kind: coverage(denoiser, folder, kind) for kind in NOISES}
    harness.print_table(
        ("noise", "within 1", "within 2"),
        [(kind, row["within_1"], row["within_2"]) for kind, row in results.items()],
    )
    ratio = time_ratio(denoiser)
    print(f"time_ratio {ratio:.2f}")
    result = {"model": FLAGS.model, "results": results, "time_ratio": ratio}
    harness.save(result, FLAGS.output)


if __name__ == "__main__":
    flags.DEFINE_string("data", None, "Folder of the test sets.", required=True)
    flags.DEFINE_string("model", None, "Name or file of a denoiser.", required=True)
    flags.DEFINE_string("output", None, "JSON file to write; none by default.")
    harness.run(_main)
