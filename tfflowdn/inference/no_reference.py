"""Quality of denoised pictures without references."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from tfflowdn.inference.evaluation import score_pairs
from tfflowdn.inference.risk import estimate_risk, middle, pool_risks
from tfflowdn.models import FlowPrior
from tfflowdn.noise import NoiseModel

__all__ = ["expected_scores", "score_without_references"]

DB = 10 / np.log(10)  # Decibels of a nat.


def score_without_references(
    denoise: Callable[[np.ndarray], np.ndarray],
    pictures: Iterable[np.ndarray],
    noise: NoiseModel,
    *,
    prior: FlowPrior | None = None,
    side: int = 512,
) -> list[dict[str, float]]:
    """Estimates the quality of noisy pictures and of their denoised versions.

    Args:
      denoise: Maps a picture [H, W, C] in [0, 1] units to the denoised picture.
      pictures: Noisy pictures, float32 [H, W, C] in [0, 1] units.
      noise: The density of their noise; its level is found for each picture.
      prior: A prior for bits/dim, or None.
      side: Larger pictures are cropped to their middle.

    Returns:
      A dictionary for each picture: `noisy_psnr` and `psnr`, the estimates in dB;
      `psnr_spread`, the standard deviation of the latter; `noise` and `removed`, the
      standard deviations of the noise and of the removed part, in [0, 1] units;
      `structure`, the share of the removed power that is no noise, see `Risk`; with a
      prior also `noisy_bits_per_dim` and `bits_per_dim`.
    """
    rows, risks = [], []
    for picture in pictures:
        picture = middle(picture, side)
        risk = estimate_risk(denoise, picture, noise)
        risks.append(risk)
        rows.append({"removed": float(np.std(picture - risk.denoised))})
        if prior is not None:
            rows[-1]["noisy_bits_per_dim"] = _bits(prior, picture)
            rows[-1]["bits_per_dim"] = _bits(prior, risk.denoised)
    for row, risk in zip(rows, pool_risks(risks), strict=True):
        row["noisy_psnr"], row["psnr"] = risk.noisy_psnr, risk.psnr
        row["psnr_spread"] = DB * risk.spread
        row["noise"] = float(np.sqrt(risk.noisy_mse))
        row["structure"] = risk.structure
    names = ("noisy_psnr", "psnr", "psnr_spread", "noise", "removed", "structure")
    bits = ("noisy_bits_per_dim", "bits_per_dim") if prior is not None else ()
    return [{name: row[name] for name in (*names, *bits)} for row in rows]


def expected_scores(
    denoise: Callable[[np.ndarray], np.ndarray],
    clean: Sequence[np.ndarray],
    noise: NoiseModel,
    *,
    seed: int = 0,
) -> list[dict[str, float]]:
    """Scores clean pictures with learned noise: the quality to expect on this noise.

    Args:
      denoise: Maps a picture [H, W, C] in [0, 1] units to the denoised picture.
      clean: Clean pictures, float32 [H, W, C] in [0, 1] units, at least 11 pixels
        high and wide; the training must not have seen them.
      noise: The density of the noise, with the levels of the noisy pictures.
      seed: Seed of the noise.

    Returns:
      `noisy_psnr`, `noisy_ssim`, `psnr` and `ssim` of each picture.
    """
    pairs = (
        (np.array(noise(picture[np.newaxis], seed=(seed, index)))[0], picture)
        for index, picture in enumerate(clean)
    )
    return score_pairs(pairs, denoise)


def _bits(prior: FlowPrior, picture: np.ndarray) -> float:
    noisy = prior.dequantize(np.float32(picture)[np.newaxis], [prior.seed, -1])
    return float(prior.bits_per_dim(noisy)[0])
