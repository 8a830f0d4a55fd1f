"""The common parts of rows and columns in crops of noise."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from tfflowdn.bijectors import LineScale
from tfflowdn.noise.crops import NoiseCrops

__all__ = ["MIN_VARIANCE", "line_variances", "without_lines"]

FAR = 8  # Pixels at this distance are correlated by lines only.
MIN_VARIANCE = 0.003
"""Smaller variances cannot be distinguished from the structure of pictures."""


def line_variances(crops: NoiseCrops) -> np.ndarray:
    """Estimates the variances of the common parts of rows and columns, [2, C].

    They are relative to the variance of the other noise. The variance of a row is the
    mean product of pixels of the same row that are at least `FAR` pixels apart, minus
    the mean product of pixels that are as far apart in both directions.

    Args:
      crops: Crops of noise. Crops of no more than `FAR` pixels a side have no lines.
    """
    height, width, channels = crops.noise.shape[1:]
    if min(height, width) <= FAR + 1:
        return np.zeros((2, channels))
    noise = np.float64(crops.noise)
    both = _product(noise, FAR, FAR, crops.weight)
    rows = _product(noise, 0, FAR, crops.weight) - both
    columns = _product(noise, FAR, 0, crops.weight) - both
    power = np.average(np.mean(noise**2, (1, 2)), axis=0, weights=crops.weight)
    lines = np.maximum([rows, columns], 0)
    variances = lines / np.maximum(power - lines.sum(0), 1e-3 * power + 1e-12)
    return np.where(variances < MIN_VARIANCE, 0, variances)


def without_lines(crops: NoiseCrops, variances: np.ndarray) -> NoiseCrops:
    """Returns crops without the common parts, see `bijectors.LineScale`.

    Args:
      crops: Crops of noise.
      variances: The variances of rows and columns, [2, C].
    """
    log_variance = tf.math.log(tf.maximum(tf.cast(variances, tf.float32), 1e-9))
    noise = LineScale(lambda _: log_variance).inverse(crops.noise)
    return dataclasses.replace(crops, noise=noise.numpy())


def _product(noise, rows, columns, weight):
    """Returns the mean product of pixels at all distances from the given ones, [C]."""
    # The sum over all pairs at larger distances is a product of cumulative sums.
    first = noise[:, : noise.shape[1] - rows, : noise.shape[2] - columns]
    second = noise[:, rows:, columns:]
    if columns:
        second = _mean_from_here(second, 2)
    if rows:
        second = _mean_from_here(second, 1)
    return np.average(np.mean(first * second, (1, 2)), axis=0, weights=weight)


def _mean_from_here(noise, axis):
    """Returns the mean of each pixel and the ones after it along an axis."""
    sums = np.flip(np.cumsum(np.flip(noise, axis), axis), axis)
    counts = np.arange(noise.shape[axis], 0, -1)
    return sums / counts.reshape([-1 if a == axis else 1 for a in range(4)])
