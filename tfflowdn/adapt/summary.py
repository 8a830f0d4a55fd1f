"""The report of an adaptation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfflowdn import inference
from tfflowdn.adapt.choose import denoise_by
from tfflowdn.adapt.describe import unit_name
from tfflowdn.adapt.look import Look
from tfflowdn.adapt.run import Adaptation
from tfflowdn.noise import NoiseModel
from tfflowdn.noise.curves import curves_of_model
from tfflowdn.report import (
    Report,
    Row,
    Units,
    history_plots,
    noise_pictures,
    noise_plots,
    write_report,
)

__all__ = ["write_summary"]

SAMPLE = 128


def write_summary(run: Adaptation, sentence: str) -> Path:
    """Writes `report.html` of an adaptation that has trained.

    Args:
      run: The adaptation, after `train`.
      sentence: A sentence about the gain.

    Returns:
      The path of the report, in the work directory.
    """
    noise = inference.load_noise(run.workdir / "noise" / "noise.keras")
    denoise = denoise_by(inference.load_denoiser(run.workdir / "denoiser.keras"))
    prior = inference.load_prior(run.decisions.prior)
    planes = [inference.middle(plane, 512) for plane in run.check_planes()]
    rows = _rows(run, planes, noise, denoise, prior)
    scores = _expected(run, denoise, noise)
    report = Report(
        title="Adapted denoiser",
        summary=[sentence, scores, *run.record["lines"]],
        rows=rows,
        plots={**_noise_plots(run.look, noise), **_training_plots(run.workdir)},
        galleries={"Noise, real and learned": _noise_gallery(rows, noise)},
        facts={"Decisions": _decisions(run), "Denoisers compared": _compared(run)},
        commands=run.commands(),
    )
    path = run.workdir / "report.html"
    write_report(path, report)
    return path


def _rows(run, planes, noise, denoise, prior) -> list[Row]:
    risks = [inference.estimate_risk(denoise, plane, noise) for plane in planes]
    unit = f"noise, {unit_name(run.look)}"
    rows = []
    pooled = inference.pool_risks(risks)
    for name, plane, risk in zip(run.check_names(), planes, pooled, strict=True):
        scores = {
            "noisy PSNR": risk.noisy_psnr,
            "estimated PSNR": risk.psnr,
            "spread, dB": 4.34 * risk.spread,
            unit: float(np.sqrt(risk.noisy_mse)) * run.look.unit,
            "removed structure, %": 100 * risk.structure,
            "bits/dim, noisy": _bits(prior, plane),
            "bits/dim, denoised": _bits(prior, risk.denoised),
        }
        rows.append(
            Row(name, scores, plane, risk.denoised, removed_map=risk.removed_map)
        )
    return rows


def _bits(prior, picture: np.ndarray) -> float:
    noisy = prior.dequantize(np.float32(picture)[np.newaxis], [prior.seed, -1])
    return float(prior.bits_per_dim(noisy)[0])


def _expected(run: Adaptation, denoise, noise: NoiseModel) -> str:
    clean = [inference.middle(p, 256) for p in run.held_out_planes()[:8]]
    if not clean:
        return "There are fewer than four clean pictures, so none was held out."
    rows = inference.expected_scores(denoise, clean, noise)
    psnr, ssim = (np.array([row[key] for row in rows]) for key in ("psnr", "ssim"))
    return (
        f"On {len(rows)} held-out clean pictures with the learned noise the denoiser "
        f"has a PSNR of {psnr.mean():.1f} dB (spread {psnr.std():.1f}) and an SSIM of "
        f"{ssim.mean():.3f}."
    )


def _noise_plots(look: Look, noise: NoiseModel) -> dict:
    units = Units(unit_name(look), look.origin, look.unit)
    curves = {"learned": curves_of_model(noise)}
    return noise_plots(curves, units, (look.brightness, look.noise))


def _training_plots(workdir: Path) -> dict:
    stages = {"denoiser": "distill", "own": "recorrupt"}
    return history_plots(
        {
            f"Training, {stage}": workdir / name / stage / "history.csv"
            for name, stage in stages.items()
        }
    )


def _noise_gallery(rows: Sequence[Row], noise: NoiseModel) -> dict[str, np.ndarray]:
    """Returns removed noise of the calmest picture next to noise of the model."""
    row = min(rows, key=lambda row: row.scores["removed structure, %"])
    window = np.s_[:SAMPLE, :SAMPLE]
    signal = row.denoised[window]
    removed = row.noisy[window] - signal
    return noise_pictures(signal[np.newaxis], removed[np.newaxis], noise)


def _decisions(run: Adaptation) -> list[tuple[str, str, str]]:
    made = run.decisions
    ratio = f"{run.record['noise_ratio']:.2f}"
    facts = [("learned noise", ratio, "times the noise of calm places")]
    for name, reason in made.reasons.items():
        value = getattr(made, name)
        if value is None:
            value = run.record.get(name, "measured")
        facts.append((name, str(value), reason))
    for name in ("denoiser", "own"):
        stage = run.record.get(name)
        if stage:
            changes = stage["changes"]
            steps = next(v for k, v in changes.items() if k.endswith("num_steps"))
            facts.append((f"steps, {name}", str(steps), "they fit into the minutes"))
    return facts


def _compared(run: Adaptation) -> list[tuple[str, str, str]]:
    result = run.comparison
    facts = [("noisy pictures", f"{result.noisy_psnr:.2f} dB", "estimated")]
    for name, psnr in result.psnr.items():
        gain, error = result.gain[name]
        used = "; used" if name == result.best else ""
        if name in result.expected:
            used = f"; {result.expected[name]:.2f} dB on held-out clean pictures{used}"
        reason = f"error lower by {100 * gain:.2f} % of the noise, +- {100 * error:.2f}"
        facts.append((name, f"{psnr:.2f} dB", f"{reason}{used}"))
    return facts
