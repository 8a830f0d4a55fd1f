"""The bias: its sum and its gradients, exact also in bfloat16."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tensorflow as tf

from tfflowdn.layers import PlainConditioner
from tfflowdn.layers.bias_add import bias_add


def _random(shape, seed=0):
    return tf.constant(np.random.default_rng(seed).standard_normal(shape), tf.float64)


def _gradients(add, values, bias):
    """Returns the result, both gradients, and their gradients."""
    with tf.GradientTape() as outer:
        outer.watch([values, bias])
        with tf.GradientTape() as tape:
            tape.watch([values, bias])
            result = add(values, bias)
            loss = tf.reduce_sum(result**3)
        first = tape.gradient(loss, [values, bias])
        total = sum(tf.reduce_sum(gradient**2) for gradient in first)
    return result, *first, *outer.gradient(total, [values, bias])


@pytest.mark.parametrize("jit_compile", [None, False, True])
@pytest.mark.parametrize("shape", [(4, 3), (2, 5, 6, 3), (0, 4, 4, 3)])
def test_it_is_that_of_tensorflow(shape, jit_compile):
    values, bias = _random(shape), _random((3,), 1)
    function = functools.partial(_gradients, bias_add)
    if jit_compile is not None:
        function = tf.function(function, autograph=False, jit_compile=jit_compile)
    results = function(values, bias)
    for result, expected in zip(
        results, _gradients(tf.nn.bias_add, values, bias), strict=True
    ):
        np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("patch_gradients", [False, True])
def test_a_conditioner_sums_the_gradients_of_biases_in_float32(patch_gradients):
    shape = (8, 32, 32, 6)
    images = tf.random.stateless_normal(shape, [0, 0])
    biases = {}
    for dtype in ("float32", "mixed_bfloat16"):
        layer = PlainConditioner(
            6,
            hidden_channels=8,
            affine=False,
            patch_gradients=patch_gradients,
            seed=1,
            dtype=dtype,
        )
        layer.build(shape)
        layer.last.kernel.assign(tf.random.stateless_normal([3, 3, 8, 6], [0, 1]))

        @tf.function
        def gradients(images, layer=layer):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(layer(images)[0])
            names = ["first", "middle"]
            found = [layer.hidden_layers[i].bias for i in range(len(names))]
            return tape.gradient(loss, [*found, layer.last.bias])

        biases[dtype] = [gradient.numpy() for gradient in gradients(images)]
    for rounded, exact in zip(*reversed(biases.values()), strict=True):
        error = np.abs(rounded - exact).max()
        assert error < 0.02 * np.abs(exact).max()
