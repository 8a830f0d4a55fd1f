"""Curves of noise: level and skewness by brightness, and correlation."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib.figure import Figure

from tfflowdn.noise.noise_model import NoiseModel

__all__ = ["NoiseCurves", "curves_of_model", "curves_of_pairs", "plot_curves"]

MIN_PIXELS = 100  # Bins with fewer pixels have no reliable standard deviation.
CHANNEL_COLORS = {1: ("black",), 3: ("tab:red", "tab:green", "tab:blue")}
OTHER_COLORS = tuple(f"C{c}" for c in range(10))  # Of any other number of channels.
LINE_STYLES = ("-", "--", ":", "-.")


@dataclasses.dataclass(frozen=True)
class NoiseCurves:
    """Statistics of noise for each channel.

    Attributes:
      brightness: Brightness of the clean picture, [n] in [0, 1] units.
      std: Standard deviation of the noise at this brightness, [n, C]; NaN if unknown.
      skewness: Third moment of the noise over std^3, [n, C]; NaN if unknown.
      autocorrelation: Autocorrelation of the noise divided by its std, at lags 0, 1,
        ... pixels along rows and columns, [lags, C].
    """

    brightness: np.ndarray
    std: np.ndarray
    skewness: np.ndarray
    autocorrelation: np.ndarray


def curves_of_model(model: NoiseModel, num_lags: int = 8) -> NoiseCurves:
    """Returns the curves of a noise model, over all its pictures."""
    brightness, std = model.level_curve()
    correlation = model.autocorrelation(size=2 * num_lags)
    along = (correlation[0] + correlation[:, 0]) / 2
    _, skewness = model.skewness_curve()
    return NoiseCurves(brightness, std, skewness, along[:num_lags])


def curves_of_pairs(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]],
    num_bins: int = 16,
    num_lags: int = 8,
) -> NoiseCurves:
    """Measures the noise of pictures whose clean version is known.

    Args:
      pairs: (noisy, clean), each float [H, W, C] in [0, 1] units.
      num_bins: Number of intervals of brightness, of equal width.
      num_lags: Number of lags.

    Raises:
      ValueError: If there are no pairs.
    """
    clean, noise = [], []
    for noisy, picture in pairs:
        clean.append(picture)
        noise.append(noisy - picture)
    if not clean:
        raise ValueError("pairs must hold at least one pair. Received: none.")
    brightness = (np.arange(num_bins) + 0.5) / num_bins
    variance, third = (
        np.stack([_moment(*p, power, num_bins) for p in _columns(clean, noise)], axis=1)
        for power in (2, 3)
    )
    std = np.sqrt(variance)
    unit = [
        n / _levels(picture, brightness, std)
        for picture, n in zip(clean, noise, strict=True)
    ]
    skewness = third / np.maximum(std, 1e-12) ** 3
    return NoiseCurves(brightness, std, skewness, _autocorrelation(unit, num_lags))


def plot_curves(path: str | os.PathLike, curves: Mapping[str, NoiseCurves]) -> None:
    """Plots several curves, each with its own line style.

    Args:
      path: Path of the PNG file to write.
      curves: The curves by their names in the legend.
    """
    figure = Figure(figsize=(12, 3.5), layout="constrained")
    levels, skewness, correlation = figure.subplots(1, 3)
    for style, (name, curve) in zip(LINE_STYLES, curves.items(), strict=False):
        channels = curve.std.shape[1]
        colors = CHANNEL_COLORS.get(channels, itertools.cycle(OTHER_COLORS))
        for c, color in zip(range(channels), colors, strict=False):
            line = {"color": color, "linestyle": style}
            label = name if c == 0 else None
            levels.plot(curve.brightness, 255 * curve.std[:, c], label=label, **line)
            skewness.plot(curve.brightness, curve.skewness[:, c], **line)
            correlation.plot(curve.autocorrelation[:, c], marker=".", **line)
    levels.set(xlabel="brightness", ylabel="standard deviation, of 255", xlim=(0, 1))
    levels.set_ylim(bottom=0)
    levels.legend()
    skewness.set(xlabel="brightness", ylabel="skewness", xlim=(0, 1))
    correlation.set(xlabel="distance, pixels", ylabel="autocorrelation")
    for axes in (skewness, correlation):
        axes.axhline(0, color="lightgray", zorder=0)
    figure.savefig(path, format="png", dpi=120)


def _columns(clean, noise):
    """Returns the clean pixels and the noise of all pictures, by channel."""
    pixels = (
        np.concatenate([p.reshape(-1, p.shape[-1]) for p in pictures]).T
        for pictures in (clean, noise)
    )
    return list(zip(*pixels, strict=True))


def _moment(clean, noise, power, num_bins):
    """Returns the mean of noise**power in each bin of brightness, [num_bins]."""
    index = np.clip(np.int64(clean * num_bins), 0, num_bins - 1)
    counts = np.bincount(index, minlength=num_bins)
    total = np.bincount(index, noise**power, minlength=num_bins)
    return np.where(counts >= MIN_PIXELS, total / np.maximum(counts, 1), np.nan)


def _levels(picture, brightness, std):
    """Returns the standard deviation at each pixel, in the shape of the picture."""
    channels = zip(np.moveaxis(picture, -1, 0), std.T, strict=True)
    levels = [_interpolated(*channel, brightness) for channel in channels]
    return np.stack(levels, axis=-1)


def _interpolated(values, std, brightness):
    known = np.isfinite(std)
    if not known.any():
        raise ValueError(
            f"pairs must have {MIN_PIXELS} pixels of similar brightness. "
            "Received: fewer."
        )
    return np.interp(values, brightness[known], std[known]) + 1e-12


def _autocorrelation(pictures, num_lags):
    moments = np.zeros((num_lags, pictures[0].shape[-1]))
    counts = np.zeros((num_lags, 1))
    for picture in pictures:
        for image in (picture, picture.swapaxes(0, 1)):
            for lag in range(min(num_lags, len(image))):
                products = image[lag:] * image[: len(image) - lag]
                moments[lag] += products.sum((0, 1))
                counts[lag] += products.shape[0] * products.shape[1]
    covariance = moments / np.maximum(counts, 1)
    return covariance / covariance[0]
