"""Measures from spectra how soft pictures are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfflowdn.data.crops import RandomCrops
from tfflowdn.data.image_source import ImageSource

__all__ = ["matching_zoom_range"]

CROP_SIZE = 64
# Cycles per pixel; low enough that the picture has more power than its noise.
BANDS = ((0.04, 0.07), (0.10, 0.13))
ZOOMS = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0)
QUANTILES = (0.05, 0.75)


def matching_zoom_range(
    noisy: Sequence[np.ndarray],
    clean: ImageSource,
    noise: np.ndarray | None = None,
    num_crops: int = 400,
) -> tuple[float, float]:
    """Returns the `zoom_range` that makes clean pictures as soft as noisy ones.

    A denoiser that was trained on sharper pictures keeps noise that looks like their
    detail. Softness is measured by the ratio of the power in a high and in a low band
    of the luminance, after the power of the noise is subtracted. For each noisy
    picture, the zoom is chosen for which the clean pictures have the same ratio. The
    range is from the 5th to the 75th percentile of the zooms, because a picture that
    is sharper than the training pictures loses more than a softer one.

    Args:
      noisy: Pictures, float [H, W, C] in [0, 1], at least 64 pixels high and wide.
      clean: The clean pictures, with the same number of channels.
      noise: Crops of the pure noise [n, 64, 64, C]; None if there is hardly any.
      num_crops: Crops of the clean pictures for each zoom.

    Returns:
      (low, high), from 1 to 6. Zooms up to 2 can hardly be distinguished, because they
      differ mainly outside of the bands.

    Raises:
      ValueError: If there are no pictures, or one is smaller than a crop.
    """
    smallest = min((min(image.shape[:2]) for image in noisy), default=0)
    if smallest < CROP_SIZE:
        raise ValueError(
            f"noisy must be pictures of at least {CROP_SIZE} x {CROP_SIZE} pixels. "
            f"Received: {len(noisy)} pictures, the smallest side {smallest}."
        )
    noise_powers = 0.0 if noise is None else _band_powers(noise)
    ratios = [_ratio(_grid(image), noise_powers) for image in noisy]
    known = [_ratio(_crops(clean, zoom, num_crops)) for zoom in ZOOMS]
    # For small zooms, the ratio of sharp pictures changes by no more than chance.
    falling = np.minimum.accumulate(known)
    zooms = np.interp(np.negative(ratios), np.negative(falling), ZOOMS)
    low, high = np.quantile(zooms, QUANTILES)
    return float(low), float(high)


def _ratio(crops: np.ndarray, noise_powers: np.ndarray | float = 0.0) -> float:
    low, high = np.maximum(_band_powers(crops) - noise_powers, 0.0)
    return high / max(low, np.finfo(float).tiny)


def _band_powers(crops: np.ndarray) -> np.ndarray:
    """Returns the mean power of the luminance of crops [n, size, size, C] by band."""
    luminance = np.mean(crops, -1)
    luminance = luminance - luminance.mean((1, 2), keepdims=True)
    window = np.hanning(CROP_SIZE)
    spectra = np.fft.rfft2(luminance * window * window[:, np.newaxis])
    power = np.mean(np.abs(spectra) ** 2, 0)
    rows, columns = np.fft.fftfreq(CROP_SIZE), np.fft.rfftfreq(CROP_SIZE)
    frequency = np.hypot(rows[:, np.newaxis], columns)
    return np.array(
        [power[(frequency >= low) & (frequency < high)].mean() for low, high in BANDS]
    )


def _grid(image: np.ndarray) -> np.ndarray:
    """Returns crops that overlap by half, [n, size, size, C]."""
    windows = np.lib.stride_tricks.sliding_window_view(
        image, (CROP_SIZE, CROP_SIZE), (0, 1)
    )
    grid = np.moveaxis(windows[:: CROP_SIZE // 2, :: CROP_SIZE // 2], 2, -1)
    return grid.reshape(-1, CROP_SIZE, CROP_SIZE, image.shape[-1])


def _crops(source: ImageSource, zoom: float, count: int) -> np.ndarray:
    crops = RandomCrops(
        source, crop_size=CROP_SIZE, batch_size=count, zoom_range=(zoom, zoom)
    )
    return next(iter(crops(0))).numpy()
