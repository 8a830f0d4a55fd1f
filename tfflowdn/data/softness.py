"""How soft pictures are to the pixel, told by their spectra."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfflowdn.data.crops import RandomCrops
from tfflowdn.data.image_source import ImageSource

__all__ = ["matching_zoom_range"]

CROP_SIZE = 64
# Low enough for a picture to have more power there than its noise, cycles a pixel.
BANDS = ((0.04, 0.07), (0.10, 0.13))
ZOOMS = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0)
QUANTILES = (0.05, 0.75)


def matching_zoom_range(
    noisy: Sequence[np.ndarray],
    clean: ImageSource,
    noise: np.ndarray | None = None,
    num_crops: int = 400,
) -> tuple[float, float]:
    """Returns the `zoom_range` with which clean pictures are as soft as noisy ones.

    A denoiser that has learned from sharper pictures leaves noise that looks like their
    detail. How soft a picture is, the power of a high band of its luminance over that
    of a low one tells; the noise's own power is taken off. For each noisy picture the
    zoom is that with which the clean pictures have the same ratio. The range goes from
    the zooms' 5th percentile to their 75th: a picture that is sharper than what the
    denoiser knows loses more than one that is softer.

    Args:
      noisy: Pictures, float [H, W, C] in [0, 1] units, at least 64 high and wide.
      clean: The clean pictures, of as many channels.
      noise: Crops of the noise alone [n, 64, 64, C]; None where there is hardly any.
      num_crops: Crops of the clean pictures for each zoom.

    Returns:
      (low, high), from 1 to 6. Zooms up to 2 are hardly told apart: what they lack lies
      beyond the bands.

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
    # Enlarged a little, sharp pictures change their ratio as little as chance does.
    falling = np.minimum.accumulate(known)
    zooms = np.interp(np.negative(ratios), np.negative(falling), ZOOMS)
    low, high = np.quantile(zooms, QUANTILES)
    return float(low), float(high)


def _ratio(crops, noise_powers=0.0):
    low, high = np.maximum(_band_powers(crops) - noise_powers, 0.0)
    return high / max(low, np.finfo(float).tiny)


def _band_powers(crops):
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


def _grid(image):
    """Returns crops that overlap by half, [n, size, size, C]."""
    windows = np.lib.stride_tricks.sliding_window_view(
        image, (CROP_SIZE, CROP_SIZE), (0, 1)
    )
    grid = np.moveaxis(windows[:: CROP_SIZE // 2, :: CROP_SIZE // 2], 2, -1)
    return grid.reshape(-1, CROP_SIZE, CROP_SIZE, image.shape[-1])


def _crops(source, zoom, count):
    crops = RandomCrops(
        source, crop_size=CROP_SIZE, batch_size=count, zoom_range=(zoom, zoom)
    )
    return next(iter(crops(0))).numpy()
