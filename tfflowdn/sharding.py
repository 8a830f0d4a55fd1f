"""Batches computed in parts that run side by side."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

__all__ = ["map_shards"]


def map_shards(
    function: Callable[[tf.Tensor], tf.Tensor], batch: tf.Tensor, num_shards: int
) -> tf.Tensor:
    """Returns `function(batch)`, computed in `num_shards` parts and concatenated.

    On a CPU whose operations have one thread each, the cores then work on parts of the
    batch; it takes less time than to have them share each operation of the whole, as
    long as images are small.

    Args:
      function: From a batch of images to one of results, each of its image alone.
      batch: [batch, ...]. Where its first dimension is unknown, it stays whole.
      num_shards: The most parts; they differ by one image at most.
    """
    num_shards = min(num_shards, batch.shape[0] or 1)
    if num_shards == 1:
        return function(batch)
    size, larger = divmod(batch.shape[0], num_shards)
    sizes = [size + 1] * larger + [size] * (num_shards - larger)
    return tf.concat([function(shard) for shard in tf.split(batch, sizes)], 0)
