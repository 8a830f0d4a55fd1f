"""Dequantization: noise that makes a density of discrete pixels finite."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

__all__ = ["DEQUANTIZATIONS", "dequantize", "step_seed"]

DEQUANTIZATIONS = ("uniform", "gaussian", None)


def dequantize(
    images: tf.Tensor, seed: Any, kind: str | None, sigma: float
) -> tf.Tensor:
    """Adds noise to images [batch, H, W, C].

    Args:
      images: The images, in [0, 1] units.
      seed: Two ints.
      kind: "uniform" for 1/255 wide noise, "gaussian", or None for no noise.
      sigma: Standard deviation of the Gaussian noise, in [0, 1] units.
    """
    shape, dtype = tf.shape(images), images.dtype
    if kind is None:
        return images
    if kind == "gaussian":
        noise = sigma * tf.random.stateless_normal(shape, seed, dtype=dtype)
    else:
        noise = tf.random.stateless_uniform(shape, seed, -0.5, 0.5, dtype) / 255
    return images + tf.ensure_shape(noise, images.shape)


def step_seed(seed: int, optimizer: keras.optimizers.Optimizer) -> list:
    """Returns two ints, a stateless seed of its own for each step and each replica."""
    context = tf.distribute.get_replica_context()
    replica = tf.cast(context.replica_id_in_sync_group, tf.int32)
    return [seed + replica, tf.cast(optimizer.iterations, tf.int32)]
