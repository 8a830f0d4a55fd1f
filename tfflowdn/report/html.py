"""Writes a report as one HTML file, from a template of the package."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
import numpy as np

from tfflowdn import files
from tfflowdn.report.images import data_url, difference, heat
from tfflowdn.report.svg import Curve, plot

__all__ = ["Curve", "Report", "Row", "write_report"]

LARGEST = 4_500_000  # Bytes of the file.
SIDE = 512  # Pictures are shown in their middle at full size.
CROP = 96
QUALITIES = (92, 80, 60, 40)


@dataclasses.dataclass(frozen=True)
class Row:
    """A picture of a report.

    Attributes:
      name: Its name.
      scores: Numbers by name, all rows with the same names.
      noisy: The noisy picture, float [H, W, C] in [0, 1] units; None if only the
        scores are shown.
      denoised: The denoised picture.
      reference: The clean picture, or None.
      removed_map: See `inference.Risk`, or None.
    """

    name: str
    scores: Mapping[str, float]
    noisy: np.ndarray | None = None
    denoised: np.ndarray | None = None
    reference: np.ndarray | None = None
    removed_map: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Report:
    """The contents of a report.

    Attributes:
      title: Its title.
      summary: Sentences.
      rows: The pictures; those with the lowest `worst_by` come first.
      worst_by: The name of the score that orders the pictures.
      plots: For each heading, the label of x, the label of y and the curves.
      galleries: For each heading, pictures by their captions, [H, W, C] in [0, 1].
      facts: For each heading, (name, value, reason) of settings.
      commands: Commands that repeat the run.
    """

    title: str
    summary: Sequence[str]
    rows: Sequence[Row] = ()
    worst_by: str = "psnr"
    plots: Mapping[str, tuple[str, str, Sequence[Curve]]] = dataclasses.field(
        default_factory=dict
    )
    galleries: Mapping[str, Mapping[str, np.ndarray]] = dataclasses.field(
        default_factory=dict
    )
    facts: Mapping[str, Sequence[tuple[str, str, str]]] = dataclasses.field(
        default_factory=dict
    )
    commands: Sequence[str] = ()


def write_report(path: str | Path, report: Report, *, most_shown: int = 6) -> None:
    """Writes a report as one HTML file below 5 MB that needs no network.

    Args:
      path: The file to write.
      report: The contents.
      most_shown: Number of pictures that can be looked at; the table has all.
    """
    rows = sorted(report.rows, key=lambda row: row.scores.get(report.worst_by, 0.0))
    for shown in range(most_shown, 0, -2):
        for quality in QUALITIES:
            text = _render(report, rows, shown, quality)
            if len(text) <= LARGEST:
                break
        else:
            continue
        break
    files.replace(path, lambda temporary: temporary.write_text(text, "utf-8"))


def _render(report: Report, rows: Sequence[Row], shown: int, quality: int) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tfflowdn.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = list(rows[0].scores) if rows else []
    with_pictures = [row for row in rows if row.noisy is not None]
    return environment.get_template("report.html").render(
        report=report,
        names=names,
        rows=[_row(row, names) for row in rows],
        shown=[_shown(row, quality) for row in with_pictures[:shown]],
        plots={name: plot(*given) for name, given in report.plots.items()},
        galleries={
            title: {name: data_url(p, quality) for name, p in pictures.items()}
            for title, pictures in report.galleries.items()
        },
    )


def _row(row: Row, names: Sequence[str]) -> dict[str, object]:
    values = [row.scores[name] for name in names]
    cells = [(value, _number(value)) for value in values]
    return {"name": row.name, "cells": cells}


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "-"


def _shown(row: Row, quality: int) -> dict[str, object]:
    noisy, denoised = (_middle(picture) for picture in (row.noisy, row.denoised))
    worst = _worst(row)
    pictures = {
        "noisy": noisy,
        "denoised": denoised,
        "difference": difference(noisy, denoised),
    }
    if row.reference is not None:
        pictures["reference"] = _middle(row.reference)
    result = {name: data_url(p, quality) for name, p in pictures.items()}
    if row.removed_map is not None:
        result["removed"] = data_url(
            heat(np.log2(np.maximum(row.removed_map, 1e-6)), -0.5, 2), quality
        )
    result["crops"] = [data_url(p[worst], quality) for p in (row.noisy, row.denoised)]
    height, width = noisy.shape[:2]
    return {"name": row.name, "height": height, "width": width, "urls": result}


def _middle(picture: np.ndarray) -> np.ndarray:
    top, left = (max(0, (size - SIDE) // 2) for size in picture.shape[:2])
    return picture[top : top + SIDE, left : left + SIDE]


def _worst(row: Row) -> tuple[slice, slice]:
    """Returns the window with most removed power that noise does not explain."""
    height, width = row.noisy.shape[:2]
    if row.removed_map is None:
        power = ((row.noisy - row.denoised) ** 2).mean(-1)
        block = 8
        rows, columns = max(1, height // block), max(1, width // block)
        power = power[: rows * block, : columns * block]
        size = (rows, min(block, height), columns, min(block, width))
        values = power.reshape(size).mean((1, 3))
    else:
        values = row.removed_map
    top, left = np.unravel_index(np.argmax(values), values.shape)
    steps = (height / values.shape[0], width / values.shape[1])
    centers = (top * steps[0], left * steps[1])
    starts = [
        int(np.clip(center - CROP / 2, 0, max(0, size - CROP)))
        for center, size in zip(centers, (height, width), strict=True)
    ]
    return tuple(slice(start, start + CROP) for start in starts)
