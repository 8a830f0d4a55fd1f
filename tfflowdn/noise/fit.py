"""Fits a noise model to crops of noise."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tfflowdn.noise.crops import NoiseCrops, tapered
from tfflowdn.noise.lines import line_variances, without_lines
from tfflowdn.noise.noise_model import NoiseModel
from tfflowdn.progress import StepProgress

__all__ = ["check_pictures", "fit_noise"]


def check_pictures(pictures: Sequence[np.ndarray], crop_size: int, name: str) -> None:
    """Checks that there are pictures, each at least as large as a crop.

    Raises:
      ValueError: If there are none, or one is smaller.
    """
    sizes = [picture.shape[:2] for picture in pictures]
    if not sizes or min(min(size) for size in sizes) < crop_size:
        raise ValueError(
            f"{name} must hold pictures of at least {crop_size=} pixels a side. "
            f"Received: {len(sizes)} pictures, the smallest {min(sizes, default=None)}."
        )


def fit_noise(
    model: NoiseModel,
    crops: NoiseCrops,
    num_steps: int,
    batch_size: int,
    learning_rate: float,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Fits a model to crops by maximum likelihood.

    The common parts of rows and columns are estimated first, by moments, and are
    removed for the rest of the fit.

    Args:
      model: The model; its levels are initialized with the levels of the crops.
      crops: Crops of the pictures of the model.
      num_steps: Steps of Adam.
      batch_size: Crops per step.
      learning_rate: Initial learning rate; it falls along a cosine.
      callbacks: Callbacks of the two parts of the fit.
    """
    lines = line_variances(crops) if model.lines else None
    if lines is not None:
        crops = without_lines(crops, lines)
        model.set_line_variances(0 * lines)
    model.log_levels.assign(_log_levels(crops, model.num_pictures))
    skew = model.noise_skew.weights
    fixed = [*skew, *(model.line_variance.weights if model.lines else [])]
    others = [w for w in model.trainable_weights if all(w is not f for f in fixed)]
    # Tapered noise is often near zero, which would hide the skewness.
    for weights, part in ((others, tapered(crops)), (skew, crops)):
        _fit_weights(
            model, weights, part, num_steps, batch_size, learning_rate, callbacks
        )
    for weight in (*others, *fixed):
        weight.trainable = True
    if lines is not None:
        model.set_line_variances(lines)


def _log_levels(crops, num_pictures):
    power = np.mean(crops.noise**2, (1, 2, 3))
    count = np.bincount(crops.index, minlength=num_pictures)
    total = np.bincount(crops.index, power, minlength=num_pictures)
    mean = np.where(count > 0, total / np.maximum(count, 1), power.mean())
    return np.float32(np.log(mean + 1e-12) / 2)


def _fit_weights(
    model, weights, crops, num_steps, batch_size, learning_rate, callbacks
):
    """Fits some of the weights; the others stay the same."""
    for weight in model.weights:
        weight.trainable = any(weight is w for w in weights)
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, num_steps, 0.01)
    model.compile(keras.optimizers.Adam(schedule))
    batch_size = min(batch_size, len(crops.index))
    data = ((crops.index, crops.signal), crops.noise, crops.weight)
    batches = (
        tf.data.Dataset.from_tensor_slices(data)
        .shuffle(len(crops.index), seed=0)
        .repeat()
        .batch(batch_size, drop_remainder=True)
    )
    model.fit(
        batches,
        steps_per_epoch=num_steps,
        shuffle=False,
        verbose=0,
        callbacks=[StepProgress(num_steps, "Noise", show_epochs=False), *callbacks],
    )
