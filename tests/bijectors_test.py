"""Every bijector: inverse, log-det, shapes, dtypes, and one pass.

A new bijector is one new line in BIJECTORS: how it is made for images [2, 4, 4] of a
dtype, and how many convolutions its log_prob needs.
"""

from __future__ import annotations

import functools
import threading

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfflowdn import bijectors
from tfflowdn.layers import (
    ActNormParameters,
    Cepstrum,
    LineVariance,
    NoiseLevel,
    NoiseSkew,
    NormalizedPLUParameters,
    PlainConditioner,
    PLUParameters,
    ResidualConditioner,
    SymmetricParameters,
    WeightStack,
)

IMAGE_SHAPE = (2, 4, 4)


def _built(layer, channels=4):
    layer.build((None, None, None, channels))
    return layer


def _act_norm(dtype, channels=4):
    return bijectors.ActNorm(_built(ActNormParameters(dtype=dtype), channels))


def _channel(dtype, affine=True, swap=False, kind=PlainConditioner):
    layer = _built(kind(2, hidden_channels=3, affine=affine, dtype=dtype), 2)
    return bijectors.ChannelCoupling(layer, swap=swap)


def _checkerboard(dtype, affine=True, swap=False, channels=4):
    layer = PlainConditioner(channels, hidden_channels=3, affine=affine, dtype=dtype)
    return bijectors.CheckerboardCoupling(_built(layer, channels), swap=swap)


def _convolution(dtype):
    # With this seed the permutation is not its own inverse.
    return bijectors.InvertibleConvolution(_built(PLUParameters(seed=2, dtype=dtype)))


def _normalized_convolution(dtype):
    layer = NormalizedPLUParameters(seed=2, dtype=dtype)
    return bijectors.NormalizedConvolution(_built(layer))


def _symmetric(dtype):
    return bijectors.InvertibleConvolution(_built(SymmetricParameters(dtype=dtype)))


def _signal_scale(dtype):
    signal = tf.constant([-0.2, 0.3, 0.7, 1.2], dtype)  # One for all sizes.
    return bijectors.SignalScale(_built(NoiseLevel(5, dtype=dtype)), signal, 0.5)


def _signal_skew(dtype):
    signal = tf.constant([-0.2, 0.3, 0.7, 1.2], dtype)
    return bijectors.SignalSkew(_built(NoiseSkew(5, dtype=dtype)), signal)


def _line_scale(dtype):
    return bijectors.LineScale(_built(LineVariance(0.3, dtype=dtype)))


def _spectral_filter(dtype):
    return bijectors.SpectralFilter(_built(Cepstrum(2, dtype=dtype)))


def _factor_out(dtype):
    inner = [_act_norm(dtype, 2), _checkerboard(dtype, channels=2)]
    return bijectors.FactorOut(bijectors.Chain(inner))


def _chain(dtype):
    parts = [tfb.Shift(tf.constant(0.5, dtype)), bijectors.Squeeze()]
    return bijectors.Chain([*parts, _act_norm(dtype, 16), tfb.Invert(parts[1])])


def _repeat(dtype, recompute=False):
    copies = [
        [
            _built(ActNormParameters(dtype=dtype)),
            _built(PlainConditioner(2, hidden_channels=3, seed=i, dtype=dtype), 2),
        ]
        for i in range(3)
    ]

    def step(act_norm, conditioner, swap):
        coupling = bijectors.ChannelCoupling(conditioner, swap=swap)
        return bijectors.Chain([bijectors.ActNorm(act_norm), coupling])

    steps = [functools.partial(step, swap=swap) for swap in (False, True)]
    return bijectors.Repeat(steps, WeightStack(copies), recompute=recompute)


BIJECTORS = {
    "act_norm": (_act_norm, 0),
    "chain": (_chain, 0),
    "channel": (_channel, 2),
    "channel_residual": (lambda dtype: _channel(dtype, kind=ResidualConditioner), 4),
    "channel_swap": (lambda dtype: _channel(dtype, swap=True), 2),
    "channel_additive": (lambda dtype: _channel(dtype, affine=False), 2),
    "checkerboard": (_checkerboard, 2),
    "checkerboard_swap": (lambda dtype: _checkerboard(dtype, swap=True), 2),
    "checkerboard_additive": (lambda dtype: _checkerboard(dtype, affine=False), 2),
    "invertible_convolution": (_convolution, 0),
    "invertible_convolution_symmetric": (_symmetric, 0),
    "normalized_convolution": (_normalized_convolution, 0),
    "factor_out": (_factor_out, 2),
    "repeat": (_repeat, 3 * 2),
    "repeat_recompute": (lambda dtype: _repeat(dtype, recompute=True), 3 * 2),
    "line_scale": (_line_scale, 0),
    "signal_scale": (_signal_scale, 0),
    "signal_skew": (_signal_skew, 0),
    "spectral_filter": (_spectral_filter, 0),
    "squeeze": (lambda _: bijectors.Squeeze(), 0),
    "haar_squeeze": (lambda _: bijectors.HaarSqueeze(), 0),
    "pixel_logit": (lambda _: bijectors.PixelLogit(0.1), 0),
}


@pytest.fixture(params=BIJECTORS)
def name(request):
    return request.param


@pytest.fixture
def make(randomize):
    """Makes a bijector of the table with random weights."""

    def make_bijector(name, dtype="float64"):
        bijector = BIJECTORS[name][0](dtype)
        for part in [bijector, *bijector.submodules]:
            if hasattr(part, "layer"):
                randomize(part.layer)
        return bijector

    return make_bijector


def _images(dtype="float64", shape=(3, *IMAGE_SHAPE), seed=0):
    values = np.random.default_rng(seed).normal(0.5, 0.5, shape)
    return tf.constant(values, dtype)


def _latents(bijector, dtype="float64", batch=3):
    return _images(dtype, (batch, *bijector.inverse_event_shape(IMAGE_SHAPE)), seed=1)


def _log_prob(bijector, images):
    latents = tf.zeros(bijector.inverse_event_shape_tensor(tf.shape(images)[1:]))
    base = tfd.Independent(tfd.Normal(tf.cast(latents, images.dtype), 1), 3)
    return tfd.TransformedDistribution(base, bijector).log_prob(images)


def test_every_bijector_is_in_the_table(make):
    tested = {type(make(name)) for name in BIJECTORS}
    tested |= {bijectors.ImageBijector, bijectors.OnePassBijector}
    assert tested == {getattr(bijectors, name) for name in bijectors.__all__}


def test_random_weights_move_the_image(name, make):
    # Else the tests below would test the identity.
    bijector, images = make(name), _images()
    latents = tf.reshape(bijector.inverse(images), images.shape)
    assert np.abs(latents - images).max() > 1e-2


# tf.identity makes a new tensor, for which TFP's cache has no answer.
def test_inverse_undoes_forward(name, make):
    bijector = make(name)
    latents = _latents(bijector)
    result = bijector.inverse(tf.identity(bijector.forward(latents)))
    np.testing.assert_allclose(result, latents, atol=1e-12)


def test_forward_undoes_inverse(name, make):
    bijector, images = make(name), _images()
    result = bijector.forward(tf.identity(bijector.inverse(images)))
    np.testing.assert_allclose(result, images, atol=1e-12)


def test_inverse_log_det_is_that_of_the_jacobian(name, make, jacobian_log_det):
    bijector, images = make(name), _images()
    result = bijector.inverse_log_det_jacobian(images, event_ndims=3)
    assert result.shape in [(3,), ()]
    expected = jacobian_log_det(bijector.inverse, images)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-9)


def test_forward_log_det_is_that_of_the_jacobian(name, make, jacobian_log_det):
    bijector = make(name)
    latents = _latents(bijector)
    result = bijector.forward_log_det_jacobian(latents, event_ndims=3)
    assert result.shape in [(3,), ()]
    expected = jacobian_log_det(bijector.forward, latents)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-9)


def test_forward_and_inverse_log_det_are_negatives(name, make):
    bijector = make(name)
    latents = _latents(bijector)
    images = tf.identity(bijector.forward(latents))
    inverse = bijector.inverse_log_det_jacobian(images, event_ndims=3)
    forward = bijector.forward_log_det_jacobian(latents, event_ndims=3)
    np.testing.assert_allclose(forward, -inverse, rtol=0, atol=1e-12)


def test_log_det_is_the_same_alone_after_inverse_and_after_forward(name, make):
    bijector = make(name)
    images = bijector.forward(_latents(bijector))
    after_forward = bijector.inverse_log_det_jacobian(images, event_ndims=3)
    single = bijector.inverse_log_det_jacobian(tf.identity(images), event_ndims=3)
    images = tf.identity(images)
    bijector.inverse(images)
    after_inverse = bijector.inverse_log_det_jacobian(images, event_ndims=3)
    np.testing.assert_allclose(after_forward, single, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(after_inverse, single)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_is_kept(name, make, dtype):
    bijector = make(name, dtype)
    images = _images(dtype)
    results = [
        bijector.inverse(images),
        bijector.inverse_log_det_jacobian(images, event_ndims=3),
        bijector.forward(_latents(bijector, dtype)),
        bijector.forward_log_det_jacobian(_latents(bijector, dtype), event_ndims=3),
    ]
    assert {result.dtype.name for result in results} == {dtype}


@pytest.mark.parametrize("sizes", [(3, 2, 4), (None, None, None)])
def test_graph_equals_eager_and_keeps_static_shapes(name, make, sizes):
    bijector = make(name)

    def evaluate(images):
        latents = bijector.inverse(images)
        return latents, bijector.forward(latents + 1), _log_prob(bijector, images)

    spec = tf.TensorSpec([*sizes, 4], tf.float64)
    graph = tf.function(evaluate, input_signature=[spec]).get_concrete_function()
    latents, moved, log_prob = graph.structured_outputs
    assert latents.shape[-1] == bijector.inverse_event_shape(IMAGE_SHAPE)[-1]
    assert moved.shape == spec.shape and log_prob.shape == spec.shape[:1]
    if None not in sizes:
        assert latents.shape == (3, *bijector.inverse_event_shape(IMAGE_SHAPE))
    shapes = [(3, 2, 4, 4)] + [(2, 6, 8, 4)] * (None in sizes)
    for images in (_images(shape=shape) for shape in shapes):
        for result, expected in zip(graph(images), evaluate(images), strict=True):
            assert result.shape == expected.shape
            np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("value", [-1e3, 0.0, 1e3])
def test_extreme_values_stay_finite(name, make, value):
    bijector = make(name, "float32")
    images = tf.fill([1, *IMAGE_SHAPE], value)
    latents = tf.fill(bijector.inverse(images).shape, value)
    for result in (
        bijector.inverse(images),
        bijector.inverse_log_det_jacobian(images, event_ndims=3),
        bijector.forward(latents),
        bijector.forward_log_det_jacobian(latents, event_ndims=3),
    ):
        assert np.isfinite(result).all()


def test_log_prob_needs_one_pass(name, make, count_ops):
    bijector = make(name, "float32")
    count = count_ops(lambda y: _log_prob(bijector, y), (3, *IMAGE_SHAPE))
    assert count == BIJECTORS[name][1]


def test_xla_compiles_it_with_its_gradient(name, make):
    bijector, images = make(name, "float32"), _images("float32")
    layers = getattr(bijector, "layers", ())
    weights = [weight.value for layer in layers for weight in layer.trainable_weights]

    def evaluate(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            log_prob = _log_prob(bijector, images)
        gradients = tape.gradient(log_prob, [images, *weights])
        return [log_prob, bijector.forward(bijector.inverse(images)), *gradients]

    compiled = tf.function(evaluate, jit_compile=True, autograph=False)(images)
    for result, expected in zip(compiled, evaluate(images), strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


def test_two_bijectors_of_one_tensor_have_their_own_log_det(make):
    one, two, images = make("channel"), make("channel_swap"), _images()
    single = two.inverse_log_det_jacobian(tf.identity(images), event_ndims=3)
    one.inverse(images)
    result = two.inverse_log_det_jacobian(images, event_ndims=3)
    np.testing.assert_array_equal(result, single)
    other = one.inverse_log_det_jacobian(images, event_ndims=3)
    assert np.abs(result - other).max() > 1e-3


def test_threads_get_their_own_log_det(make):
    bijector = make("channel")
    batches = [_images(seed=seed) for seed in range(2)]
    expected = [
        bijector.inverse_log_det_jacobian(tf.identity(images), event_ndims=3)
        for images in batches
    ]
    assert not np.allclose(*expected)
    results = [[], []]
    barrier = threading.Barrier(2)

    def work(index):
        for _ in range(10):
            images = tf.identity(batches[index])
            barrier.wait()
            bijector.inverse(images)
            barrier.wait()  # Both inverses are done before either asks its log-det.
            results[index].append(
                bijector.inverse_log_det_jacobian(images, event_ndims=3)
            )

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(2):
        np.testing.assert_array_equal(results[index], [expected[index]] * 10)


@pytest.mark.parametrize("swap", [False, True])
def test_couplings_pass_through_what_they_say(make, swap):
    images = _images()
    suffix = "_swap" * swap
    moved = make(f"channel{suffix}").inverse(images) - images
    first, last = np.abs(moved[..., :2]), np.abs(moved[..., 2:])
    kept, changed = (last, first) if swap else (first, last)
    assert kept.max() == 0 < changed.min()
    moved = make(f"checkerboard{suffix}").inverse(images) - images
    rows, columns = np.indices((2, 4))
    passes = (rows + columns) % 2 == int(swap)
    assert np.abs(moved.numpy()[:, passes]).max() == 0
    assert np.abs(moved.numpy()[:, ~passes]).min() > 0


def test_factor_out_leaves_the_last_half(make):
    images = _images()
    moved = make("factor_out").inverse(images) - images
    assert np.abs(moved[..., 2:]).max() == 0 < np.abs(moved[..., :2]).min()


def test_initialize_standardizes_the_output_of_act_norm():
    act_norm, convolution = _act_norm("float64"), _normalized_convolution("float64")
    images = 3 * _images(shape=(8, 4, 4, 4)) + [1.0, -2.0, 0.0, 3.0]
    latents = act_norm.initialize(images)
    mixed_at_once = convolution.initialize(images)
    np.testing.assert_allclose(np.mean(latents, (0, 1, 2)), 0, atol=1e-9)
    np.testing.assert_allclose(np.var(latents, (0, 1, 2)), 1, atol=1e-5)
    assert float(act_norm.layer.initialized) == 1
    mixed = bijectors.InvertibleConvolution(convolution.layer.plu).inverse(latents)
    np.testing.assert_allclose(mixed_at_once, mixed, atol=1e-9)
    assert float(convolution.layer.act_norm.initialized) == 1


def test_normalized_convolution_is_act_norm_and_convolution(make):
    convolution, images = make("normalized_convolution"), _images()
    layer = convolution.layer
    act_norm = bijectors.ActNorm(layer.act_norm)
    chain = tfb.Chain([act_norm, bijectors.InvertibleConvolution(layer.plu)])
    for method in ("inverse", "forward", "inverse_log_det_jacobian"):
        one, other = (getattr(part, method)(images) for part in (convolution, chain))
        np.testing.assert_allclose(one, other, rtol=1e-11, err_msg=method)


def test_haar_squeeze_is_orthonormal_and_gives_the_averages_first():
    images = _images(shape=(2, 4, 6, 3))
    blocks = bijectors.HaarSqueeze().inverse(images)
    np.testing.assert_allclose(
        tf.reduce_sum(blocks**2), tf.reduce_sum(images**2), rtol=1e-12
    )
    averages = tf.nn.avg_pool2d(images, 2, 2, "VALID")
    np.testing.assert_allclose(blocks[..., :3], 2 * averages, atol=1e-12)
    rows = tf.repeat(images[:, ::2], 2, axis=1)  # No vertical detail is left.
    assert np.abs(bijectors.HaarSqueeze().inverse(rows)[..., 6:]).max() < 1e-12


@pytest.mark.parametrize("squeeze", [bijectors.Squeeze, bijectors.HaarSqueeze])
@pytest.mark.parametrize("size", [(3, 4), (4, 5)])
def test_squeeze_wants_even_sizes(squeeze, size):
    height, width = size
    message = rf"even height and width\. Received: {height=}, {width=}\."
    with pytest.raises(ValueError, match=message):
        squeeze().inverse(tf.zeros([1, height, width, 1]))


@pytest.mark.parametrize("alpha", [-0.1, 0, 1, 2])
def test_pixel_logit_wants_a_fraction(alpha):
    message = rf"alpha must lie in \(0, 1\)\. Received: alpha={alpha}\."
    with pytest.raises(ValueError, match=message):
        bijectors.PixelLogit(alpha)


def test_pixel_logit_is_the_logit_of_pixels():
    pixels = np.linspace(0, 1, 16).reshape(1, 4, 4, 1)
    p = 0.05 + 0.9 * pixels
    result = bijectors.PixelLogit(0.1).inverse(tf.constant(pixels))
    np.testing.assert_allclose(result, np.log(p / (1 - p)), atol=1e-12)
