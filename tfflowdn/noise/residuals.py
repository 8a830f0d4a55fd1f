"""Estimates the noise from the residuals of a denoiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
from absl import logging

from tfflowdn.noise.crops import NoiseCrops
from tfflowdn.noise.fit import check_pictures, fit_noise
from tfflowdn.noise.lines import MIN_VARIANCE
from tfflowdn.noise.noise_model import NoiseModel

__all__ = ["estimate_noise"]

Pictures = Sequence[np.ndarray]
MAX_CORRECTION = 4.0  # Of the variance of lines in a round.
LEVEL_BANDWIDTH = 0.1  # Width of the kernel in the regression of levels, in nats.


def estimate_noise(
    denoise: Callable[[np.ndarray], np.ndarray],
    noisy: Pictures,
    clean: Pictures,
    *,
    num_rounds: int = 3,
    white_below: float = 0.05,
    crop_size: int = 48,
    crops_per_picture: int = 32,
    batch_size: int = 64,
    num_steps: int = 400,
    learning_rate: float = 0.03,
    seed: int = 0,
    model_options: Mapping[str, float] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> NoiseModel:
    """Learns the noise of pictures from the residuals of a denoiser, without pairs.

    A residual `N - D` is not the noise: some noise stays in D, and some of the picture
    is removed. The bias is measured in a simulation: noise of the current estimate is
    added to the clean pictures, they are denoised, and the same model is fitted to
    their residuals. The bias of this fit is subtracted from the fit to the real
    residuals (simulated moments: McFadden 1989, Gourieroux et al. 1993; the parameters
    of the flow are logarithms of levels). At the fixed point the
    simulated residuals have the statistics of the real residuals.

    The residuals contain little of the low frequencies of the noise. Therefore the
    estimate begins with white noise, and correlations that are smaller than
    `white_below` are set to zero, because a difference between the two sets of pictures
    can cause them. A denoiser that is trained with a correlation of 0.03 loses 0.1 dB
    on white noise.

    Both sets must contain pictures of a similar kind. The denoiser only needs to remove
    a visible part of the noise.

    Args:
      denoise: Maps a picture [H, W, C] in [0, 1] units to the denoised picture.
      noisy: Noisy pictures, float32 [H, W, C], at least `crop_size` high and wide.
      clean: Unrelated clean pictures, likewise.
      num_rounds: Number of simulations; with 0 the fit to the residuals is returned.
      white_below: After a round, noise is set to white if all its autocorrelations are
        smaller.
      crop_size: Height and width of the crops of the fits, in pixels.
      crops_per_picture: Number of crops of each picture.
      batch_size: Crops per step of a fit.
      num_steps: Steps of a fit.
      learning_rate: Initial learning rate of Adam; it falls along a cosine.
      seed: Seed of crops and noise.
      model_options: Further arguments of NoiseModel.
      callbacks: Callbacks of the fits, see `fit_noise`.

    Returns:
      The model, with the level of each noisy picture.

    Raises:
      ValueError: If there are no pictures, or one is smaller than a crop.
    """
    check_pictures(noisy, crop_size, "noisy")
    check_pictures(clean, crop_size, "clean")
    channels = noisy[0].shape[-1]

    def fit(pictures, seed):
        rng = np.random.default_rng(seed)
        pairs = ((denoise(picture), picture) for picture in pictures)
        crops = _crops(pairs, crop_size, crops_per_picture, rng)
        model = NoiseModel(
            channels, num_pictures=len(pictures), **(model_options or {})
        )
        fit_noise(model, crops, num_steps, batch_size, learning_rate, callbacks)
        return model

    logging.info("Fitting the residuals of %d noisy pictures", len(noisy))
    observed = fit(noisy, [seed, 0])
    estimate = _white(observed) if num_rounds else observed
    for i in range(num_rounds):
        rng = np.random.default_rng([seed, 1, i])
        levels = rng.choice(estimate.log_levels.numpy(), len(clean))
        simulated = fit(_with_noise(estimate, clean, levels, [seed, i]), [seed, 2, i])
        estimate = _corrected(estimate, observed, simulated, levels)
        logging.info("Round %d of %d: %s", i + 1, num_rounds, _summary(estimate))
        if _largest_correlation(estimate) < white_below:
            estimate = _white(estimate)
    return estimate


def _crops(pairs, size, count, rng):
    """Returns random crops of (denoised, noisy) pictures."""
    index, signal, noise = [], [], []
    for i, (denoised, noisy) in enumerate(pairs):
        height, width, _ = noisy.shape
        for _ in range(count):
            top = rng.integers(height - size + 1)
            left = rng.integers(width - size + 1)
            window = np.s_[top : top + size, left : left + size]
            index.append(i)
            signal.append(denoised[window])
            noise.append(noisy[window] - denoised[window])
    signal, noise = np.stack(signal), np.stack(noise)
    return NoiseCrops(
        index=np.int32(index),
        signal=signal,
        noise=noise,
        weight=_calmness(signal),
    )


def _calmness(signal):
    """Returns weights [n] of mean 1, smaller for crops with more detail."""
    rows, columns = np.diff(signal, axis=1), np.diff(signal, axis=2)
    activity = np.mean(rows**2, (1, 2, 3)) + np.mean(columns**2, (1, 2, 3))
    weight = 1 / (activity + np.median(activity) + 1e-12)
    return np.float32(weight / weight.mean())


def _with_noise(model, clean, levels, seed):
    """Returns clean pictures with noise of the model at the given levels."""
    result = []
    for i, (picture, level) in enumerate(zip(clean, levels, strict=True)):
        stateless = np.random.default_rng([*seed, i]).integers(2**31, size=2)
        noise = model.sample(picture[np.newaxis], np.int32(stateless), level)
        result.append(picture + noise[0].numpy())
    return result


def _white(model):
    """Returns a copy of the model without correlation between pixels."""
    result = NoiseModel.from_config(model.get_config())
    result.set_weights(model.get_weights())
    result.cepstrum.set_weights([0 * w for w in model.cepstrum.get_weights()])
    return result


def _largest_correlation(model):
    correlation = np.abs(model.autocorrelation(with_lines=False))
    correlation[0, 0] = 0
    return correlation.max()


def _corrected(estimate, observed, simulated, levels):
    """Adds the difference of the observed and the simulated fit to the estimate."""
    config = {**estimate.get_config(), "num_pictures": observed.num_pictures}
    result = NoiseModel.from_config(config)
    models = (result, estimate, observed, simulated)
    for weights in zip(*(_shared_weights(model) for model in models), strict=True):
        target, *values = weights
        old, seen, simulation = (value.numpy() for value in values)
        target.assign(old + seen - simulation)
    if result.lines:
        result.set_line_variances(_corrected_lines(*models[1:]))
    seen, simulation = observed.log_levels.numpy(), simulated.log_levels.numpy()
    distance = (seen[:, np.newaxis] - simulation) / LEVEL_BANDWIDTH
    kernel = keras.ops.convert_to_numpy(keras.ops.softmax(-0.5 * distance**2))
    result.log_levels.assign(seen + kernel @ (levels - simulation))
    return result


def _corrected_lines(estimate, observed, simulated):
    """Returns variances of lines; a denoiser removes a share of them."""
    old, seen, simulation = (
        m.line_variances() for m in (estimate, observed, simulated)
    )
    ratio = seen / np.maximum(simulation, MIN_VARIANCE)
    corrected = old * np.clip(ratio, 1 / MAX_CORRECTION, MAX_CORRECTION)
    return np.where(corrected < MIN_VARIANCE, 0, corrected)


def _shared_weights(model):
    """Returns the weights that do not belong to one picture or to lines."""
    others = [model.log_levels]
    others += model.line_variance.weights if model.lines else []
    return [w for w in model.weights if all(w is not other for other in others)]


def _summary(model):
    _, curve = model.level_curve()
    correlation = model.autocorrelation()[0, 1].mean()
    return (
        f"std {curve[0].mean():.4f} in the dark, {curve[-1].mean():.4f} in the bright, "
        f"correlation of neighbors {correlation:.3f}"
    )
