"""PSNR and SSIM of pictures against references."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from tfflowdn import data, metrics

__all__ = ["score_pairs", "summarize"]


def score_pairs(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]],
    denoise: Callable[[np.ndarray], np.ndarray] | None = None,
) -> list[dict[str, float]]:
    """Scores pictures and, with `denoise`, denoised pictures.

    Args:
      pairs: (picture, reference), each float32 [H, W, C] in [0, 1] units.
      denoise: Maps a picture to a denoised picture.

    Returns:
      A dictionary for each pair, with `noisy_psnr` (dB) and `noisy_ssim`, and with
      `denoise` also `psnr` and `ssim`. Pictures and references are clipped to [0, 1];
      the data range is 1. Missing pixels (NaN) do not count in the PSNR, and are equal
      to the reference in the SSIM.
    """
    rows = []
    for picture, reference in pairs:
        row = _scores(reference, picture, "noisy_")
        if denoise is not None:
            row |= _scores(reference, denoise(picture), "")
        rows.append(row)
    return rows


def summarize(rows: list[dict[str, float]]) -> dict[str, float]:
    """Returns the mean over pictures of each score."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _scores(reference, picture, prefix):
    missing = np.isnan(picture) | np.isnan(reference)
    reference = data.fill_gaps(np.where(missing, np.float32(np.nan), reference))
    picture = np.where(missing, reference, picture)
    picture, reference = np.clip(picture, 0, 1), np.clip(reference, 0, 1)
    gain = 10 * np.log10(1 - missing.mean())
    psnr = float(metrics.psnr(reference, picture, data_range=1.0) + gain)
    return {
        f"{prefix}psnr": psnr,
        f"{prefix}ssim": float(metrics.ssim(reference, picture, data_range=1.0)),
    }
