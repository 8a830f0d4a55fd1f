"""The first batch of anything that `fit` takes."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

__all__ = ["first_batch"]


def first_batch(
    x: Any, batch_size: int, strategy: tf.distribute.Strategy
) -> tuple[Any, Any]:
    """Returns a batch of images, and `x` to use in its place.

    Args:
      x: Images, or batches of images or of tuples that begin with images: a dataset,
        `keras.utils.PyDataset`, generator or another iterable.
      batch_size: Number of images of a batch, if `x` are images.
      strategy: The strategy of a distributed dataset.

    Returns:
      The first batch with a picture whose pixels are all finite, or else the first one,
      and `x`. A generator is replaced by one that begins with the same batches.

    Raises:
      ValueError: If there is no batch.
    """
    seen = []
    for batch in _batches(x, batch_size):
        seen.append(batch)
        if _is_usable(_images(batch, strategy)):
            break
    if not seen:
        raise ValueError("x must have a batch of pictures. Received: an empty one.")
    images = _images(seen[-1], strategy)
    if not _is_usable(images):
        images = _images(seen[0], strategy)
    return images, _chain(seen, x) if isinstance(x, types.GeneratorType) else x


def _batches(x: Any, batch_size: int) -> Iterable:
    if isinstance(x, tuple | list):
        x = x[0]
    if isinstance(x, keras.utils.PyDataset):
        return (x[index] for index in range(len(x)))
    if hasattr(x, "shape"):
        return (x[i : i + batch_size] for i in range(0, len(x), batch_size))
    return x


def _images(batch: Any, strategy: tf.distribute.Strategy) -> Any:
    images = batch[0] if isinstance(batch, tuple | list) else batch
    return strategy.experimental_local_results(images)[0]


def _is_usable(images: Any) -> bool:
    images = keras.ops.convert_to_numpy(images)
    return bool(np.isfinite(images).all(axis=(1, 2, 3)).any())


def _chain(seen: list, rest: Iterator) -> Iterator:
    yield from seen
    yield from rest
