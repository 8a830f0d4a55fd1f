"""Estimates the noise from the flattest places of noisy pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from absl import logging

from tfflowdn.noise.crops import NoiseCrops, tapered
from tfflowdn.noise.fit import check_pictures, fit_noise
from tfflowdn.noise.lines import without_lines
from tfflowdn.noise.noise_model import NoiseModel

__all__ = ["calm_crops", "estimate_calm_noise"]

CLIPPED_SHARE = 0.1  # Crops with a larger share of extreme pixels are not used.


def estimate_calm_noise(
    noisy: Sequence[np.ndarray],
    *,
    crop_size: int = 32,
    calm_share: float = 0.1,
    kept_share: float = 0.7,
    num_trims: int = 2,
    batch_size: int = 64,
    num_steps: int = 300,
    learning_rate: float = 0.03,
    model_options: Mapping[str, float] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> NoiseModel:
    """Learns the noise from the flattest crops of the pictures.

    A plane is fitted to each crop by least squares; in the flattest crops the rest is
    taken as noise. Some of these crops contain texture. The flow turns noise into white
    latents but texture into latents that are not white, so the crops with the least
    white latents after a fit are left out of the next fit (a trimmed likelihood; Neykov
    and Mueller 2003).

    This method needs neither a denoiser nor clean pictures, and works for noise of any
    correlation. It measures only the noise of flat places: a camera that smooths them
    leaves more noise elsewhere.

    Args:
      noisy: Noisy pictures, float32 [H, W, C], at least `crop_size` high and wide.
      crop_size: Height and width of the crops, in pixels.
      calm_share: Share of the crops of each picture that are used.
      kept_share: Share of these crops that are kept by a trim.
      num_trims: Number of trims, each followed by a fit.
      batch_size: Crops per step of a fit.
      num_steps: Steps of a fit.
      learning_rate: Initial learning rate of Adam; it falls along a cosine.
      model_options: Further arguments of NoiseModel.
      callbacks: Callbacks of the fits, see `fit_noise`.

    Returns:
      The model, with the level of each picture that has kept crops.

    Raises:
      ValueError: If there are no pictures, one is smaller than a crop, a share is not
        in (0, 1], or all crops are clipped or constant.
    """
    check_pictures(noisy, crop_size, "noisy")
    _check_shares(calm_share=calm_share, kept_share=kept_share)
    calm = calm_crops(noisy, crop_size, calm_share)

    def fit(crops):
        pictures, index = np.unique(crops.index, return_inverse=True)
        crops = crops.renumbered(np.int32(index))
        model = NoiseModel(
            noisy[0].shape[-1], num_pictures=len(pictures), **(model_options or {})
        )
        fit_noise(model, crops, num_steps, batch_size, learning_rate, callbacks)
        return model

    logging.info("Fitting %d calm crops of %d pictures", len(calm.index), len(noisy))
    model = fit(calm)
    for _ in range(num_trims):
        whiteness = _whiteness(model, calm)
        model = fit(calm[whiteness >= np.quantile(whiteness, 1 - kept_share)])
    return model


def calm_crops(pictures: Sequence[np.ndarray], size: int, share: float) -> NoiseCrops:
    """Returns the flattest crops of pictures, and the plane that fits each.

    Args:
      pictures: Noisy pictures, float32 [H, W, C].
      size: Height and width of the crops, in pixels.
      share: Share of the crops of each picture that are taken.

    Raises:
      ValueError: If all crops are clipped or constant.
    """
    index, signal, noise = [], [], []
    for i, picture in enumerate(pictures):
        crops = _without_clipped(_grid(picture, size), picture)
        if not len(crops):
            continue
        planes = _planes(crops)
        variance = _variance_within_lines(crops - planes)
        calmest = np.argsort(variance)[: max(1, round(share * len(crops)))]
        calmest = calmest[variance[calmest] > 0]
        index.append(np.full(len(calmest), i))
        signal.append(planes[calmest])
        noise.append((crops - planes)[calmest])
    if not sum(map(len, index)):
        raise ValueError(
            "noisy must have places that are neither clipped nor constant. "
            f"Received: none in {len(pictures)} pictures."
        )
    index = np.int32(np.concatenate(index))
    weight = np.ones(len(index), np.float32)
    return NoiseCrops(index, np.concatenate(signal), np.concatenate(noise), weight)


def _check_shares(**shares):
    for name, share in shares.items():
        if not 0 < share <= 1:
            raise ValueError(f"{name} must be in (0, 1]. Received: {name}={share}.")


def _grid(picture, size):
    """Returns crops that overlap by half, [n, size, size, C]."""
    windows = np.lib.stride_tricks.sliding_window_view(picture, (size, size), (0, 1))
    step = max(1, size // 2)
    grid = np.moveaxis(windows[::step, ::step], 2, -1)
    return grid.reshape(-1, size, size, picture.shape[-1])


def _without_clipped(crops, picture):
    extreme = (crops <= picture.min()) | (crops >= picture.max())
    return crops[np.mean(extreme, (1, 2, 3)) <= CLIPPED_SHARE]


def _planes(crops):
    """Returns the least-squares plane of each crop and channel."""
    size = crops.shape[1]
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    ramp /= np.sqrt(np.mean(ramp**2))
    mean = crops.mean((1, 2), keepdims=True)
    rows, columns = ramp[:, np.newaxis, np.newaxis], ramp[:, np.newaxis]
    slope = [(crops * r).mean((1, 2), keepdims=True) * r for r in (rows, columns)]
    return mean + sum(slope)


def _variance_within_lines(noise):
    """Returns the variance of each crop [n] without the means of rows and columns.

    Else the crops in which these are small would be taken as calm.
    """
    rest = noise - noise.mean(1, keepdims=True)
    return np.mean((rest - rest.mean(2, keepdims=True)) ** 2, (1, 2, 3))


def _whiteness(model, crops):
    """Returns the logarithm of the spectral flatness of the latents of each crop, [n].

    The flatness is the geometric mean of the power over its arithmetic mean.
    """
    parts = [
        _log_flatness(model, crops[start : start + 256])
        for start in range(0, len(crops.index), 256)
    ]
    return np.concatenate(parts)


def _log_flatness(model, crops):
    # The flow scales by the brightness; the level of the picture does not matter.
    crops = without_lines(crops, model.line_variances())
    flow = model.distribution(crops.signal, with_lines=False).bijector
    latents = flow.inverse(tapered(crops).noise).numpy()
    power = np.abs(np.fft.fft2(latents, axes=(1, 2))) ** 2 + 1e-12
    return np.log(power).mean((1, 2, 3)) - np.log(power.mean((1, 2, 3)))
