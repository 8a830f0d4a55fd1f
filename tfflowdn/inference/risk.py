"""Estimates of the error of denoised pictures, without references.

Stein's unbiased risk estimate (Stein 1981), for noise of known density. A picture is
y = x + n, where x is fixed and n has mean 0 and covariance S. A denoiser f has the
squared error

    |f(y) - x|^2 = |f(y) - y|^2 + 2 <n, f(y) - y> + |n|^2,

and in the mean over n, because E<n, y> = E|n|^2 = tr S,

    E|f(y) - x|^2 = E|f(y) - y|^2 - tr S + 2 E<n, f(y)>.

For Gaussian n, E<n, f(y)> = E tr(S J) with the Jacobian J of f at y (Stein's lemma; the
form for any covariance is in Eldar 2009). The trace needs no matrix: for a probe b of
mean 0 and covariance S, tr(S J) = E<b, J b> (Ramani, Blu and Unser 2008). A sample of
the learned noise at the denoised picture is such a probe, so correlation over pixels
and channels and the dependence on the brightness are included. J b is a central
difference of the denoiser. There are two approximations: S is taken at f(y) in place of
x, and the third moments of skewed noise are ignored.

The estimate of one picture varies with |n|^2, whose standard deviation is a share of
sqrt(2 / N) of tr S for N independent pixels; after a strong denoiser this is much of
the error. A rehearsal varies less: noise is added to the denoised picture, and the sum
is denoised. Its error is too small, because the denoised picture has little fine
detail. The factor is similar for all pictures. `pool_risks` finds the factor from the
means over all pictures, and weighs the two estimates of a picture by their spreads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from tfflowdn.noise import NoiseModel

__all__ = [
    "Risk",
    "estimate_risk",
    "match_level",
    "middle",
    "noise_variance",
    "pool_risks",
]

Denoise = Callable[[np.ndarray], np.ndarray]

BLOCK = 8  # Side in pixels of the blocks that are found to be calm or not.
CALM_SHARE = 0.3
STEP = 0.1  # Of the central difference, in units of the noise.
LOWEST_SHARE = 0.01  # No estimate is below this share of the variance of the noise.
FACTOR_SPREAD = 0.15  # Of the error over the rehearsed error, in nats; measured.


@dataclasses.dataclass(frozen=True)
class Risk:
    """Estimates for one picture, in [0, 1] units.

    Attributes:
      mse: Mean squared error of the denoised picture.
      spread: Standard deviation of the logarithm of `mse`.
      rehearsed_mse: Error on the denoised picture with new noise.
      noisy_mse: Mean variance of the noise.
      log_level: Logarithm of the level of the noise, as in `NoiseModel.sample`.
      structure: Share of the removed power that the noise does not explain, 0 to 1, in
        the half of the picture that has most detail.
      denoised: The denoised picture [H, W, C].
      removed_map: Power that was removed over the power that the noise explains, for
        blocks of 8 x 8 pixels, [H // 8, W // 8]; 1 where only noise was removed.
    """

    mse: float
    spread: float
    rehearsed_mse: float
    noisy_mse: float
    log_level: float
    structure: float
    denoised: np.ndarray = dataclasses.field(repr=False)
    removed_map: np.ndarray = dataclasses.field(repr=False)

    @property
    def psnr(self) -> float:
        """Estimated PSNR of the denoised picture, in dB."""
        return float(-10 * np.log10(self.mse))

    @property
    def noisy_psnr(self) -> float:
        """Estimated PSNR of the noisy picture, in dB."""
        return float(-10 * np.log10(self.noisy_mse))


def estimate_risk(
    denoise: Denoise,
    picture: np.ndarray,
    noise: NoiseModel,
    *,
    log_level: float | None = None,
    num_probes: int = 1,
    seed: int = 0,
) -> Risk:
    """Estimates the error of a denoised picture; see the module.

    Args:
      denoise: Maps a picture [H, W, C] in [0, 1] units to the denoised picture.
      picture: Noisy picture, float32 [H, W, C], at least 16 pixels high and wide.
      noise: The density of its noise.
      log_level: The level of its noise; by default `match_level` finds it.
      num_probes: Samples of the noise for the divergence; each costs two calls of
        `denoise`.
      seed: Seed of the samples.

    Returns:
      The estimates. They are at least a hundredth of the variance of the noise, since
      the estimate of a small error can be negative.

    Raises:
      ValueError: If the picture is too small, or does not fit the noise.
    """
    _check(picture, noise)
    denoised = denoise(picture)
    if log_level is None:
        log_level = match_level(denoise, picture, noise, denoised=denoised, seed=seed)
    signal = np.clip(denoised, 0, 1)
    variance = float(noise_variance(noise, signal, log_level).mean())
    divergence = np.mean(
        [
            _divergence(denoise, picture, _draw(noise, signal, log_level, [seed, i]))
            for i in range(num_probes)
        ]
    )
    residual = picture - denoised
    mse = float(np.mean(residual**2)) - variance + 2 * float(divergence)
    mse = max(mse, LOWEST_SHARE * variance + 1e-12)
    rehearsed = denoised + _draw(noise, signal, log_level, [seed, num_probes])
    again = denoise(rehearsed)
    structure, removed_map = _structure(residual, rehearsed - again, denoised)
    return Risk(
        mse=mse,
        spread=variance * np.sqrt(2 / _num_independent(noise, picture.size)) / mse,
        rehearsed_mse=float(np.mean((again - denoised) ** 2)) + 1e-12,
        noisy_mse=max(variance, 1e-12),
        log_level=log_level,
        structure=structure,
        denoised=denoised,
        removed_map=removed_map,
    )


def pool_risks(risks: Sequence[Risk]) -> list[Risk]:
    """Returns better estimates of pictures that one denoiser has denoised.

    Args:
      risks: The estimates, one for each picture; see the module.

    Returns:
      The same with other `mse` and `spread`.
    """
    if not risks:
        return []
    total = sum(risk.mse for risk in risks)
    factor = total / sum(risk.rehearsed_mse for risk in risks)
    return [_pooled(risk, factor) for risk in risks]


def match_level(
    denoise: Denoise,
    picture: np.ndarray,
    noise: NoiseModel,
    *,
    denoised: np.ndarray | None = None,
    num_rounds: int = 2,
    seed: int = 0,
) -> float:
    """Finds the level of the noise of a picture.

    Noise of the model is added to the denoised picture, and the sum is denoised. At the
    returned level, the power that is removed from calm places is equal to the power of
    the picture's residual there. The denoised picture decides which places are calm.
    The level is too low if the denoiser leaves much of the noise.

    Args:
      denoise: Maps a picture [H, W, C] in [0, 1] units to the denoised picture.
      picture: Noisy picture, float32 [H, W, C].
      noise: The density of its noise, of any level.
      denoised: `denoise(picture)`, if it is known.
      num_rounds: Number of simulations.
      seed: Seed of the noise.

    Returns:
      The logarithm of the level, as in `NoiseModel.sample`.
    """
    denoised = denoise(picture) if denoised is None else denoised
    signal = np.clip(denoised, 0, 1)
    calm = _calm_blocks(denoised)
    observed = _blocks((picture - denoised) ** 2)[calm].mean()
    # The first guess: all noise is removed.
    at_zero = _blocks(noise_variance(noise, signal, 0.0))[calm].mean()
    level = 0.5 * np.log((observed + 1e-12) / at_zero)
    for i in range(num_rounds):
        rehearsed = denoised + _draw(noise, signal, level, [seed, 1000 + i])
        removed = _blocks((rehearsed - denoise(rehearsed)) ** 2)[calm].mean()
        level += 0.5 * np.log((observed + 1e-12) / (removed + 1e-12))
    return float(level)


def noise_variance(
    noise: NoiseModel, signal: np.ndarray, log_level: float
) -> np.ndarray:
    """Returns the variance of the noise of each pixel and channel.

    Args:
      noise: The density of the noise.
      signal: Picture without noise, [H, W, C] in [0, 1] units.
      log_level: The level of the noise, as in `NoiseModel.sample`.
    """
    brightness, std = noise.level_curve()
    std = std / np.sqrt(np.mean(np.exp(2 * noise.log_levels.numpy())))
    channels = zip(np.moveaxis(signal, -1, 0), std.T, strict=True)
    relative = [np.interp(values, brightness, curve) for values, curve in channels]
    return np.stack(relative, -1) ** 2 * np.exp(2 * log_level)


def middle(picture: np.ndarray, side: int) -> np.ndarray:
    """Returns the middle of a picture [H, W, C], at most `side` high and wide."""
    top, left = (max(0, (size - side) // 2) for size in picture.shape[:2])
    return picture[top : top + side, left : left + side]


def _pooled(risk: Risk, factor: float) -> Risk:
    precisions = 1 / np.square([risk.spread + 1e-6, FACTOR_SPREAD])
    logs = np.log([risk.mse, factor * risk.rehearsed_mse])
    mse = float(np.exp(precisions @ logs / precisions.sum()))
    spread = float(precisions.sum() ** -0.5)
    return dataclasses.replace(risk, mse=mse, spread=spread)


def _num_independent(noise: NoiseModel, size: int) -> float:
    """Returns the number of independent values with the spread of correlated ones."""
    correlation = noise.autocorrelation()
    # All lags: those along both axes occur four times, on an axis twice, and 0 once.
    times = np.full(correlation.shape[:2], 4.0)
    times[0], times[:, 0], times[0, 0] = 2, 2, 1
    return size / float(np.einsum("hw,hwc->c", times, correlation**2).mean())


def _check(picture: np.ndarray, noise: NoiseModel) -> None:
    shape = picture.shape
    if len(shape) != 3 or min(shape[:2]) < 2 * BLOCK or shape[2] != noise.channels:
        raise ValueError(
            f"picture must be [H, W, {noise.channels}], at least {2 * BLOCK} pixels "
            f"high and wide. Received: picture.shape={shape}."
        )


def _draw(
    noise: NoiseModel, signal: np.ndarray, log_level: float, seed: list[int]
) -> np.ndarray:
    sample = noise.sample(signal[np.newaxis], np.int32(seed), log_level)
    return sample[0].numpy()


def _divergence(denoise: Denoise, picture: np.ndarray, probe: np.ndarray) -> float:
    """Returns <b, J b> for each pixel and channel, in the mean."""
    high, low = (denoise(picture + sign * STEP * probe) for sign in (1, -1))
    return float(np.mean(probe * (high - low)) / (2 * STEP))


def _blocks(values: np.ndarray) -> np.ndarray:
    """Returns the means over blocks and channels, [H // 8, W // 8]."""
    rows, columns = (size // BLOCK for size in values.shape[:2])
    values = values[: rows * BLOCK, : columns * BLOCK]
    return values.reshape(rows, BLOCK, columns, BLOCK, -1).mean((1, 3, 4))


def _activity(denoised: np.ndarray) -> np.ndarray:
    rows, columns = np.gradient(denoised, axis=(0, 1))
    return _blocks(rows**2 + columns**2)


def _calm_blocks(denoised: np.ndarray) -> np.ndarray:
    """Returns a mask of the blocks with least detail and no extreme pixels, [h, w]."""
    activity = _activity(denoised)
    level = _blocks(denoised)
    inside = (level > 0.01) & (level < 0.99)
    inside = inside if inside.mean() > 0.05 else np.ones_like(inside)
    calm = activity <= np.quantile(activity[inside], CALM_SHARE)
    return calm & inside


def _structure(
    residual: np.ndarray, rehearsed: np.ndarray, denoised: np.ndarray
) -> tuple[float, np.ndarray]:
    """Returns the share of removed structure, and the map of it."""
    seen, explained = _smooth(_blocks(residual**2)), _smooth(_blocks(rehearsed**2))
    activity = _activity(denoised)
    busy = activity >= np.median(activity)
    share = 1 - explained[busy].sum() / max(seen[busy].sum(), 1e-12)
    return float(np.clip(share, 0, 1)), seen / np.maximum(explained, 1e-12)


def _smooth(blocks: np.ndarray) -> np.ndarray:
    """Returns the means over 3 x 3 blocks."""
    padded = np.pad(blocks, 1, "edge")
    return np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).mean((2, 3))
