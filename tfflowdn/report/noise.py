"""The parts of a report that show learned noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from tfflowdn.noise import NoiseModel
from tfflowdn.noise.curves import NoiseCurves
from tfflowdn.report.svg import Curve

__all__ = ["Units", "noise_pictures", "noise_plots"]

COLORS = {1: ("accent",), 3: ("red", "green", "blue")}
NAMES = {1: ("gray",), 3: ("red", "green", "blue")}
SEED = (0, 7)
Plots = dict[str, tuple[str, str, list[Curve]]]
Points = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Units:
    """The values of the picture files that stand for the units of a network.

    Attributes:
      name: Name of the unit, such as "counts".
      origin: The stored value that becomes 0.
      size: Size of one [0, 1] unit in stored values.
    """

    name: str = "of 1"
    origin: float = 0.0
    size: float = 1.0

    def place(self, values: np.ndarray) -> np.ndarray:
        """Returns values of [0, 1] units as stored values."""
        return self.origin + self.size * values


def noise_plots(
    curves: Mapping[str, NoiseCurves],
    units: Units,
    calm: tuple[np.ndarray, np.ndarray] | None = None,
) -> Plots:
    """Returns the plots of noise, for `Report.plots`.

    Args:
      curves: Curves by name; the first one is drawn solid, the others are dashed.
      units: The units of the pictures.
      calm: Brightness [n] and standard deviation [n] of calm places, in the units of
        the pictures; None if they were not measured.
    """

    def lines(read: Callable[[NoiseCurves], Points]) -> list[Curve]:
        return _lines({name: read(each) for name, each in curves.items()})

    brightness = f"brightness, {units.name}"
    levels = lines(lambda c: (units.place(c.brightness), units.size * c.std))
    if calm is not None:
        levels.append(Curve("calm places", *calm, "gray", points=True))
    correlation = lines(
        lambda c: (np.arange(len(c.autocorrelation)), c.autocorrelation)
    )
    skewness = lines(lambda c: (units.place(c.brightness), c.skewness))
    deviation = f"standard deviation, {units.name}"
    return {
        "Noise by brightness": (brightness, deviation, levels),
        "Correlation of the noise": ("distance, pixels", "correlation", correlation),
        "Lean of the noise": (brightness, "skewness", skewness),
        "Spectrum of the noise": (
            "frequency, cycles per pixel",
            "power",
            lines(lambda c: _spectrum(c.autocorrelation)),
        ),
    }


def noise_pictures(
    signal: np.ndarray, real: np.ndarray, model: NoiseModel
) -> dict[str, np.ndarray]:
    """Returns real noise next to noise that a model draws, for `Report.galleries`.

    Args:
      signal: The pictures without noise [n, H, W, C] in [0, 1] units; n is a square
        number, and the pictures are joined to a square.
      real: Noise of the same shape.
      model: The density of the noise.
    """
    signal = np.clip(np.float32(signal), 0, 1)
    drawn = model.sample(signal, SEED).numpy()
    scale = 6 * float(drawn.std()) + 1e-9
    return {
        "real noise": 0.5 + _joined(real) / scale,
        "drawn from the learned noise": 0.5 + _joined(drawn) / scale,
        "the pictures under it": _joined(signal),
    }


def _joined(pictures: np.ndarray) -> np.ndarray:
    """Returns n pictures as one picture of sqrt(n) rows."""
    side = int(np.sqrt(len(pictures)))
    count, height, width, channels = pictures.shape
    rows = pictures.reshape(side, count // side, height, width, channels)
    return rows.swapaxes(1, 2).reshape(side * height, -1, channels)


def _lines(points: Mapping[str, Points]) -> list[Curve]:
    """Returns a line for each channel; x is [n], and y is [n, C]."""
    lines = []
    for index, (name, (x, y)) in enumerate(points.items()):
        count = y.shape[1]
        colors = COLORS.get(count, ("accent",) * count)
        names = NAMES.get(count, range(1, count + 1))
        for channel in range(count):
            label = f"{name}, {names[channel]}"
            line = Curve(label, x, y[:, channel], colors[channel], dashed=index > 0)
            lines.append(line)
    return lines


def _spectrum(correlation: np.ndarray) -> Points:
    """Returns the power along rows and columns, from the correlation [lags, C]."""
    frequency = np.linspace(0, 0.5, 33)
    waves = 2 * np.cos(2 * np.pi * np.outer(frequency, np.arange(len(correlation))))
    waves[:, 0] = 1
    return frequency, waves @ correlation
