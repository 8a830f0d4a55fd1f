"""Isolated pixels that are far from all their neighbors: hot and dead pixels."""

from __future__ import annotations

import itertools

import numpy as np

from tfflowdn.inference.noise_level import block_statistics

__all__ = ["replace_outliers"]

_THRESHOLD = 8.0  # Distance from the median of the neighbors, in units of the noise.
_LEAST_NOISE = 0.5  # Of the noise of a typical place of the picture.
_LARGEST_NEIGHBOR, _LARGEST_SHARE = 3.0, 0.1
_MAD_TO_SIGMA = 1.4826
_BLOCK = 2**18  # Pixels.
_STEPS = [step for step in itertools.product((-2, -1, 0, 1, 2), repeat=2) if any(step)]


def replace_outliers(picture: np.ndarray) -> tuple[np.ndarray, int]:
    """Replaces isolated pixels by the median of their 8 neighbors.

    A pixel is replaced if its distance from this median is more than 8 times the local
    noise, and no neighbor is also far from it: all are within 3 times the noise, or
    within a tenth of the distance. The ends and points of lines, and stars that are
    wider than a pixel, have such neighbors. The local noise is found by the median
    absolute difference in a square of 5 x 5 pixels, and is at least half of the noise
    of a typical place.

    Args:
      picture: Finite pixels [H, W, C] without alpha. Each channel is tested.

    Returns:
      The picture, which is a copy if there are outliers, and the number of values that
      were replaced.
    """
    height, width, _ = picture.shape
    if min(height, width) < 3 or picture.dtype.kind == "b":
        return picture, 0
    least = _LEAST_NOISE * block_statistics(picture).sigma
    least = max(least, 1.0 if picture.dtype.kind in "iu" else 0.0)
    num_rows, result, count = max(1, _BLOCK // width), picture, 0
    for first in range(0, height, num_rows):
        for channel in range(picture.shape[-1]):
            places, values = _outliers(picture[..., channel], first, num_rows, least)
            if not len(values):  # The pixels may be in a file that is only read.
                continue
            if result is picture:
                result = picture.copy()
            result[(*places, channel)] = values
            count += len(values)
    return result, count


def _outliers(plane, first, num_rows, least):
    """Returns the rows and columns of outliers of some rows, and their medians."""
    rows = np.arange(first, min(first + num_rows, len(plane)))
    around = _mirrored(np.arange(rows[0] - 2, rows[-1] + 3), plane.shape[0])
    across = _mirrored(np.arange(-2, plane.shape[1] + 2), plane.shape[1])
    padded = plane[around][:, across].astype(np.float64)
    size = (len(rows), plane.shape[1])

    def shifted(step):
        top, left = 2 + step[0], 2 + step[1]
        return padded[top : top + size[0], left : left + size[1]]

    next_to = [shifted(step) for step in _STEPS if max(map(abs, step)) == 1]
    middle = shifted((0, 0))
    is_extreme = (middle > np.maximum.reduce(next_to)) | (
        middle < np.minimum.reduce(next_to)
    )
    places = np.nonzero(is_extreme)
    direct = np.stack([pixels[places] for pixels in next_to])  # [8, n]
    median = np.median(direct, 0)
    is_far = np.abs(middle[places] - median) > _THRESHOLD * least
    places, direct = (places[0][is_far], places[1][is_far]), direct[:, is_far]
    median = median[is_far]
    distance = np.abs(middle[places] - median)
    neighbors = np.stack([shifted(step)[places] for step in _STEPS])  # [24, n]
    spread = _MAD_TO_SIGMA * np.median(np.abs(neighbors - median), 0)
    noise = np.maximum(spread, least)
    sign = np.sign(middle[places] - median)
    farthest = (sign * (direct - median)).max(0)
    limit = np.maximum(_LARGEST_NEIGHBOR * noise, _LARGEST_SHARE * distance)
    is_outlier = (distance > _THRESHOLD * noise) & (farthest <= limit)
    values = median[is_outlier]
    if plane.dtype.kind in "iu":
        values = np.rint(values)
    found = places[0][is_outlier] + rows[0], places[1][is_outlier]
    return found, values.astype(plane.dtype)


def _mirrored(indices, size):
    """Returns indices mirrored at the first and the last pixel."""
    period = 2 * (size - 1)
    indices = np.abs(indices) % period
    return np.minimum(indices, period - indices)
