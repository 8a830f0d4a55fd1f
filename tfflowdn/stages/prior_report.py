"""The report of a training of a prior."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import config_dict

from tfflowdn import data
from tfflowdn.report import Report, config_facts, history_plots, write_report

__all__ = ["write_prior_report"]


def write_prior_report(
    directory: Path, config: config_dict.ConfigDict, commands: Sequence[str]
) -> None:
    """Writes `report.html`.

    Args:
      directory: The directory of the training, with its samples.
      config: Its configuration.
      commands: Commands that repeat the training.
    """
    plots = history_plots({"Training": directory / "history.csv"})
    samples = sorted((directory / "samples").glob("*.png"))
    shown = dict.fromkeys(samples[:1] + samples[-1:])
    pictures = {path.stem.replace("_", " "): _read(path) for path in shown}
    report = Report(
        title="Trained prior",
        summary=_sentences(plots),
        plots=plots,
        galleries={"Samples": pictures} if pictures else {},
        facts={"Configuration": config_facts(config)},
        commands=commands,
    )
    write_report(directory / "report.html", report)


def _read(path: Path) -> np.ndarray:
    return data.to_float(data.read_image(path))


def _sentences(plots: dict) -> list[str]:
    curves = {curve.name: curve.y for _, _, each in plots.values() for curve in each}
    if "validation" not in curves:
        return ["The prior was trained."]
    best = min(curves["validation"])
    epoch = 1 + int(np.argmin(curves["validation"]))
    return [
        f"The prior needs {best:.3f} bits/dim on the validation pictures, after epoch "
        f"{epoch}; best.keras is that prior. A lower value is a better density."
    ]
