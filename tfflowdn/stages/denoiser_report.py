"""The report of a training of a denoiser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfflowdn import inference, metrics
from tfflowdn.noise.curves import curves_of_model
from tfflowdn.report import (
    Report,
    Row,
    Units,
    config_facts,
    history_plots,
    noise_pictures,
    noise_plots,
    write_report,
)
from tfflowdn.stages.examples import examples
from tfflowdn.stages.noise_report import find_units
from tfflowdn.stages.run import Run, Work

__all__ = ["write_denoiser_report"]

SIDE = 512
NUM_SAMPLES, TEMPERATURE = 4, 0.8
NOISE_SIDE = 128


def write_denoiser_report(
    directory: Path, run: Run, works: Mapping[str, Work], commands: Sequence[str]
) -> None:
    """Writes `report.html`.

    Args:
      directory: The directory of the training.
      run: The run, after its training.
      works: The works of its stages.
      commands: Commands that repeat the training.
    """
    rows = [_row(run, index, *e) for index, e in enumerate(examples(run, works, SIDE))]
    histories = {
        f"Training, {name}": directory / name / "history.csv" for name in works
    }
    plots = history_plots(histories)
    galleries = {}
    if run.config.noise:
        units = find_units(run.config) if run.config.noisy.spec else Units()
        plots |= noise_plots({"learned": curves_of_model(run.noise)}, units)
        galleries["Noise: removed, and drawn from the model"] = _noise(run, rows[0])
    if run.config.prior:
        samples = run.prior.sample(NUM_SAMPLES, temperature=TEMPERATURE)
        galleries["Samples of the prior"] = {
            f"sample {index + 1}": np.nan_to_num(sample)
            for index, sample in enumerate(np.asarray(samples))
        }
    report = Report(
        title="Trained denoiser",
        summary=_sentences(works, rows),
        rows=rows,
        worst_by=list(rows[0].scores)[0] if rows else "psnr",
        plots=plots,
        galleries=galleries,
        facts={"Configuration": config_facts(run.config)},
        commands=commands,
    )
    write_report(directory / "report.html", report)


def _row(run: Run, index: int, noisy: np.ndarray, clean: np.ndarray | None) -> Row:
    denoised = inference.Denoiser(run.network)(noisy, pixel_range="dtype")
    removed = float(np.std(noisy - denoised))
    scores = {"removed, standard deviation": removed}
    if clean is not None:
        scores = {
            "PSNR, dB": float(metrics.psnr(clean, denoised, data_range=1.0)),
            "noisy PSNR, dB": float(metrics.psnr(clean, noisy, data_range=1.0)),
            **scores,
        }
    return Row(f"picture {index + 1}", scores, noisy, denoised, clean)


def _noise(run: Run, row: Row) -> dict[str, np.ndarray]:
    window = np.s_[:NOISE_SIDE, :NOISE_SIDE]
    signal = row.denoised[window]
    removed = row.noisy[window] - signal
    return noise_pictures(signal[np.newaxis], removed[np.newaxis], run.noise)


def _sentences(works: Mapping[str, Work], rows: Sequence[Row]) -> list[str]:
    names = ", ".join(works)
    sentences = [f"The denoiser was trained in these stages: {names}."]
    known = [row.scores for row in rows if row.reference is not None]
    if known:
        before, after = (
            np.mean([scores[name] for scores in known])
            for name in ("noisy PSNR, dB", "PSNR, dB")
        )
        sentences.append(
            f"On {len(known)} pictures with a clean version the mean PSNR is "
            f"{after:.2f} dB; the noisy pictures have {before:.2f} dB."
        )
    else:
        sentences.append(
            "There are no clean versions of these pictures; --config.validation.noisy "
            "and --config.validation.clean name pictures for a PSNR."
        )
    return sentences
