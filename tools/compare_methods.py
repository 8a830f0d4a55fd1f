"""The methods of tools/compare.py.

A method is made for one test. It may train, and gives a function that denoises a
picture, given the picture and the standard deviation of its noise.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import numpy as np

data = harness.lazy("tfflowdn.data")
inference = harness.lazy("tfflowdn.inference")
bm3d = harness.lazy("bm3d")
restoration = harness.lazy("skimage.restoration")
stages = harness.lazy("tfflowdn.stages")

__all__ = ["METHODS", "Method", "Task", "training_minutes"]

Denoise = Callable[[np.ndarray, float], np.ndarray]
SIGMAS = tuple(sigma / 255 for sigma in (4, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60))
SIDE = 128  # Pixels of the middle, for the choice of sigma.


@dataclasses.dataclass(frozen=True)
class Task:
    """A test, as a method sees it.

    Attributes:
      protocol: `measure_quality.Protocol`, which trains our denoisers.
      pairs: Gives (noisy, clean) of every picture of the test, float32 [H, W, C].
      folder: A folder for the method's own files.
    """

    protocol: Any
    pairs: Callable[[], Any]
    folder: Path


@dataclasses.dataclass(frozen=True)
class Method:
    """A method of the comparison.

    Attributes:
      title: Its name in tables.
      told: The knowledge that it gets in addition to the noisy picture.
      make: Gives the function that denoises.
      trainings: The work directories of its trainings, relative to `runs`; "{noise}"
        stands for the noise.
      file: The name of its scores in tools/results/quality/, if they can be reused.
    """

    title: str
    told: str
    make: Callable[[Task], Denoise]
    trainings: tuple[str, ...] = ()
    file: str | None = None


def _noisy(task: Task) -> Denoise:
    del task
    return lambda noisy, _: noisy


def _bm3d(noisy: np.ndarray, sigma: float) -> np.ndarray:
    color = noisy.shape[-1] == 3
    result = bm3d.bm3d_rgb(noisy, sigma) if color else bm3d.bm3d(noisy[..., 0], sigma)
    return np.float32(result.reshape(noisy.shape))


def _bm3d_told(task: Task) -> Denoise:
    del task
    return _bm3d


def _bm3d_best(task: Task) -> Denoise:
    """BM3D at the one sigma that is best for the middles of the test pictures."""
    path = task.folder / "sigma.json"
    if not path.exists():
        pairs = [tuple(map(_middle, pair)) for pair in task.pairs()]
        harness.save({"sigma": best_sigma(_bm3d, pairs)}, path)
    sigma = harness.load(path)["sigma"]
    return lambda noisy, _: _bm3d(noisy, sigma)


def best_sigma(denoise: Denoise, pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Returns the best of `SIGMAS`; PSNR is assumed to have one maximum.

    Args:
      denoise: Denoises a picture, given a sigma.
      pairs: (noisy, clean).
    """
    psnrs = {}

    def psnr(index):
        if index not in psnrs:
            rows = inference.score_pairs(
                pairs, lambda noisy: denoise(noisy, SIGMAS[index])
            )
            psnrs[index] = inference.summarize(rows)["psnr"]
        return psnrs[index]

    best = len(SIGMAS) // 2
    while True:
        around = range(max(best - 1, 0), min(best + 2, len(SIGMAS)))
        highest = max(around, key=psnr)
        if highest == best:
            return SIGMAS[best]
        best = highest


def _middle(image: np.ndarray) -> np.ndarray:
    top, left = (max(0, (size - SIDE) // 2) for size in image.shape[:2])
    return image[top : top + SIDE, left : left + SIDE]


def _non_local_means(task: Task) -> Denoise:
    del task

    def denoise(noisy, sigma):
        # Values of scikit-image's own example for the fast mode.
        return restoration.denoise_nl_means(
            noisy,
            h=0.8 * sigma,
            sigma=sigma,
            fast_mode=True,
            patch_size=5,
            patch_distance=6,
            channel_axis=-1,
        )

    return denoise


def _wavelets(task: Task) -> Denoise:
    del task

    def denoise(noisy, sigma):
        color = noisy.shape[-1] == 3
        return restoration.denoise_wavelet(
            noisy,
            sigma=sigma,
            method="BayesShrink",
            mode="soft",
            convert2ycbcr=color,
            rescale_sigma=True,
            channel_axis=-1,
        )

    return denoise


def _deep_image_prior(told: bool) -> Callable[[Task], Denoise]:
    def make(task: Task) -> Denoise:
        def denoise(noisy, sigma):
            prior = stages.DeepImagePrior(
                noisy.shape[-1],
                noise_sigma=min(sigma, 1.0) if told else None,
                precision=getattr(task.protocol, "precision", "float32"),
            )
            return prior.fit(noisy).denoised

        return denoise

    return make


def _trained(name: str, **options: Any) -> Callable[[Task], Denoise]:
    """A denoiser that `measure_quality.Protocol` trains."""

    def make(task: Task) -> Denoise:
        denoiser = inference.Denoiser.from_pretrained(task.protocol.model(name))
        return lambda noisy, _: denoiser(noisy, pixel_range="dtype", **options)

    return make


METHODS: dict[str, Method] = {
    "noisy": Method("noisy", "", _noisy),
    "bm3d": Method("BM3D", "sigma of each picture", _bm3d_told, file="bm3d"),
    "bm3d_best": Method("BM3D, best sigma", "best sigma of the test", _bm3d_best),
    "nlm": Method("non-local means", "sigma of each picture", _non_local_means),
    "wavelets": Method("wavelets", "sigma of each picture", _wavelets),
    "dip": Method(
        "Deep Image Prior", "sigma of each picture", _deep_image_prior(told=True)
    ),
    "dip_blind": Method(
        "Deep Image Prior, sigma estimated", "", _deep_image_prior(told=False)
    ),
    "noise2void": Method(
        "Noise2Void", "noisy pool", _trained("noise2void"), ("{noise}/noise2void",)
    ),
    "scratch": Method(
        "objective only, from scratch",
        "noisy pool, prior of clean pictures",
        _trained("scratch"),
        ("{noise}/scratch",),
        "scratch",
    ),
    "start": Method("start", "clean pool", _trained("start"), ("start",), "start"),
    "objective": Method(
        "start, objective",
        "noisy and clean pools",
        _trained("objective"),
        ("start", "{noise}/objective"),
        "objective",
    ),
    "distilled": Method(
        "start, learned noise distilled",
        "noisy and clean pools",
        _trained("distilled"),
        ("start", "{noise}/noise", "{noise}/distilled"),
        "distilled",
    ),
    "pairs": Method(
        "start, true pairs",
        "pairs",
        _trained("pairs"),
        ("start", "{noise}/pairs"),
        "pairs",
    ),
}
"""The methods by name, in the order of the tables."""


def training_minutes(method: Method, runs: Path, noise: str) -> float | None:
    """Returns the wall time of the trainings of a method, with pauses.

    It is the time from the first to the last file of each work directory. A start that
    is a model of the package does not count. None if there was no training.
    """
    minutes = 0.0
    for name in method.trainings:
        folder = runs / name.format(noise=noise)
        if not list(folder.glob("*.keras")):
            continue
        times = [os.path.getmtime(path) for path in folder.rglob("*") if path.is_file()]
        minutes += (max(times) - min(times)) / 60
    return round(minutes, 2) or None
