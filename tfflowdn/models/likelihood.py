"""Likelihood of pictures of any size, as one number and as a map."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

__all__ = ["check_finite", "is_divisible", "likelihood_map", "log_prob_of_any_size"]


def is_divisible(shape: tf.TensorShape, multiple: int) -> bool:
    """Returns whether `multiple` is known to divide H and W of [batch, H, W, C]."""
    return all(size is not None and size % multiple == 0 for size in shape[1:3])


def log_prob_of_any_size(
    log_prob: Callable[[tf.Tensor], tf.Tensor], images: tf.Tensor, multiple: int
) -> tf.Tensor:
    """Extends a log-density of images of divisible sizes to images of any size.

    Where `multiple` divides H and W this is `log_prob(images)`. Elsewhere, with H' and
    W' the largest multiples within H and W, and x_i the H' x W' windows in the corners
    of the picture x (four; two where one of H and W is divisible),

        log f(x) = (H W) / (H' W') mean_i(log f(x_i))

    so that the bits/dim of the picture is the mean over its windows, which cover it.
    Each pixel counts once. Proof: distribute the log-density of each window evenly over
    its pixels, and average at every pixel over the windows that hold it. The sum over
    the picture is log f(x), because the windows mirror one another. This is a composite
    likelihood, an estimate of the log-density that is not itself normalized.

    Sizes may be unknown to a graph, which then holds both cases in a `tf.cond`.

    Args:
      log_prob: Maps images [batch, H', W', C] of divisible sizes to nats, [batch].
      images: [batch, H, W, C], H and W at least `multiple`.
      multiple: The divisor of H' and W'.

    Returns:
      Nats, [batch], differentiable in the images.

    Raises:
      tf.errors.InvalidArgumentError: For smaller images of sizes unknown to the graph.
    """
    if is_divisible(images.shape, multiple):
        return log_prob(images)
    known, size = images.shape[1:3], tf.shape(images)[1:3]
    message = "The height and width of images must be at least size_multiple."
    check = tf.debugging.assert_greater_equal(size, multiple, message)
    with tf.control_dependencies([check]):
        images = tf.identity(images)
    size = [known[i] or size[i] for i in range(2)]

    def corner_mean():
        return _corner_mean(log_prob, images, size, multiple)

    if any((length or 0) % multiple for length in known):
        return corner_mean()
    divisible = tf.reduce_all([length % multiple == 0 for length in size])
    return tf.cond(divisible, lambda: log_prob(images), corner_mean)


def likelihood_map(
    prior: Any,
    image: Any,
    *,
    region_size: int | None = None,
    stride: int | None = None,
    num_samples: int = 1,
    batch_size: int = 64,
) -> np.ndarray:
    """Returns the bits/dim around every pixel; they are low for familiar structures.

    Square regions on a grid are each scored as an image of its own, and every pixel
    gets the mean over the regions that hold it. (A split of one `log_prob` by position
    would assign a latent's nats to its own pixel, although they also depend on the
    pixels that it was predicted from.) The last regions of a row or column are shifted
    inside the picture, so that no pixel is invented.

    A flow expects the noise that it was trained with: the picture is dequantized, with
    the seed of validation, so that a map can be repeated.

    Args:
      prior: A FlowPrior.
      image: [H, W, C] or [batch, H, W, C] with pixels in [0, 1]; H and W at least
        the prior's `size_multiple`.
      region_size: Height and width of a region, at least `size_multiple` pixels; cut
        to the picture where that is smaller. By default half of the training crop's:
        a smaller region gives a sharper map, but has more border than the prior has
        met (0.05 bits/dim more at half of 32x32 crops, 0.17 at a quarter).
      stride: Pixels from one region to the next, at most `region_size`; by default
        half of it.
      num_samples: Draws of the noise to average over; 0 scores the pixels as they are.
      batch_size: Regions evaluated together; it bounds the memory.

    Returns:
      float32 [H, W] or [batch, H, W], bits/dim as 8-bit data.

    Raises:
      ValueError: If the image does not fit the prior, or a number is out of range.
    """
    images = np.asarray(image, prior.variable_dtype)
    if images.ndim == 3:
        images = images[np.newaxis]
    prior.check_images(images)
    multiple = prior.size_multiple
    if region_size is None:
        half = min(prior.image_shape[:2]) // 2
        region_size = max(half - half % multiple, multiple)
    stride = region_size // 2 if stride is None else stride
    _check_range(region_size=(region_size, multiple, np.inf))
    _check_range(stride=(stride, 1, region_size))
    _check_range(num_samples=(num_samples, 0, np.inf))
    _check_range(batch_size=(batch_size, 1, np.inf))
    maps = [
        [_map(prior, picture, region_size, stride, batch_size) for picture in version]
        for version in _versions(prior, images, num_samples)
    ]
    result = np.float32(np.mean(maps, axis=0))
    return result if np.ndim(image) == 4 else result[0]


def check_finite(images: tf.Tensor, log_prob: tf.Tensor) -> None:
    """Checks that finite images have a finite density.

    Args:
      images: [batch, H, W, C].
      log_prob: Their log-densities, [batch].

    Raises:
      ValueError: If the density of one of them is not finite.
    """
    known = tf.reduce_all(tf.math.is_finite(images), axis=(1, 2, 3))
    bad = np.flatnonzero(known & ~tf.math.is_finite(log_prob))
    if bad.size:
        peak = float(tf.reduce_max(tf.abs(tf.gather(images, bad))))
        raise ValueError(
            "The density of finite images must be finite; their pixels must be near "
            "[0, 1], and the weights of the prior must be finite. Received: images "
            f"{bad[:5].tolist()} with a pixel of magnitude {peak:g}."
        )


def _corner_mean(log_prob, images, size, multiple):
    (height, width), (rows, columns) = size, [s % multiple for s in size]
    h, w = height - rows, width - columns
    values = [
        log_prob(images[:, top : top + h, left : left + w])
        for top, left in itertools.product(_ends(rows), _ends(columns))
    ]
    scale = tf.cast(height * width, images.dtype) / tf.cast(h * w, images.dtype)
    return scale * tf.add_n(values) / len(values)


def _ends(slack):
    """Returns the first and the last offset of a window that can move by `slack`."""
    return (0, slack) if tf.is_tensor(slack) or slack else (0,)


def _versions(prior, images, num_samples):
    """Yields the images with `num_samples` draws of noise, or once without."""
    if num_samples == 0:
        yield images
    for draw in range(num_samples):
        yield prior.dequantize(images, [prior.seed, -1 - draw]).numpy()


def _map(prior, picture, region_size, stride, batch_size):
    """Returns the mean bits/dim of the regions at each pixel, float64 [H, W]."""
    shape = picture.shape[:2]
    h, w = (min(region_size, size) for size in shape)
    corners = itertools.product(
        _starts(shape[0] - h, stride), _starts(shape[1] - w, stride)
    )
    regions = [np.s_[top : top + h, left : left + w] for top, left in corners]
    total, count = np.zeros(shape), np.zeros(shape)
    for first in range(0, len(regions), batch_size):
        batch = regions[first : first + batch_size]
        bits = prior.bits_per_dim(np.stack([picture[region] for region in batch]))
        for region, value in zip(batch, bits.numpy(), strict=True):
            total[region] += value
            count[region] += 1
    return total / count


def _starts(last, stride):
    """Returns the first pixels of regions along an axis, from 0 to `last`."""
    return sorted({*range(0, last, stride), last})


def _check_range(**numbers):
    for name, (number, low, high) in numbers.items():
        if not low <= number <= high:
            raise ValueError(
                f"{name} must lie in [{low}, {high}]. Received: {name}={number}."
            )
