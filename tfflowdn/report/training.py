"""The parts of a report that show a training and its configuration."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfflowdn.report.svg import Curve

__all__ = ["config_facts", "config_markdown", "history_plots"]

PREFERRED = ("psnr", "bits_per_dim", "loss")  # The log that people understand first.
MOST_POINTS = 400
Plots = dict[str, tuple[str, str, list[Curve]]]
Fact = tuple[str, str, str]


def history_plots(histories: Mapping[str, Path]) -> Plots:
    """Returns the curves of training and validation, for `Report.plots`.

    Args:
      histories: The file `history.csv` of each training, by its name; files that do not
        exist are left out.
    """
    plots = {}
    for name, path in histories.items():
        if path.exists():
            plots |= _history_plots(name, path)
    return plots


def config_facts(config: Mapping[str, Any]) -> list[Fact]:
    """Returns the keys of a configuration, for `Report.facts`."""
    return [(key, str(value), "") for key, value in _flat(config, "")]


def config_markdown(config: Mapping[str, Any]) -> str:
    """Returns the keys of a configuration as a table, for TensorBoard."""
    rows = [f"| {key} | {value} |" for key, value, _ in config_facts(config)]
    return "\n".join(["| key | value |", "| --- | --- |", *rows])


def _history_plots(name: str, path: Path) -> Plots:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    logs = [key for key in PREFERRED if rows and {key, f"val_{key}"} & set(rows[0])]
    plots = {}
    for key in logs[:2]:
        curves = [
            Curve(*curve)
            for curve in (
                ("training", *_column(rows, key), "accent"),
                ("validation", *_column(rows, f"val_{key}"), "green"),
            )
            if curve[1]
        ]
        plots[f"{name}: {key.replace('_', ' ')}"] = ("epoch", _unit(key), curves)
    return plots


def _column(rows: list[dict[str, str]], key: str) -> tuple[list[int], list[float]]:
    rows = rows[:: math.ceil(len(rows) / MOST_POINTS)]
    points = [(int(row["epoch"]) + 1, row.get(key)) for row in rows]
    known = [(epoch, float(value)) for epoch, value in points if value]
    return [epoch for epoch, _ in known], [value for _, value in known]


def _unit(key: str) -> str:
    return {"psnr": "PSNR, dB", "bits_per_dim": "bits/dim"}.get(key, key)


def _flat(section: Mapping[str, Any], before: str) -> list[tuple[str, Any]]:
    items = []
    for key, value in section.items():
        name = f"{before}{key}"
        is_section = hasattr(value, "items")
        items += _flat(value, f"{name}.") if is_section else [(name, value)]
    return items
