"""The convolution: it has the results and gradients of tf.nn.conv2d."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfflowdn.layers import Conv2D, PlainConditioner
from tfflowdn.layers.conv2d import conv2d

SIZES = {
    "odd": (2, 5, 7),
    "even": (3, 4, 6),
    "one pixel": (2, 1, 1),
    "one row": (1, 1, 4),
    "no picture": (0, 4, 4),
}
KERNELS = {"3x3": (3, 3), "1x1": (1, 1), "2x3": (2, 3), "5x4": (5, 4)}
CHANNELS = {
    "to few": (6, 2),
    "from few": (2, 9),
    "from five": (5, 10),
    "many": (9, 10),
    "few": (2, 3),
}
KINDS_OF_GRADIENTS = ("Conv2DBackpropInput", "Conv2DBackpropFilter", "MatMul")

pytestmark = pytest.mark.parametrize("patch_gradients", [False, True])


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


@pytest.fixture(name="convolve")
def _convolve(patch_gradients):
    return functools.partial(conv2d, patch_gradients=patch_gradients)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("kernel_size", KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize("channels", CHANNELS.values(), ids=CHANNELS)
def test_gradients_are_those_of_conv2d(convolve, size, kernel_size, channels):
    images = _random((*size, channels[0]))
    kernel = _random((*kernel_size, *channels), 1)
    results = _with_gradients(convolve)(images, kernel)
    _assert_equal(results, _with_gradients(_conv2d)(images, kernel))


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("channels", CHANNELS.values(), ids=CHANNELS)
def test_one_trace_takes_any_size(convolve, jit_compile, channels):
    signature = [tf.TensorSpec((None, None, None, channels[0]), "float64")]
    signature.append(tf.TensorSpec((3, 3, *channels), "float64"))
    evaluate = _with_gradients(convolve)
    traced = tf.function(evaluate, signature, jit_compile=jit_compile)
    kernel = _random((3, 3, *channels), 1)
    for name in ("odd", "even", "one pixel"):
        images = _random((*SIZES[name], channels[0]))
        expected = _with_gradients(_conv2d)(images, kernel)
        _assert_equal(traced(images, kernel), expected)


@pytest.mark.parametrize("channels", CHANNELS.values(), ids=CHANNELS)
def test_it_runs_in_bfloat16_as_the_convolution_does(convolve, channels):
    shapes = (2, 5, 7, channels[0]), (3, 3, *channels)
    images, kernel = (_random(shape, dtype="bfloat16") for shape in shapes)
    results = _with_gradients(convolve)(images, kernel)
    assert {result.dtype for result in results} == {tf.bfloat16}
    for result, expected in zip(
        results, _with_gradients(_conv2d)(images, kernel), strict=True
    ):
        difference = np.abs(np.float32(result) - np.float32(expected))
        assert difference.max() < 0.02 * np.abs(np.float32(expected)).max()


@pytest.mark.parametrize("channels", CHANNELS.values(), ids=CHANNELS)
def test_second_derivatives_are_those_of_conv2d(convolve, channels):
    def second(convolve):
        images, kernel = _random((2, 3, 4, channels[0])), _random((3, 3, *channels), 1)
        with tf.GradientTape() as outer:
            outer.watch([images, kernel])
            _, *first = _with_gradients(lambda *x: convolve(*x) ** 2)(images, kernel)
            total = sum(tf.reduce_sum(gradient**2) for gradient in first)
        return outer.gradient(total, [images, kernel])

    expected = second(_conv2d)
    assert all(np.abs(gradient).max() > 1 for gradient in expected)
    _assert_equal(second(convolve), expected, tolerance=1e-9)


@pytest.mark.parametrize("channels", [(6, 2), (6, 8)])
@pytest.mark.parametrize("asked", ["images", "kernel", "both"])
def test_a_gradient_that_is_not_asked_for_costs_nothing(
    convolve, patch_gradients, channels, asked
):
    def gradients(images, kernel):
        _, *both = _with_gradients(convolve)(images, kernel)
        return {"images": both[:1], "kernel": both[1:], "both": both}[asked]

    shapes = (2, 4, 6, 6), (3, 3, *channels)
    specs = [tf.TensorSpec(shape, "float64") for shape in shapes]
    graph = tf.function(gradients).get_concrete_function(*specs).graph
    # TensorFlow runs only the operations that the results need.
    needed = tf.compat.v1.graph_util.extract_sub_graph(
        graph.as_graph_def(), [output.op.name for output in graph.outputs]
    )
    found = sorted(node.op for node in needed.node if node.op in KINDS_OF_GRADIENTS)
    of_images, of_kernel = "Conv2DBackpropInput", "Conv2DBackpropFilter"
    result = []
    if patch_gradients:
        of_kernel = "MatMul"
        of_images = "MatMul" if channels == (6, 2) else of_images
        result = ["MatMul"] if channels == (6, 8) else result
    expected = {"images": [of_images], "kernel": [of_kernel]}
    expected = expected.get(asked, [of_images, of_kernel])
    assert found == sorted(expected + result)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_it_can_be_recomputed(convolve, jit_compile):
    images, kernel = _random((2, 4, 6, 6)), _random((3, 3, 6, 2), 1)
    evaluate = _with_gradients(tf.recompute_grad(convolve))
    results = tf.function(evaluate, jit_compile=jit_compile)(images, kernel)
    _assert_equal(results, _with_gradients(_conv2d)(images, kernel))


@pytest.mark.parametrize("kernel_size", KERNELS.values(), ids=KERNELS)
def test_few_channels_are_computed_by_rows(convolve, kernel_size):
    def shapes_of_kernels(channels):
        specs = (2, 5, 7, channels[0]), (*kernel_size, *channels)
        specs = [tf.TensorSpec(shape, "float64") for shape in specs]
        graph = tf.function(convolve).get_concrete_function(*specs).graph
        ops = [op for op in graph.get_operations() if op.type == "Conv2D"]
        return [op.inputs[1].shape.as_list() for op in ops]

    height, width = kernel_size
    assert shapes_of_kernels((6, 2)) == [[1, width, 6, height * 2]]
    assert shapes_of_kernels((2, 6)) == [[height, width, 2, 6]]


@pytest.mark.parametrize("filters", [4, 9])
@pytest.mark.parametrize("use_bias", [False, True])
def test_the_layer_is_that_of_keras(patch_gradients, filters, use_bias):
    options = {"use_bias": use_bias, "activation": "softplus"}
    options |= {"bias_initializer": "ones", "dtype": "float64", "name": "layer"}
    layer = Conv2D(filters, 3, patch_gradients=patch_gradients, **options)
    theirs = keras.layers.Conv2D(filters, 3, padding="same", **options)
    images = _random((2, 5, 6, 7))
    layer.build(images.shape)
    theirs.build(images.shape)
    assert [w.path for w in layer.weights] == [w.path for w in theirs.weights]
    theirs.set_weights(layer.get_weights())
    _assert_equal([layer(images)], [theirs(images)])
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(layer)
    )
    assert type(again) is Conv2D and again.patch_gradients == patch_gradients


def test_conditioner_gives_the_option_to_its_convolutions(patch_gradients):
    layer = PlainConditioner(2, hidden_channels=6, patch_gradients=patch_gradients)
    copy = PlainConditioner.from_config(layer.get_config())
    assert copy.last.patch_gradients == patch_gradients
    assert copy.hidden_layers[0].patch_gradients == patch_gradients
