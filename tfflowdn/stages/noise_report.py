"""The report of a training of the noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
from ml_collections import config_dict

from tfflowdn import data
from tfflowdn.noise import NoiseModel
from tfflowdn.noise.calm import calm_crops
from tfflowdn.noise.curves import NoiseCurves
from tfflowdn.noise.fit import NoiseCrops
from tfflowdn.report import (
    Curve,
    Report,
    Units,
    config_facts,
    noise_pictures,
    noise_plots,
    write_report,
)

__all__ = ["Losses", "find_units", "write_noise_report"]

NUM_CROPS, SHARE, LARGEST_CROP, NUM_BINS = 16, 0.1, 32, 10
MOST_POINTS = 200


class Losses(keras.callbacks.Callback):
    """Records the mean loss of each fit up to each step."""

    def __init__(self) -> None:
        super().__init__()
        self.fits: list[list[float]] = []

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Begins the curve of a fit."""
        del logs
        self.fits.append([])

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Adds a point."""
        del batch
        self.fits[-1].append(float(logs["loss"]))


def write_noise_report(
    directory: Path,
    config: config_dict.ConfigDict,
    model: NoiseModel,
    curves: Mapping[str, NoiseCurves],
    pictures: Sequence[np.ndarray],
    losses: Losses,
    commands: Sequence[str],
) -> None:
    """Writes `report.html`.

    Args:
      directory: The directory of the training.
      config: Its configuration.
      model: The learned noise.
      curves: The curves of the learned noise and, if it is known, of the true noise.
      pictures: The noisy pictures, float32 [H, W, C] in [0, 1] units.
      losses: The losses of the fits.
      commands: Commands that repeat the training.
    """
    units = find_units(config)
    calm = _calm_crops(pictures)
    points = None if calm is None else _levels(calm, units)
    galleries = {}
    if calm is not None:
        chosen = calm[np.linspace(0, len(calm.index) - 1, NUM_CROPS).astype(int)]
        shown = noise_pictures(chosen.signal, chosen.noise, model)
        galleries["Noise of calm places and learned noise"] = shown
    report = Report(
        title="Learned noise",
        summary=_sentences(config, curves["learned"], pictures, units),
        plots={**noise_plots(curves, units, points), **_loss_plot(losses)},
        galleries=galleries,
        facts={"Configuration": config_facts(config)},
        commands=commands,
    )
    write_report(directory / "report.html", report)


def find_units(config: config_dict.ConfigDict) -> Units:
    """Returns the units of the noisy pictures of a configuration.

    With percentiles each picture has a range of its own; the range of the first picture
    is used. Where there are no files, the units of the network are used.
    """
    source = data.open_source(**config.noisy, channels=None)
    if not isinstance(source, data.FileSource):
        return Units()
    stored = source.stored(0)
    low, high = source.limits(0) or data.dtype_limits(stored.dtype)
    whole = stored.dtype.kind in "iu"
    name = "gray levels" if stored.dtype == np.uint8 else "counts" if whole else "units"
    return Units(name, float(low), float(high - low))


def _calm_crops(pictures: Sequence[np.ndarray]) -> NoiseCrops | None:
    size = min(LARGEST_CROP, *(min(p.shape[:2]) // 2 for p in pictures))
    try:
        return calm_crops(pictures, size, SHARE) if size > 1 else None
    except ValueError:  # All places are clipped or constant.
        return None


def _levels(calm: NoiseCrops, units: Units) -> tuple[np.ndarray, np.ndarray]:
    """Returns brightness and standard deviation of calm places, in stored values."""
    brightness = calm.signal.mean((1, 2, 3))
    size = calm.noise.shape[1]
    variance = (calm.noise**2).mean((1, 2, 3)) * size**2 / max(1, size**2 - 3)
    order = np.argsort(brightness)
    parts = np.array_split(order, min(NUM_BINS, len(order)))
    x = np.array([brightness[part].mean() for part in parts])
    y = np.sqrt([np.median(variance[part]) for part in parts])
    return units.place(x), units.size * y


def _loss_plot(losses: Losses) -> dict:
    curves = []
    colors = ("accent", "green", "blue", "red")
    for index, fit in enumerate(losses.fits[::2]):  # Each fit has two parts.
        x = np.unique(np.linspace(0, len(fit) - 1, MOST_POINTS).astype(int))
        name = f"fit {index + 1}"
        color = colors[index % len(colors)]
        curves.append(Curve(name, x + 1, np.array(fit)[x], color))
    label = "negative log-likelihood, nats per value"
    return {"Training: mean over the steps so far": ("step", label, curves)}


def _sentences(
    config: config_dict.ConfigDict,
    curves: NoiseCurves,
    pictures: Sequence[np.ndarray],
    units: Units,
) -> list[str]:
    std = units.size * curves.std.mean(1)
    middle = std[len(std) // 2]
    correlation = curves.autocorrelation[1].mean()
    dark, bright = (f"{units.place(x):.4g}" for x in (0.0, 1.0))
    sources = {
        "residuals": "what the denoiser removes",
        "calm": "the calmest places",
    }
    return [
        f"The noise was learned from {sources[config.evidence]} of {len(pictures)} "
        "pictures.",
        f"Its standard deviation is {std[0]:.3g} {units.name} at a brightness of "
        f"{dark}, {middle:.3g} in the middle and {std[-1]:.3g} at {bright}.",
        f"Neighboring pixels have noise with a correlation of {correlation:.2f}.",
        "The noise of calm places contains faint structure of the pictures, and "
        "cameras smooth such places, so the points need not lie on the curve.",
    ]
