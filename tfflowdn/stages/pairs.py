"""Batches of pairs of noisy and clean pictures."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

__all__ = ["Batches", "noisy_pairs", "weighted_pairs", "with_pairs"]

Batches = Callable[[int], tf.data.Dataset]
"""A function from the first step to the batches from that step on."""


def noisy_pairs(
    crops: Batches, noise: Callable[..., tf.Tensor], noise_seed: int
) -> Batches:
    """Returns batches (noisy, clean).

    Args:
      crops: Batches of clean pictures [batch, H, W, C].
      noise: `noise(images, seed=seed)` returns the noisy pictures.
      noise_seed: The first part of the noise's seed; the second part is the step.
    """

    def batches(first_step: int) -> tf.data.Dataset:
        def pair(index: tf.Tensor, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            step = first_step + index
            seed = tf.stack([tf.constant(noise_seed, tf.int64), step])
            return noise(images, seed=seed), images

        pairs = crops(first_step).enumerate().map(pair, tf.data.AUTOTUNE)
        return pairs.prefetch(tf.data.AUTOTUNE)

    return batches


def weighted_pairs(pairs: Batches, noise_floor: float | None) -> Batches:
    """Returns batches (noisy, clean, weight).

    The weights [batch, 1, 1] have mean 1 and are proportional to
    1 / (m + noise_floor^2), where m is the mean squared difference of the two pictures.
    The loss then measures the share of the noise that is left. Without weights, the
    strongest noise decides, although PSNR is a mean over pictures in decibels.

    Args:
      pairs: Batches (noisy, clean), as of `noisy_pairs`.
      noise_floor: In [0, 1] units, above 0; None returns the pairs without weights.

    Raises:
      ValueError: If `noise_floor` is outside its range.
    """
    if noise_floor is None:
        return pairs
    if not 0 < noise_floor <= 1:
        raise ValueError(
            "loss.noise_floor must be above 0 and at most 1, or None. "
            f"Received: noise_floor={noise_floor}."
        )

    def weigh(noisy: tf.Tensor, clean: tf.Tensor) -> tuple[tf.Tensor, ...]:
        mse = tf.reduce_mean((noisy - clean) ** 2, axis=(1, 2, 3))
        weights = 1 / (mse + noise_floor**2)
        weights /= tf.reduce_mean(weights)
        return noisy, clean, weights[:, tf.newaxis, tf.newaxis]

    return lambda first_step: pairs(first_step).map(weigh, tf.data.AUTOTUNE)


def with_pairs(noisy_crops: Batches, pairs: Batches) -> Batches:
    """Returns batches ((noisy, synthetic), clean).

    Args:
      noisy_crops: Batches of noisy pictures.
      pairs: Batches (synthetic, clean), as of `noisy_pairs`.
    """

    def batches(first_step: int) -> tf.data.Dataset:
        both = tf.data.Dataset.zip(noisy_crops(first_step), pairs(first_step))
        return both.map(lambda noisy, pair: ((noisy, pair[0]), pair[1]))

    return batches
