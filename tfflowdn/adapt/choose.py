"""Compares denoisers by estimates of their errors, and picks the best.

There are two estimates. Stein's estimate needs only the noisy pictures and the learned
noise. Its spread is often larger than the difference of two good denoisers, and it
ignores that noise can be skewed. The score on held-out clean pictures with the learned
noise has a small spread. A denoiser with a better score is picked unless Stein's
estimate contradicts; without a score Stein's estimate must show that it is better.

Neither counts if the first denoiser removes more than the learned noise, so that
Stein's estimate is worse than the noisy pictures. Then the learned noise is too weak,
and a denoiser that removes less would seem better. Calm places often have such noise.
"""

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
NUM_PROBES = 2
CONTRADICTION = 2.0  # In standard errors.
MAX_HARM = 0.5  # Of a first denoiser by a credible estimate, dB.
MIN_EXPECTED = 0.05  # Smaller differences of the scores do not count, dB.


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Estimated errors of several denoisers on the same pictures.

    Attributes:
      best: The name of the denoiser to use. It is the first one if no other is better.
      psnr: Estimated PSNR in dB by denoiser, in the mean over pictures.
      noisy_psnr: Estimated PSNR of the noisy pictures in dB, likewise.
      gain: By denoiser, the difference to the error of the first one, in units of the
        variance of the noise, and the standard error of this number. A positive
        number is a lower error.
      expected: By denoiser, PSNR in dB on clean pictures with the learned noise, in the
        mean; empty without such pictures.
      is_credible: Whether the learned noise is as strong as the noise that the first
        denoiser removes. Otherwise `best` is the first one.
    """

    best: str
    psnr: Mapping[str, float]
    noisy_psnr: float
    gain: Mapping[str, tuple[float, float]]
    expected: Mapping[str, float] = dataclasses.field(default_factory=dict)
    is_credible: bool = True


def compare(
    networks: Mapping[str, keras.Model],
    pictures: Sequence[np.ndarray],
    noise: NoiseModel,
    clean: Sequence[np.ndarray] = (),
) -> Comparison:
    """Compares networks without references, see `inference.estimate_risk`.

    The first network decides the level of the noise of each picture. All networks are
    compared at this level, with the same samples.

    Args:
      networks: The networks by name; the first one is the start.
      pictures: Noisy pictures, float32 [H, W, C] in [0, 1] units.
      noise: The density of their noise.
      clean: Clean pictures, at least 11 pixels high and wide, that no network was
        trained on.
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
                num_probes=NUM_PROBES,
                seed=index,
            )
            for index, picture in enumerate(pictures)
        ]
        levels = levels or [risk.log_level for risk in risks[name]]
    first = next(iter(networks))
    gain = {name: _gain(risks[first], risks[name]) for name in networks}
    expected = {
        name: _expected(network, clean, noise)
        for name, network in networks.items()
        if clean
    }
    pooled = {name: inference.pool_risks(each) for name, each in risks.items()}
    psnr = {name: _mean_psnr(each) for name, each in pooled.items()}
    noisy_psnr = float(np.mean([risk.noisy_psnr for risk in risks[first]]))
    is_credible = psnr[first] > noisy_psnr - MAX_HARM
    return Comparison(
        best=_pick(gain, expected, first) if is_credible else first,
        psnr=psnr,
        noisy_psnr=noisy_psnr,
        gain=gain,
        expected=expected,
        is_credible=is_credible,
    )


def denoise_by(network: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that denoises pictures in [0, 1] units."""
    denoiser, units = inference.Denoiser(network), inference.Scaling(None)
    return lambda picture: denoiser(np.float32(picture), pixel_range=units)


def mean_network(start: keras.Model, trained: keras.Model) -> keras.Model:
    """Returns a network with the mean of the weights of two of one architecture."""
    result = type(trained).from_config(trained.get_config())
    pairs = zip(start.get_weights(), trained.get_weights(), strict=True)
    result.set_weights([(first + second) / 2 for first, second in pairs])
    return result


def _pick(
    gain: Mapping[str, tuple[float, float]], expected: Mapping[str, float], first: str
) -> str:
    """Returns the name of the best denoiser; see the module."""
    if not expected:
        better = [name for name, (mean, error) in gain.items() if mean > error]
        return max(better, key=lambda name: gain[name][0], default=first)
    possible = [
        name
        for name, (mean, error) in gain.items()
        if mean >= -CONTRADICTION * error
        and expected[name] > expected[first] + MIN_EXPECTED
    ]
    return max(possible, key=lambda name: expected[name], default=first)


def _expected(
    network: keras.Model, clean: Sequence[np.ndarray], noise: NoiseModel
) -> float:
    pictures = [inference.middle(picture, SIDE) for picture in clean]
    rows = inference.expected_scores(denoise_by(network), pictures, noise)
    return float(np.mean([row["psnr"] for row in rows]))


def _gain(start: Sequence[Any], other: Sequence[Any]) -> tuple[float, float]:
    shares = [(a.mse - b.mse) / a.noisy_mse for a, b in zip(start, other, strict=True)]
    error = np.std(shares, ddof=1) / np.sqrt(len(shares)) if len(shares) > 1 else 0.0
    return float(np.mean(shares)), float(error)


def _mean_psnr(risks: Sequence[inference.Risk]) -> float:
    return float(np.mean([risk.psnr for risk in risks]))
