"""Plots of curves as SVG, which follow the colors of the page."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from html import escape

import numpy as np

__all__ = ["Curve", "plot"]

WIDTH, HEIGHT, LEFT, BOTTOM, MARGIN = 520, 300, 64, 44, 14


@dataclasses.dataclass(frozen=True)
class Curve:
    """A curve or points of a plot.

    Attributes:
      name: Its name in the legend.
      x: Values along the horizontal axis, [n].
      y: Values along the vertical axis, [n]; NaN where there is none.
      color: A name: "gray", "red", "green", "blue" or "accent".
      points: Whether to draw points in place of a line.
      dashed: Whether the line is dashed.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: str = "accent"
    points: bool = False
    dashed: bool = False


def plot(x_label: str, y_label: str, curves: Sequence[Curve]) -> str:
    """Returns a plot of curves as SVG; the template styles its classes."""
    xs = np.concatenate([np.asarray(curve.x, float) for curve in curves])
    ys = np.concatenate([np.asarray(curve.y, float) for curve in curves])
    x_limits, y_limits = _limits(xs), _limits(ys)
    parts = [_axes(x_limits, y_limits, x_label, y_label)]
    for index, curve in enumerate(curves):
        parts.append(_draw(curve, x_limits, y_limits))
        parts.append(_legend(curve, index))
    label = escape(f"{y_label} against {x_label}", quote=True)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        + "".join(parts)
        + "</svg>"
    )


def _limits(values: np.ndarray) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    low = 0.0 if 0 <= low < 0.4 * high else low
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _place(
    x: float, y: float, x_limits: tuple[float, float], y_limits: tuple[float, float]
) -> tuple[float, float]:
    across = (x - x_limits[0]) / (x_limits[1] - x_limits[0])
    up = (y - y_limits[0]) / (y_limits[1] - y_limits[0])
    left = LEFT + across * (WIDTH - LEFT - MARGIN)
    return left, HEIGHT - BOTTOM - up * (HEIGHT - BOTTOM - MARGIN)


def _draw(curve: Curve, *limits: tuple[float, float]) -> str:
    pairs = zip(curve.x, curve.y, strict=True)
    known = [pair for pair in pairs if np.isfinite(pair).all()]
    places = [_place(*pair, *limits) for pair in known]
    if curve.points:
        dots = (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places)
        return f'<g class="dot {curve.color}">{"".join(dots)}</g>'
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dash = ' stroke-dasharray="6 4"' if curve.dashed else ""
    return f'<polyline class="line {curve.color}"{dash} points="{path}"/>'


def _legend(curve: Curve, index: int) -> str:
    y = MARGIN + 14 + 16 * index
    return (
        f'<text class="legend {curve.color}" x="{WIDTH - MARGIN - 4}" y="{y}" '
        f'text-anchor="end">{escape(curve.name)}</text>'
    )


def _axes(
    x_limits: tuple[float, float],
    y_limits: tuple[float, float],
    x_label: str,
    y_label: str,
) -> str:
    parts = []
    for value in _ticks(*x_limits):
        x, _ = _place(value, y_limits[0], x_limits, y_limits)
        y = HEIGHT - BOTTOM
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{MARGIN}" x2="{x:.1f}" ')
        parts.append(f'y2="{y}"/><text x="{x:.1f}" y="{y + 16}" text-anchor="middle">')
        parts.append(f"{value:g}</text>")
    for value in _ticks(*y_limits):
        _, y = _place(x_limits[0], value, x_limits, y_limits)
        end = WIDTH - MARGIN
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{end}" ')
        parts.append(f'y2="{y:.1f}"/><text x="{LEFT - 6}" y="{y + 4:.1f}" ')
        parts.append(f'text-anchor="end">{value:g}</text>')
    middle = (LEFT + WIDTH - MARGIN) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">')
    parts.append(f"{escape(x_label)}</text>")
    center = (HEIGHT - BOTTOM + MARGIN) / 2
    parts.append(f'<text transform="translate(14 {center}) rotate(-90)" ')
    parts.append(f'text-anchor="middle">{escape(y_label)}</text>')
    return "".join(parts)


def _ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / 5
    power = 10 ** np.floor(np.log10(rough))
    step = min((m * power for m in (1, 2, 5, 10)), key=lambda s: abs(s - rough))
    first = np.ceil(low / step - 1e-9)
    count = int(np.floor((high - first * step) / step + 1e-9)) + 1
    return [float(f"{(first + i) * step:.10g}") for i in range(count)]
