"""Splitting and joining channels equals tf.split and tf.concat, with gradients."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfflowdn.channels import join_channels, split_channels

CASES = [(2, 2, 1), (2, 5, 4), (3, 4, 6), (2, 3, 7)]


def _images(*shape, seed=0):
    values = np.random.default_rng(seed).standard_normal(shape)
    return tf.constant(values, tf.float32)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("count, width, size", CASES)
@pytest.mark.parametrize("batch", [0, 3])
def test_parts_are_those_of_tf_split(batch, count, width, size, jit_compile):
    images = _images(batch, 4, width, count * size)
    signature = [tf.TensorSpec((None, None, None, count * size), tf.float32)]

    def evaluate(images, split=split_channels, join=join_channels):
        with tf.GradientTape() as tape:
            tape.watch(images)
            parts = split(images, count)
            joined = join([part * (i + 2) for i, part in enumerate(parts)])
            loss = tf.reduce_sum(joined**3)
        return [*parts, joined, tape.gradient(loss, images)]

    def split(images, count):
        return tf.split(images, count, -1)

    def join(parts):
        return tf.concat(parts, -1)

    traced = tf.function(evaluate, signature, jit_compile=jit_compile)
    for results in (evaluate(images), traced(images)):
        expected = evaluate(images, split, join)
        for result, value in zip(results, expected, strict=True):
            assert result.shape == value.shape
            np.testing.assert_allclose(result, value, rtol=1e-6)


def test_what_does_not_divide_is_an_error():
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        split_channels(_images(2, 4, 4, 3), 2)


def test_any_leading_dimensions():
    images = _images(2, 3, 4, 5, 6)
    parts = split_channels(images, 3)
    for part, expected in zip(parts, tf.split(images, 3, -1), strict=True):
        np.testing.assert_array_equal(part, expected)
    np.testing.assert_array_equal(join_channels(parts), images)
