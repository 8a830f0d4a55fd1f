"""Batches computed in parts: which parts, and when there are none."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfflowdn.devices import map_shards


@pytest.mark.parametrize(
    "batch_size, num_shards, expected",
    [
        (4, 1, [4]),
        (4, 2, [2, 2]),
        (7, 3, [3, 2, 2]),
        (16, 6, [3, 3, 3, 3, 2, 2]),
        (2, 4, [1, 1]),
        (1, 2, [1]),
        (0, 2, [0]),
    ],
)
def test_parts_differ_by_one_image_at_most(batch_size, num_shards, expected):
    sizes = []

    def double(shard):
        sizes.append(shard.shape[0])
        return 2 * shard

    batch = tf.random.stateless_uniform([batch_size, 3], [0, 0])
    np.testing.assert_array_equal(map_shards(double, batch, num_shards), 2 * batch)
    assert sizes == expected


def test_a_batch_of_unknown_size_stays_whole():
    shapes = []

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32)])
    def double(batch):
        def record(shard):
            shapes.append(shard.shape.as_list())
            return 2 * shard

        return map_shards(record, batch, 2)

    np.testing.assert_array_equal(double(tf.ones((5, 3))), np.full((5, 3), 2.0))
    assert shapes == [[None, 3]]
