"""The page of `evaluate --report`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

import tfflowdn

__all__ = ["write"]

MOST_SHOWN = 6
Pictures = Iterable[tuple[np.ndarray, np.ndarray | None]]


def write(
    path: str,
    scores: Mapping[str, dict],
    pictures: Pictures,
    denoise: Callable[[np.ndarray], np.ndarray] | None,
) -> None:
    """Writes a page with the scores of all pictures, and the worst pictures.

    Args:
      path: The HTML file to write.
      scores: `mean` and `pictures`, as `evaluate` and `estimate` return them.
      pictures: The noisy pictures [H, W, C] in [0, 1] units, in the order of the
        scores, and their references or None.
      denoise: Denoises a picture; None if only the pictures were scored.
    """
    rows = scores["pictures"]
    score = "psnr" if denoise else "noisy_psnr"
    worst = sorted(rows, key=lambda name: rows[name][score])[:MOST_SHOWN]
    shown = {}
    for name, (noisy, reference) in zip(rows, pictures, strict=True):
        if name in worst:
            denoised = denoise(noisy) if denoise else noisy
            shown[name] = [_filled(one) for one in (noisy, denoised, reference)]
    Row = tfflowdn.report.Row
    report = tfflowdn.report.Report(
        title="Evaluation",
        summary=_sentences(scores),
        rows=[Row(name, each, *shown.get(name, ())) for name, each in rows.items()],
        worst_by=score,
        plots=_scatter(rows) if denoise else {},
    )
    tfflowdn.report.write_report(Path(path), report, most_shown=MOST_SHOWN)


def _filled(picture):
    return picture if picture is None else tfflowdn.data.fill_gaps(picture)


def _sentences(scores):
    kind = "" if any("ssim" in name for name in scores["mean"]) else "Estimated. "
    means = ", ".join(f"{name} {value:.4g}" for name, value in scores["mean"].items())
    return [f"{kind}Means of {len(scores['pictures'])} pictures: {means}."]


def _scatter(rows):
    before = [row["noisy_psnr"] for row in rows.values()]
    after = [row["psnr"] for row in rows.values()]
    limits = [min(before), max(before)]
    Curve = tfflowdn.report.Curve
    curves = [
        Curve("pictures", before, after, points=True),
        Curve("as they were", limits, limits, "gray", dashed=True),
    ]
    return {"PSNR before and after": ("noisy PSNR, dB", "denoised PSNR, dB", curves)}
