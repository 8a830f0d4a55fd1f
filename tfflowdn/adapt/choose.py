"""Compares denoisers by the estimated error on noisy pictures, and picks the best."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfflowdn import inference
from tfflowdn.noise import NoiseModel

__all__ = ["Comparison", "compare", "denoise_by", "mean_network"]

SIDE = 256  # Pictures are compared in their middle.


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Estimated errors of several denoisers on the same pictures.

    Attributes:
      best: The name of the denoiser with the lowest estimated error. It is the first
        one if no other is better by more than the uncertainty of the difference.
      psnr: Estimated PSNR in dB by denoiser, in the mean over pictures.
      noisy_psnr: Estimated PSNR of the noisy pictures in dB, likewise.
      gain: By denoiser, the difference to the error of the first one, in units of the
        variance of the noise, and the standard error of this number. A positive
        number is a lower error.
    """

    best: str
    psnr: Mapping[str, float]
    noisy_psnr: float
    gain: Mapping[str, tuple[float, float]]


def compare(
    networks: Mapping[str, keras.Model],
    pictures: Sequence[np.ndarray],
    noise: NoiseModel,
) -> Comparison:
    """Compares networks without references, see `inference.estimate_risk`.

    The first network decides the level of the noise of each picture. All networks are
    compared at this level, with the same samples.

    Args:
      networks: The networks by name; the first one is the start.
      pictures: Noisy pictures, float32 [H, W, C] in [0, 1] units.
      noise: The density of their noise.
    """
    pictures = [inference.middle(picture, SIDE) for picture in pictures]
    levels = None
    risks = {}
    for name, network in networks.items():
        risks[name] = [
            inference.estimate_risk(
                denoise_by(network),
                picture,
                noise,
                log_level=levels and levels[index],
                seed=index,
            )
            for index, picture in enumerate(pictures)
        ]
        levels = levels or [risk.log_level for risk in risks[name]]
    first = next(iter(networks))
    gain = {name: _gain(risks[first], risks[name]) for name in networks}
    better = [name for name in networks if gain[name][0] > gain[name][1]]
    best = max(better, key=lambda name: gain[name][0], default=first)
    pooled = {name: inference.pool_risks(each) for name, each in risks.items()}
    return Comparison(
        best=best,
        psnr={name: _mean_psnr(each) for name, each in pooled.items()},
        noisy_psnr=float(np.mean([risk.noisy_psnr for risk in risks[first]])),
        gain=gain,
    )


def denoise_by(network: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that denoises pictures in [0, 1] units."""
    denoiser = inference.Denoiser(network)
    return lambda picture: denoiser(np.float32(picture), pixel_range="dtype")


def mean_network(start: keras.Model, trained: keras.Model) -> keras.Model:
    """Returns a network with the mean of the weights of two of one architecture."""
    result = type(trained).from_config(trained.get_config())
    pairs = zip(start.get_weights(), trained.get_weights(), strict=True)
    result.set_weights([(first + second) / 2 for first, second in pairs])
    return result


def _gain(start: Sequence[Any], other: Sequence[Any]) -> tuple[float, float]:
    shares = [(a.mse - b.mse) / a.noisy_mse for a, b in zip(start, other, strict=True)]
    error = np.std(shares, ddof=1) / np.sqrt(len(shares)) if len(shares) > 1 else 0.0
    return float(np.mean(shares)), float(error)


def _mean_psnr(risks: Sequence[inference.Risk]) -> float:
    return float(np.mean([risk.psnr for risk in risks]))
