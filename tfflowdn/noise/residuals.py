"""The noise from what a denoiser takes away."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
from absl import logging

from tfflowdn.noise.fit import NoiseCrops, check_pictures, fit_noise
from tfflowdn.noise.noise_model import NoiseModel

__all__ = ["estimate_noise"]

Pictures = Sequence[np.ndarray]
LEVEL_BANDWIDTH = 0.1  # Nats; the width of the kernel of the levels' regression.


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
) -> NoiseModel:
    """Learns the noise of pictures from their denoiser's residuals, without pairs.

    A denoiser's residual `N - D` is not the noise: some of the noise stays in D, and
    some of the picture goes. How much, an experiment tells: noise of the model so far
    is added to the clean pictures, they are denoised, and the same model is fitted to
    their residuals. By as much as that fit is off the noise that was added, the fit to
    the real residuals is taken to be off the real noise (simulated moments; McFadden
    1989, Gourieroux et al. 1993, on the parameters of the flow, all of them logarithms
    of levels). At its fixed point the simulated residuals look as the real ones do.

    The residuals hardly show the noise's low frequencies, which pass for the picture.
    So the estimate begins with white noise and moves away from it only as far as the
    residuals ask for, and not at all for a correlation so small that the difference of
    the two pools' pictures may feign it: a denoiser that is trained on white noise with
    a correlation of 0.03 loses 0.1 dB.

    It needs pictures of a like kind in both pools, and no more of the denoiser than
    that the noise shows in what it takes away.

    Args:
      denoise: Maps a picture [H, W, C] in [0, 1] units to the denoised one.
      noisy: Noisy pictures, float32 [H, W, C], at least `crop_size` high and wide.
      clean: Clean ones, unrelated.
      num_rounds: Number of experiments; 0 leaves the fit to the residuals.
      white_below: After a round, noise none of whose autocorrelations is as large is
        taken for white.
      crop_size: Height and width of the crops that the fits see, pixels.
      crops_per_picture: Crops of each picture.
      batch_size: Crops a step of a fit.
      num_steps: Steps of a fit.
      learning_rate: Adam's, it falls along a cosine.
      seed: Of crops and noise.
      model_options: Further arguments of NoiseModel.

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
        fit_noise(model, crops, num_steps, batch_size, learning_rate)
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
    """Returns weights [n] of mean 1, less where there is more detail to be lost."""
    rows, columns = np.diff(signal, axis=1), np.diff(signal, axis=2)
    activity = np.mean(rows**2, (1, 2, 3)) + np.mean(columns**2, (1, 2, 3))
    weight = 1 / (activity + np.median(activity) + 1e-12)
    return np.float32(weight / weight.mean())


def _with_noise(model, clean, levels, seed):
    """Returns clean pictures with noise of the model, each of its own level."""
    result = []
    for i, (picture, level) in enumerate(zip(clean, levels, strict=True)):
        stateless = np.random.default_rng([*seed, i]).integers(2**31, size=2)
        noise = model.sample(picture[np.newaxis], np.int32(stateless), level)
        result.append(picture + noise[0].numpy())
    return result


def _white(model):
    """Returns a copy whose pixels are not correlated with one another."""
    result = NoiseModel.from_config(model.get_config())
    result.set_weights(model.get_weights())
    result.cepstrum.set_weights([0 * w for w in model.cepstrum.get_weights()])
    return result


def _largest_correlation(model):
    correlation = np.abs(model.autocorrelation())
    correlation[0, 0] = 0
    return correlation.max()


def _corrected(estimate, observed, simulated, levels):
    """Moves the estimate by how far the simulated fit is from the observed one."""
    config = {**estimate.get_config(), "num_pictures": observed.num_pictures}
    result = NoiseModel.from_config(config)
    models = (result, estimate, observed, simulated)
    for weights in zip(*(_shared_weights(model) for model in models), strict=True):
        target, *values = weights
        old, seen, simulation = (value.numpy() for value in values)
        target.assign(old + seen - simulation)
    seen, simulation = observed.log_levels.numpy(), simulated.log_levels.numpy()
    distance = (seen[:, np.newaxis] - simulation) / LEVEL_BANDWIDTH
    kernel = keras.ops.convert_to_numpy(keras.ops.softmax(-0.5 * distance**2))
    result.log_levels.assign(seen + kernel @ (levels - simulation))
    return result


def _shared_weights(model):
    """Returns the weights that are not a picture's own."""
    return [weight for weight in model.weights if weight is not model.log_levels]


def _summary(model):
    _, curve = model.level_curve()
    correlation = model.autocorrelation()[0, 1].mean()
    return (
        f"std {curve[0].mean():.4f} where dark, {curve[-1].mean():.4f} where bright, "
        f"correlation {correlation:.3f} of neighbours"
    )
