"""The convolution to few channels: its gradients are those of tf.nn.conv2d."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfflowdn.layers import Conditioner
from tfflowdn.layers.narrow_convolution import narrow_convolution

SIZES = {
    "odd": (2, 5, 7),
    "even": (3, 4, 6),
    "one pixel": (2, 1, 1),
    "one row": (1, 1, 4),
    "no picture": (0, 4, 4),
}
KERNELS = {"3x3": (3, 3), "1x1": (1, 1), "2x3": (2, 3), "5x4": (5, 4)}


def _random(shape, seed=0, dtype="float64"):
    return tf.constant(np.random.default_rng(seed).standard_normal(shape), dtype)


def _conv2d(images, kernel):
    return tf.nn.conv2d(images, kernel, 1, "SAME")


def _with_gradients(convolve):
    """Returns a function that gives the result and both gradients of a random loss."""

    def evaluate(images, kernel):
        with tf.GradientTape() as tape:
            tape.watch([images, kernel])
            result = convolve(images, kernel)
            loss = tf.reduce_sum(tf.cast(result, "float64") ** 2)
        return result, *tape.gradient(loss, [images, kernel])

    return evaluate


def _assert_equal(results, expected, tolerance=1e-10):
    for result, value in zip(results, expected, strict=True):
        assert result.dtype == value.dtype and result.shape == value.shape
        np.testing.assert_allclose(result, value, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("kernel_size", KERNELS.values(), ids=KERNELS)
def test_gradients_are_those_of_conv2d(size, kernel_size):
    images, kernel = _random((*size, 6)), _random((*kernel_size, 6, 2), 1)
    results = _with_gradients(narrow_convolution)(images, kernel)
    _assert_equal(results, _with_gradients(_conv2d)(images, kernel))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_one_trace_takes_any_size(jit_compile):
    signature = [tf.TensorSpec((None, None, None, 6), "float64")]
    signature.append(tf.TensorSpec((3, 3, 6, 2), "float64"))
    evaluate = _with_gradients(narrow_convolution)
    traced = tf.function(evaluate, signature, jit_compile=jit_compile)
    kernel = _random((3, 3, 6, 2), 1)
    for name in ("odd", "even", "one pixel"):
        images = _random((*SIZES[name], 6))
        expected = _with_gradients(_conv2d)(images, kernel)
        _assert_equal(traced(images, kernel), expected)


def test_products_run_in_bfloat16_as_the_convolution_does():
    images, kernel = (
        _random(shape, dtype="bfloat16") for shape in ((2, 5, 7, 6), (3, 3, 6, 2))
    )
    results = _with_gradients(narrow_convolution)(images, kernel)
    assert {result.dtype for result in results} == {tf.bfloat16}
    for result, expected in zip(
        results, _with_gradients(_conv2d)(images, kernel), strict=True
    ):
        difference = np.abs(np.float32(result) - np.float32(expected))
        assert difference.max() < 0.02 * np.abs(np.float32(expected)).max()


def test_second_derivatives_are_those_of_conv2d():
    def second(convolve):
        images, kernel = _random((2, 3, 4, 6)), _random((3, 3, 6, 2), 1)
        with tf.GradientTape() as outer:
            outer.watch([images, kernel])
            _, *first = _with_gradients(lambda *x: convolve(*x) ** 2)(images, kernel)
            total = sum(tf.reduce_sum(gradient**2) for gradient in first)
        return outer.gradient(total, [images, kernel])

    expected = second(_conv2d)
    assert all(np.abs(gradient).max() > 1 for gradient in expected)
    _assert_equal(second(narrow_convolution), expected, tolerance=1e-9)


@pytest.mark.parametrize("asked, products", [("images", 1), ("kernel", 1), ("both", 2)])
def test_a_gradient_that_is_not_asked_for_costs_nothing(asked, products):
    def gradients(images, kernel):
        _, *both = _with_gradients(narrow_convolution)(images, kernel)
        return {"images": both[:1], "kernel": both[1:], "both": both}[asked]

    shapes = (2, 4, 6, 6), (3, 3, 6, 2)
    specs = [tf.TensorSpec(shape, "float64") for shape in shapes]
    graph = tf.function(gradients).get_concrete_function(*specs).graph
    # What the results need is what TensorFlow runs.
    needed = tf.compat.v1.graph_util.extract_sub_graph(
        graph.as_graph_def(), [output.op.name for output in graph.outputs]
    )
    assert sum(node.op == "MatMul" for node in needed.node) == products


@pytest.mark.parametrize("jit_compile", [False, True])
def test_it_can_be_recomputed(jit_compile):
    images, kernel = _random((2, 4, 6, 6)), _random((3, 3, 6, 2), 1)
    evaluate = _with_gradients(tf.recompute_grad(narrow_convolution))
    results = tf.function(evaluate, jit_compile=jit_compile)(images, kernel)
    _assert_equal(results, _with_gradients(_conv2d)(images, kernel))


def test_conditioner_with_it_is_the_same_layer():
    def make(patch_gradients):
        options = {"dtype": "float64", "name": "conditioner"}
        layer = Conditioner(2, 6, patch_gradients=patch_gradients, **options)
        layer.build((None, None, None, 2))
        return layer

    plain, patches = make(False), make(True)
    names = [[weight.path for weight in layer.weights] for layer in (plain, patches)]
    assert names[0] == names[1]
    copy = Conditioner.from_config(patches.get_config())
    assert copy.patch_gradients and type(copy.last) is type(patches.last)
    assert type(plain.last) is keras.layers.Conv2D
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(patches.last)
    )
    assert type(again) is type(patches.last)
