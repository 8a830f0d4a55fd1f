"""The three flows as distributions: density, samples, weights."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfflowdn import flows
from tfflowdn.bijectors import (
    ActNorm,
    ChannelCoupling,
    FactorOut,
    InvertibleConvolution,
    PixelLogit,
    Repeat,
)
from tfflowdn.layers import (
    ActNormParameters,
    Conditioner,
    NormalizedPLUParameters,
    PlainConditioner,
    PLUParameters,
    WeightStack,
)

FLOWS = {
    "nice": (flows.nice, {"num_steps": 2}),
    "real_nvp": (flows.real_nvp, {"num_residual_blocks": 1}),
    "glow": (flows.glow, {"num_steps": 2}),
}

# By hand, with two levels and these options: the bijectors with weights, and the
# convolutions and matrix products of log_prob.
NUM_PARTS = {
    "nice": 2 + 2 * 2 + 1,  # Couplings on the checkerboard, two a level; one scale.
    "real_nvp": 2 * (2 * 6 + 4),  # An ActNorm each; six a level, four at the end.
    "glow": 2 * 2 * 2 + 1,  # Two a step; one split between the two levels.
}
NUM_CONVOLUTIONS = {
    "nice": 2 * 6,
    "real_nvp": (1 + 2 + 1) * 16,
    "glow": 2 * 2 * 2 + 1,
}
# A 1x1 convolution is a matrix product: one a conditioner, one a step of Glow.
NUM_MATRIX_PRODUCTS = {"nice": 6, "real_nvp": 0, "glow": 2 * 2 * (1 + 1)}
NUM_PRODUCTS_OF_ALL_STEPS = {"nice": 0, "real_nvp": 0, "glow": 2 * 2}  # P L U, a level.


def _parts(bijector):
    """Yields the bijectors with weights, image to latent, each ready to be changed."""
    if hasattr(bijector, "bijectors"):
        for part in bijector.bijectors:
            yield from _parts(part)
    elif isinstance(bijector, FactorOut):
        yield from _parts(bijector.bijector)
    elif isinstance(bijector, Repeat):
        for i in range(bijector.layer.num_copies):
            bijector.layer.read(i)
            yield from _parts(bijector.steps[i % len(bijector.steps)])
            bijector.layer.write(i)
    elif hasattr(bijector, "layer"):
        yield bijector


def _simple_layers(bijector):
    """Yields the layers of the parts; an ActNorm and a matrix are split."""
    for part in _parts(bijector):
        folded = isinstance(part.layer, NormalizedPLUParameters)
        yield from [part.layer.act_norm, part.layer.plu] if folded else [part.layer]


# One switch at a time.
SWITCHES = {
    "glow_additive": ("glow", {"coupling": "additive"}),
    "glow_no_split_prior": ("glow", {"split_prior": False}),
    "glow_residual": ("glow", {"conditioner": "residual"}),
    "glow_growth": ("glow", {"hidden_growth": 2}),
    "nice_affine": ("nice", {"num_levels": 1, "coupling": "affine"}),
    "nice_logistic": ("nice", {"num_levels": 1, "base": "logistic"}),
    "nice_haar": ("nice", {"num_levels": 1, "squeeze": "haar"}),
    "real_nvp_split_prior": ("real_nvp", {"num_levels": 1, "split_prior": True}),
    "real_nvp_growth": ("real_nvp", {"num_levels": 1, "hidden_growth": 2}),
    "real_nvp_haar": ("real_nvp", {"num_levels": 1, "squeeze": "haar"}),
    "glow_haar": ("glow", {"squeeze": "haar"}),
}


@pytest.fixture(params=FLOWS)
def name(request):
    return request.param


@pytest.fixture
def make(randomize):
    """Makes a small flow with random weights, float64 unless said otherwise."""

    def make_flow(name, image_shape=(4, 4, 1), scale=0.2, **options):
        function, small = FLOWS[name]
        defaults = {"num_levels": 2, "hidden_channels": 3, "dtype": "float64"}
        flow = function(image_shape, **{**defaults, **small, **options})
        randomize(*flow.bijector.layers, scale=scale)
        return flow

    return make_flow


def _images(shape, dtype="float64"):
    return tf.constant(np.random.default_rng(0).uniform(0, 1, shape), dtype)


CHAINS = [
    ((4, 4, 1), 2, 0.05),
    ((2, 4, 3), 1, 0.05),
    ((8, 8, 1), 3, None),
]


@pytest.mark.parametrize("image_shape, num_levels, logit_alpha", CHAINS)
def test_log_det_and_round_trip(
    name, make, jacobian_log_det, image_shape, num_levels, logit_alpha
):
    flow = make(name, image_shape, num_levels=num_levels, logit_alpha=logit_alpha)
    bijector, images = flow.bijector, _images((2, *image_shape))
    latents = bijector.inverse(images)
    assert latents.shape == images.shape
    result = bijector.inverse_log_det_jacobian(images, event_ndims=3)
    assert result.shape == (2,)
    expected = jacobian_log_det(bijector.inverse, images)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(
        bijector.forward(tf.identity(latents)), images, atol=1e-9
    )


@pytest.mark.parametrize("name, options", SWITCHES.values(), ids=SWITCHES)
def test_switched_flow_is_exact(name, options, make, jacobian_log_det):
    bijector, images = make(name, **options).bijector, _images((2, 4, 4, 1))
    result = bijector.inverse_log_det_jacobian(images, event_ndims=3)
    expected = jacobian_log_det(bijector.inverse, images)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-9)
    latents = bijector.inverse(images)
    result = bijector.forward(tf.identity(latents))
    np.testing.assert_allclose(result, images, atol=1e-9)


@pytest.mark.parametrize("name, num_splits", [("real_nvp", 2), ("glow", 1)])
def test_split_prior_is_one_more_conditioner_a_split(name, num_splits, make):
    counts = [
        len(make(name, split_prior=split_prior).bijector.layers)
        for split_prior in (False, True)
    ]
    assert counts[1] - counts[0] == num_splits


def test_log_prob_is_normal_density_of_the_latent_plus_log_det(name, make):
    flow, images = make(name), _images((3, 4, 4, 1))
    latents = flow.bijector.inverse(tf.identity(images)).numpy()
    log_det = flow.bijector.inverse_log_det_jacobian(tf.identity(images), 3)
    normal = -0.5 * (latents**2 + np.log(2 * np.pi)).sum((1, 2, 3))
    result = flow.log_prob(images)
    assert result.shape == (3,)
    np.testing.assert_allclose(result, normal + log_det, rtol=1e-12)


def test_logistic_base_of_nice(make):
    flow, images = make("nice", base="logistic"), _images((3, 4, 4, 1))
    latents = flow.bijector.inverse(tf.identity(images)).numpy()
    log_det = flow.bijector.inverse_log_det_jacobian(tf.identity(images), 3)
    logistic = -(np.log1p(np.exp(latents)) + np.log1p(np.exp(-latents))).sum((1, 2, 3))
    np.testing.assert_allclose(flow.log_prob(images), logistic + log_det, rtol=1e-12)


def test_hidden_growth_widens_after_each_squeeze(make):
    flow = make("real_nvp", hidden_growth=2)
    widths = [
        part.layer.hidden_channels
        for part in _parts(flow.bijector)
        if isinstance(part.layer, Conditioner)
    ]
    assert widths == [3] * 3 + [6] * 6 + [12] * 7


def test_log_prob_of_samples_is_change_of_variables(name, make):
    flow = make(name, logit_alpha=0.05)
    latents = flow.distribution.sample(4, seed=0)
    images = flow.bijector.forward(latents)
    expected = flow.distribution.log_prob(latents)
    expected -= flow.bijector.forward_log_det_jacobian(latents, event_ndims=3)
    result = flow.log_prob(tf.identity(images))
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-9)


@pytest.fixture
def flow_2d(randomize):
    """A flow of two dimensions, shape [1, 1, 2], with random weights."""

    def built(layer, channels):
        layer.build((None, None, None, channels))
        return layer

    norm = built(ActNormParameters(dtype="float64"), 2)
    plu = built(PLUParameters(dtype="float64"), 2)
    options = {"hidden_channels": 8, "dtype": "float64"}
    layers = [built(PlainConditioner(1, seed=i, **options), 1) for i in range(2)]
    randomize(norm, plu, *layers, scale=0.5)
    couplings = [ChannelCoupling(layers[0]), ChannelCoupling(layers[1], swap=True)]
    parts = [PixelLogit(0.05), ActNorm(norm), InvertibleConvolution(plu), *couplings]
    base = flows.standard_normal((1, 1, 2), "float64")
    return tfd.TransformedDistribution(base, tfb.Chain(parts))


def _density_2d(flow, low, high, size):
    """Returns the probabilities of the cells of a size x size grid."""
    step = (high - low) / size
    axis = low + step * (np.arange(size) + 0.5)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 1, 1, 2)
    density = np.exp(flow.log_prob(tf.constant(grid)))
    assert density.std() > 0.1
    return density.reshape(size, size) * step**2


def test_density_in_two_dimensions_integrates_to_one(flow_2d):
    probabilities = _density_2d(flow_2d, -1.0, 2.0, 600)
    np.testing.assert_allclose(probabilities.sum(), 1, atol=1e-3)


def test_samples_in_two_dimensions_have_their_density(flow_2d):
    num_samples, cells = 20_000, 10
    samples = flow_2d.sample(num_samples, seed=0).numpy().reshape(-1, 2)
    counts, _, _ = np.histogram2d(*samples.T, bins=cells, range=[[-0.2, 1.2]] * 2)
    fine = _density_2d(flow_2d, -0.2, 1.2, 30 * cells)
    probabilities = fine.reshape(cells, 30, cells, 30).sum((1, 3))

    def chi_squared(probabilities):
        expected = num_samples * probabilities
        frequent = expected >= 10
        assert frequent.sum() > cells**2 / 3
        pulls = (counts - expected)[frequent] / np.sqrt(expected[frequent])
        return (pulls**2).mean()

    # Mean 1, standard deviation sqrt(2 / number of cells).
    assert chi_squared(probabilities) < 1 + 4 * np.sqrt(2 / (cells**2 / 3))
    assert chi_squared(probabilities.T) > 10  # The test can fail.


def test_flow_works_at_sizes_it_was_not_made_for(name, make):
    flow = make(name)
    latents = _images((2, 8, 12, 1))
    images = flow.bijector.forward(latents)
    assert images.shape == latents.shape
    result = flow.bijector.inverse(tf.identity(images))
    np.testing.assert_allclose(result, latents, atol=1e-9)


def test_layers_are_every_weight_once(name, make):
    bijector = make(name).bijector
    parts = [part.layer.count_params() for part in _parts(bijector)]
    assert len(parts) == NUM_PARTS[name]
    assert sum(parts) == sum(x.count_params() for x in bijector.layers)


def test_layers_come_from_the_image_to_the_latent():
    flow = flows.glow((4, 4, 1), num_levels=2, num_steps=3)
    layers = flow.bijector.layers
    assert list(map(type, layers)) == [WeightStack, Conditioner, WeightStack]
    kinds = [type(part.layer) for part in _parts(flow.bijector)]
    step = [NormalizedPLUParameters, PlainConditioner]
    assert kinds == 3 * step + [Conditioner] + 3 * step


def test_seed_decides_the_weights_and_no_two_layers_share_one(name):
    def kernels(seed):
        function, small = FLOWS[name]
        flow = function((4, 4, 1), num_levels=2, seed=seed, **small)
        layers = [part.layer for part in _parts(flow.bijector)]
        # The weights of the stacks change in the meantime.
        assert len(layers) == NUM_PARTS[name]
        return [
            part.layer.hidden_layers[0].kernel.numpy().ravel()[:8]
            for part in _parts(flow.bijector)
            if getattr(part.layer, "hidden_layers", None)
        ]

    first, again, other = kernels(0), kernels(0), kernels(1)
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(again))
    assert len({kernel.tobytes() for kernel in first + other}) == 2 * len(first)


def test_conditioners_are_evaluated_once(name, make, count_ops):
    log_prob = make(name, dtype="float32").log_prob
    assert count_ops(log_prob, (2, 4, 4, 1)) == NUM_CONVOLUTIONS[name]
    products = count_ops(log_prob, (2, 4, 4, 1), ["MatMul"])
    assert products == NUM_MATRIX_PRODUCTS[name]
    products = count_ops(log_prob, (2, 4, 4, 1), ["BatchMatMulV2"])
    assert products == NUM_PRODUCTS_OF_ALL_STEPS[name]


@pytest.mark.parametrize("name", ["nice", "glow"])
def test_the_trace_does_not_grow_with_the_number_of_steps(name, make):
    def num_ops(num_steps):
        flow = make(name, num_levels=1, dtype="float32", num_steps=num_steps)
        spec = tf.TensorSpec((2, 4, 4, 1))
        graph = tf.function(flow.log_prob).get_concrete_function(spec).graph
        return [
            sum(len(f.node_def) for f in graph.as_graph_def().library.function),
            len(graph.get_operations()),
        ]

    (few_inner, few_outer), (many_inner, many_outer) = num_ops(2), num_ops(10)
    assert few_inner == many_inner
    assert many_outer - few_outer < 8 * 5


def test_every_weight_gets_a_gradient(name, make):
    flow = make(name, num_levels=1)
    layers = flow.bijector.layers
    weights = [weight for layer in layers for weight in layer.trainable_weights]
    images = _images((8, 4, 4, 1)) - 0.5
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(flow.log_prob(images))
    gradients = tape.gradient(loss, [weight.value for weight in weights])
    for weight, gradient in zip(weights, gradients, strict=True):
        assert gradient is not None and np.abs(gradient).max() > 0, weight.path


def test_initialize_standardizes_every_act_norm(make):
    flow = make("real_nvp")
    images = _images((64, 4, 4, 1))
    seen = []

    def record(part, values):
        if hasattr(part, "bijectors"):
            for inner in part.bijectors:
                values = record(inner, values)
            return values
        if isinstance(part, Repeat):
            for i in range(part.layer.num_copies):
                part.layer.read(i)
                values = record(part.steps[i % len(part.steps)], values)
            return values
        if isinstance(part, FactorOut):
            kept, out = tf.split(values, 2, axis=-1)
            return tf.concat([record(part.bijector, kept), out], -1)
        values = part.inverse(values)
        if isinstance(part, ActNorm):
            assert float(part.layer.initialized) == 1
            seen.append(values.numpy())
        return values

    latents = flow.bijector.initialize(images)
    np.testing.assert_array_equal(latents, record(flow.bijector, images))
    assert len(seen) == NUM_PARTS["real_nvp"] // 2
    for values in seen:
        np.testing.assert_allclose(values.mean((0, 1, 2)), 0, atol=1e-9)
        np.testing.assert_allclose(values.var((0, 1, 2)), 1, atol=1e-3)


@pytest.mark.parametrize("name", ["real_nvp", "glow"])
def test_log_scales_stay_within_their_bounds(name, make):
    flow = make(name, scale=1e3, log_scale_bound=1.5)
    bounds = {ActNormParameters: 8.0, PLUParameters: 8.0, Conditioner: 1.5}
    images = _images((2, 4, 4, 1))
    largest = dict.fromkeys(bounds, 0)
    for layer in _simple_layers(flow.bijector):
        channels = layer.trainable_weights[0].shape[-1]
        if isinstance(layer, Conditioner):
            channels = (layer.hidden_layers or [layer.last])[0].kernel.shape[2]
        log_scale = layer(tf.repeat(images, channels, axis=-1))[-1]
        if not isinstance(layer, Conditioner):  # A sum over the channels.
            log_scale /= channels
        magnitude = np.abs(log_scale).max()
        kind = Conditioner if isinstance(layer, Conditioner) else type(layer)
        largest[kind] = max(largest[kind], magnitude)
    for kind, bound in bounds.items():
        if name == "glow" or kind is not PLUParameters:
            assert largest[kind] == pytest.approx(bound)


@pytest.mark.parametrize("name", ["real_nvp", "glow"])
def test_samples_are_finite_where_every_coupling_is_at_its_bound(name, make):
    flow = make(name, dtype="float32", scale=0.1)
    for part in _parts(flow.bijector):
        if isinstance(part.layer, Conditioner):
            half = part.layer.out_channels
            part.layer.last.bias.assign([0.0] * half + [-1e3] * half)
    latents = 1.5 * flow.distribution.sample(16, seed=0)
    images = flow.bijector.forward(latents)
    assert np.isfinite(images).all()
    # At the bound, a picture is the latent times exp(2) for every coupling it meets.
    assert np.abs(images).max() > np.exp(4) * np.abs(latents).max()
    assert np.isfinite(flow.log_prob(tf.identity(images))).all()


@pytest.mark.parametrize("scale", [0.2, 1.0])
def test_samples_at_a_high_temperature_are_finite(name, make, scale):
    flow = make(name, (8, 8, 1), num_levels=3, dtype="float32", scale=scale)
    latents = 1.5 * flow.distribution.sample(64, seed=0)
    assert np.isfinite(flow.bijector.forward(latents)).all()


@pytest.mark.parametrize("image_shape", [(6, 8, 1), (8, 6, 3), (8, 8, 0)])
def test_shape_must_be_divisible(name, image_shape):
    message = r"divisible by 2\*\*num_levels.*Received: image_shape=\(.*num_levels=2\."
    with pytest.raises(ValueError, match=message):
        FLOWS[name][0](image_shape, num_levels=2)


def test_at_least_one_level(name):
    message = r"num_levels at least 1\. Received: .*num_levels=0\."
    with pytest.raises(ValueError, match=message):
        FLOWS[name][0]((4, 4, 1), num_levels=0)


@pytest.mark.parametrize(
    "name, option, choices",
    [
        ("nice", "squeeze", r"\('space_to_depth', 'haar'\)"),
        ("real_nvp", "conditioner", r"\('plain', 'residual'\)"),
        ("glow", "coupling", r"\('affine', 'additive'\)"),
        ("nice", "base", r"\('normal', 'logistic'\)"),
    ],
)
def test_unknown_options_are_refused(name, option, choices):
    message = rf"{option} must be one of {choices}\. Received: {option}='x'\."
    with pytest.raises(ValueError, match=message):
        FLOWS[name][0]((8, 8, 1), **{option: "x"})


def test_an_option_that_does_not_exist_is_refused(name):
    message = r"option must be one of \('num_levels', .*Received: option='num_step'\."
    with pytest.raises(ValueError, match=message):
        FLOWS[name][0]((8, 8, 1), num_step=2)


def test_nice_has_no_split_prior():
    with pytest.raises(ValueError, match=r"Received: split_prior=True\."):
        flows.nice((8, 8, 1), split_prior=True)


def test_a_conditioner_is_a_name_or_a_constructor(make, monkeypatch):
    def small(out_channels, **options):
        return PlainConditioner(out_channels, **{**options, "hidden_channels": 1})

    monkeypatch.setitem(flows.CONDITIONERS, "small", small)
    images = _images((2, 4, 4, 1))
    by_name, by_constructor, plain = (
        make("glow", conditioner=conditioner)
        for conditioner in ("small", small, "plain")
    )
    result = by_constructor.log_prob(images)
    np.testing.assert_array_equal(result, by_name.log_prob(images))
    small_size, size = (
        sum(layer.count_params() for layer in flow.bijector.layers)
        for flow in (by_name, plain)
    )
    assert small_size < size


def _log_prob_and_gradients(flow, images, **compile_options):
    layers = flow.bijector.layers
    weights = [weight.value for layer in layers for weight in layer.trainable_weights]

    @tf.function(autograph=False, **compile_options)
    def evaluate(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            log_prob = flow.log_prob(images)
        return [log_prob, *tape.gradient(log_prob, [images, *weights])]

    return evaluate(images)


# A trace with gradients of all couplings of a second level of RealNVP takes seconds.
FEW_LEVELS = {"nice": 2, "real_nvp": 1, "glow": 2}


def test_recomputing_and_patch_gradients_give_the_same_gradient(name, make):
    images = _images((2, 4, 4, 1))
    plain, *others = (
        _log_prob_and_gradients(
            make(name, num_levels=FEW_LEVELS[name], **options), images
        )
        for options in (
            {},
            {"recompute": True},
            {"patch_gradients": True},
            {"recompute": True, "patch_gradients": True},
        )
    )
    for results in others:
        for result, expected in zip(results, plain, strict=True):
            np.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("patch_gradients, last", [(False, 4), (True, 0)])
@pytest.mark.parametrize(
    "kind, first",
    # From two and four channels: gradients of images that are products.
    [("Conv2DBackpropInput", 0), ("Conv2DBackpropFilter", 4)],
)
def test_patch_gradients_are_those_of_the_last_convolutions(
    make, count_ops, kind, first, patch_gradients, last
):
    options = {"hidden_channels": 9, "patch_gradients": patch_gradients}
    flow = make("glow", dtype="float32", **options)
    layers = flow.bijector.layers
    weights = [weight.value for layer in layers for weight in layer.trainable_weights]

    def gradients(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            log_prob = flow.log_prob(images)
        return tape.gradient(log_prob, [images, *weights])

    # Of four steps: the first, the last, and the split prior.
    assert count_ops(gradients, (2, 4, 4, 1), [kind]) == first + last + 1


def test_xla_compiles_every_flow(name, make):
    flow = make(name, num_levels=FEW_LEVELS[name], dtype="float32")
    images = _images((2, 4, 4, 1), "float32")
    compiled = _log_prob_and_gradients(flow, images, jit_compile=True)
    expected = _log_prob_and_gradients(flow, images)
    for result, value in zip(compiled, expected, strict=True):
        np.testing.assert_allclose(result, value, rtol=1e-3, atol=1e-3)


def test_conditioners_in_bfloat16_leave_the_rest_float32(name, make):
    images = _images((2, 4, 4, 1), "float32")
    options = {"dtype": "float32", "scale": 0.05}
    half = make(name, precision="mixed_bfloat16", **options)
    results = _log_prob_and_gradients(half, images)
    assert {result.dtype for result in results} == {tf.float32}
    for layer in half.bijector.layers:
        assert {weight.dtype for weight in layer.weights} == {"float32"}
    expected = _log_prob_and_gradients(make(name, **options), images)[0]
    difference = np.abs(results[0] - expected)
    assert 0 < difference.max() < 0.02 * np.abs(expected).max()


def test_weights_are_cast_to_bfloat16_once_for_all_steps(make, count_ops):
    def casts(num_steps, precision):
        flow = make("glow", num_steps=num_steps, precision=precision, dtype="float32")
        return count_ops(flow.log_prob, (2, 4, 4, 1), types=("Cast",))

    half, single = (
        casts(5, precision) - casts(2, precision)
        for precision in ("mixed_bfloat16", None)
    )
    # For the pictures only, into a conditioner and out of it, at two levels.
    assert half - single == 3 * 2 * 2
