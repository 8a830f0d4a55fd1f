"""Fits a noise model to crops of noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tfflowdn.noise.noise_model import NoiseModel
from tfflowdn.progress import StepProgress

__all__ = ["NoiseCrops", "check_pictures", "fit_noise", "tapered"]


@dataclasses.dataclass(frozen=True)
class NoiseCrops:
    """Crops of noise and of the pictures without noise.

    Attributes:
      index: Number of the picture of each crop, int32 [n].
      signal: Crops without noise, float32 [n, H, W, C] in [0, 1] units.
      noise: Noise of the same shape.
      weight: Weight of each crop in the fit, float32 [n].
    """

    index: np.ndarray
    signal: np.ndarray
    noise: np.ndarray
    weight: np.ndarray

    def __getitem__(self, chosen: slice | np.ndarray) -> NoiseCrops:
        """Returns the crops that a slice, a mask or an array of numbers selects."""
        fields = dataclasses.fields(self)
        return NoiseCrops(*(getattr(self, field.name)[chosen] for field in fields))

    def renumbered(self, index: np.ndarray) -> NoiseCrops:
        """Returns the same crops with new numbers of their pictures."""
        return dataclasses.replace(self, index=index)


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

    Args:
      model: The model; its levels are initialized with the levels of the crops.
      crops: Crops of the pictures of the model.
      num_steps: Steps of Adam.
      batch_size: Crops per step.
      learning_rate: Initial learning rate; it falls along a cosine.
      callbacks: Callbacks of the two parts of the fit.
    """
    model.log_levels.assign(_log_levels(crops, model.num_pictures))
    skew = model.noise_skew.weights
    others = [w for w in model.trainable_weights if all(w is not s for s in skew)]
    # Tapered noise is often near zero, which would hide the skewness.
    for weights, part in ((others, tapered(crops)), (skew, crops)):
        _fit_weights(
            model, weights, part, num_steps, batch_size, learning_rate, callbacks
        )
    for weight in (*others, *skew):
        weight.trainable = True


def tapered(crops: NoiseCrops) -> NoiseCrops:
    """Returns crops whose noise fades out toward the borders, at the same mean power.

    The correlation of the flow is periodic; without a taper the step between opposite
    borders of a crop would hide how smooth correlated noise is.
    """
    taper = _taper(crops.noise.shape[1])
    return dataclasses.replace(crops, noise=crops.noise * taper)


def _log_levels(crops, num_pictures):
    power = np.mean(crops.noise**2, (1, 2, 3))
    count = np.bincount(crops.index, minlength=num_pictures)
    total = np.bincount(crops.index, power, minlength=num_pictures)
    mean = np.where(count > 0, total / np.maximum(count, 1), power.mean())
    return np.float32(np.log(mean + 1e-12) / 2)


def _taper(size):
    """Returns a Hann window [size, size, 1] of mean power 1."""
    window = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    window /= np.sqrt(np.mean(window**2))
    return np.float32(window[:, np.newaxis] * window)[..., np.newaxis]


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
