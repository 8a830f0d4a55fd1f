"""Recorruption: the network learns from the noisy pictures and their learned noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from ml_collections import config_dict

from tfflowdn import data, inference
from tfflowdn.noise import NoiseModel
from tfflowdn.stages.pairs import Batches, noisy_pairs
from tfflowdn.stages.run import Run, Work

__all__ = ["recorrupt", "recorrupted_pairs"]

LEVEL_SIDE = 256  # The level of a picture is found in its middle.


def recorrupt(section: config_dict.ConfigDict, run: Run) -> Work:
    """Trains on pairs that are made of the noisy pictures only, and on clean pictures.

    A noisy picture y = x + n gets an independent sample b of its learned noise at the
    strength a: the network learns to map y + a b to y - b / a. For Gaussian noise the
    two errors n + a b and n - b / a are independent. The squared error then has the
    same minimum as with the clean picture x as the target (recorrupted-to-recorrupted:
    Pang et al. 2021). No clean picture of the same kind is needed. Half of a batch are
    such pairs. The other half are clean pictures with the learned noise, as in
    `distill`.

    Args:
      section: `crops` (data.RandomCrops) of the noisy pictures, `rehearsal` with
        `crops` of the clean ones, `noise` (NoiseModel.call), `loss` (recorrupted_pairs)
        with `strength`, the factor a above, and `training` (training.fit).
      run: The run.

    Raises:
      ValueError: If `strength` is not positive.
    """
    noise = run.noise
    crops = data.RandomCrops(_stacked(run), **section.crops)
    own = recorrupted_pairs(crops, noise, section.crops.seed, **section.loss)
    settings = section.rehearsal.crops
    clean = data.RandomCrops(run.pictures("clean"), **settings)

    def with_noise(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return noise(images, seed=seed, **section.noise)

    others = noisy_pairs(clean, with_noise, settings.seed)
    digests = {"noise": run.digest("noise")}
    batches = _joined(own, others)
    return Work(run.network, batches, crops.names, digests, {"loss": "mse"})


def recorrupted_pairs(
    crops: Batches, noise: NoiseModel, noise_seed: int, *, strength: float
) -> Batches:
    """Returns batches (y + a b, y - b / a), see `recorrupt`.

    Args:
      crops: Batches [batch, H, W, 2 C + 1] of the noisy pictures, of the denoised ones
        and of the logarithm of the level of the noise, joined along the channels.
      noise: The density of the noise.
      noise_seed: The first part of the noise's seed; the second part is the step.
      strength: The factor a.

    Raises:
      ValueError: If `strength` is not positive.
    """
    if strength <= 0:
        raise ValueError(f"loss.strength must be positive. Received: {strength=}.")
    sizes = [noise.channels, noise.channels, 1]

    def batches(first_step: int) -> tf.data.Dataset:
        def pair(index: tf.Tensor, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            seed = tf.stack([tf.constant(noise_seed, tf.int64), first_step + index])
            noisy, signal, level = tf.split(images, sizes, -1)
            signal = tf.clip_by_value(signal, 0.0, 1.0)
            level = tf.reduce_mean(level, (1, 2, 3))
            added = noise.sample(signal, seed, level)
            return noisy + strength * added, noisy - added / strength

        pairs = crops(first_step).enumerate().map(pair, tf.data.AUTOTUNE)
        return pairs.prefetch(tf.data.AUTOTUNE)

    return batches


def _joined(first: Batches, second: Batches) -> Batches:
    """Returns batches with the pairs of two kinds."""

    def join(*pairs: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        return tuple(tf.concat(part, 0) for part in zip(*pairs, strict=True))

    def batches(first_step: int) -> tf.data.Dataset:
        both = tf.data.Dataset.zip(first(first_step), second(first_step))
        return both.map(join, tf.data.AUTOTUNE)

    return batches


def _stacked(run: Run) -> data.ImageSource:
    """Returns the noisy pictures, joined with the denoised ones and their levels.

    A training that continues gets equal pictures, because the network has not changed
    yet.
    """
    pool = run.pictures("noisy")
    denoiser = inference.Denoiser(run.network)

    def denoise(picture: np.ndarray) -> np.ndarray:
        return denoiser(picture, pixel_range="dtype")

    def stack(picture: np.ndarray) -> np.ndarray:
        noisy = data.to_float(picture)
        denoised = denoise(noisy)
        part = inference.middle(noisy, LEVEL_SIDE)
        level = inference.match_level(denoise, part, run.noise)
        levels = np.full((*noisy.shape[:2], 1), level, np.float32)
        return np.concatenate([noisy, denoised, levels], -1)

    pictures = pool.with_gaps("cut").dataset().as_numpy_iterator()
    return _Arrays([stack(picture) for picture in pictures], pool.names)


class _Arrays(data.ImageSource):
    """Pictures in memory with any number of channels."""

    def __init__(self, arrays: Sequence[np.ndarray], names: Sequence[str]) -> None:
        self._arrays = arrays
        self.channels = arrays[0].shape[-1]
        self.pixel_range = "dtype"
        self.names = tuple(names)
        self.sizes = tuple(array.shape[:2] for array in arrays)

    def dataset(self) -> tf.data.Dataset:
        spec = tf.TensorSpec((None, None, self.channels), tf.float32)
        iterate: Callable = lambda: iter(self._arrays)  # noqa: E731
        return tf.data.Dataset.from_generator(iterate, output_signature=spec)

    def verify(self) -> None:
        pass
