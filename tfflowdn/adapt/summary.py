"""The report of an adaptation."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfflowdn import inference
from tfflowdn.adapt.choose import denoise_by
from tfflowdn.adapt.describe import unit_name
from tfflowdn.adapt.look import Look
from tfflowdn.adapt.run import Adaptation
from tfflowdn.noise import NoiseModel
from tfflowdn.noise.curves import NoiseCurves, curves_of_model
from tfflowdn.report import Curve, Report, Row, write_report

__all__ = ["write_summary"]

COLORS = {1: ("accent",), 3: ("red", "green", "blue")}
NAMES = {1: ("gray",), 3: ("red", "green", "blue")}
SAMPLE = 128
SEED = (0, 7)


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
    clean = [inference.middle(p, 256) for p in run.clean_planes()[::8][:8]]
    rows = inference.expected_scores(denoise, clean, noise)
    psnr, ssim = (np.array([row[key] for row in rows]) for key in ("psnr", "ssim"))
    return (
        f"On {len(rows)} of the clean pictures with the learned noise the denoiser has "
        f"a PSNR of {psnr.mean():.1f} dB (spread {psnr.std():.1f}) and an SSIM of "
        f"{ssim.mean():.3f}. The training has seen these pictures with other noise."
    )


def _noise_plots(look: Look, noise: NoiseModel) -> dict:
    curves = curves_of_model(noise)
    unit = unit_name(look)
    brightness = look.origin + look.unit * curves.brightness
    channels = range(curves.std.shape[1])
    levels = [
        Curve(
            f"learned, {NAMES[len(channels)][c]}",
            brightness,
            look.unit * curves.std[:, c],
            COLORS[len(channels)][c],
        )
        for c in channels
    ]
    calm = Curve("calm places", look.brightness, look.noise, "gray", points=True)
    return {
        "Noise by brightness": (
            f"brightness, {unit}",
            f"standard deviation, {unit}",
            [*levels, calm],
        ),
        "Correlation of the noise": _correlation_plot(curves),
        "Lean of the noise": (
            f"brightness, {unit}",
            "skewness",
            _lines(brightness, curves.skewness),
        ),
        "Spectrum of the noise": _spectrum_plot(curves),
    }


def _lines(x: np.ndarray, values: np.ndarray) -> list[Curve]:
    count = values.shape[1]
    return [
        Curve(NAMES[count][c], x, values[:, c], COLORS[count][c]) for c in range(count)
    ]


def _correlation_plot(curves: NoiseCurves) -> tuple:
    lags = np.arange(len(curves.autocorrelation))
    return "distance, pixels", "correlation", _lines(lags, curves.autocorrelation)


def _spectrum_plot(curves: NoiseCurves) -> tuple:
    """Returns the power along rows and columns, from the correlation."""
    correlation = curves.autocorrelation
    frequency = np.linspace(0, 0.5, 33)
    waves = 2 * np.cos(2 * np.pi * np.outer(frequency, np.arange(len(correlation))))
    waves[:, 0] = 1
    power = waves @ correlation
    return "frequency, cycles per pixel", "power", _lines(frequency, power)


def _training_plots(workdir: Path) -> dict:
    plots = {}
    for name, stage in (("denoiser", "distill"), ("own", "recorrupt")):
        path = workdir / name / stage / "history.csv"
        if not path.exists():
            continue
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        key = "psnr" if "psnr" in rows[0] else "loss"
        epochs = [int(row["epoch"]) + 1 for row in rows]
        values = [float(row[key]) for row in rows]
        plots[f"Training: {stage}"] = ("epoch", key, [Curve(key, epochs, values)])
    return plots


def _noise_gallery(rows: Sequence[Row], noise: NoiseModel) -> dict[str, np.ndarray]:
    """Returns removed noise of the calmest picture next to noise of the model."""
    row = min(rows, key=lambda row: row.scores["removed structure, %"])
    window = np.s_[:SAMPLE, :SAMPLE]
    removed = (row.noisy - row.denoised)[window]
    signal = np.float32(np.clip(row.denoised[window], 0, 1))
    drawn = noise.sample(signal[np.newaxis], SEED)[0].numpy()
    scale = 6 * float(drawn.std()) + 1e-9
    return {
        "removed from a picture": 0.5 + removed / scale,
        "drawn from the learned noise": 0.5 + drawn / scale,
        "the denoised picture": row.denoised[window],
    }


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
        reason = f"error lower by {100 * gain:.2f} % of the noise, +- {100 * error:.2f}"
        facts.append((name, f"{psnr:.2f} dB", f"{reason}{used}"))
    return facts
