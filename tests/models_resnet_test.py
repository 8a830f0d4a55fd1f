"""The denoiser's network: sizes, start, homogeneity, receptive field, precision."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfflowdn.layers import depth_to_space, local_noise, space_to_depth
from tfflowdn.models import ResNetDenoiser

SIZES = [(1, 1), (2, 3), (5, 4), (8, 8)]


@pytest.fixture
def make(randomize):
    """Makes a tiny network with random weights."""

    def make_network(**options):
        defaults = {"num_blocks": 1, "hidden_channels": 8}
        network = ResNetDenoiser(**{**defaults, **options})
        randomize(network)
        return network

    return make_network


def _pictures(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return tf.constant(rng.uniform(0, 1, shape), tf.float32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale, channels", [(1, 1), (2, 3), (4, 1)])
def test_any_size_keeps_its_shape(make, size, scale, channels):
    network, noisy = make(scale=scale, channels=channels), _pictures(2, *size, channels)
    denoised = network(noisy, training=True)  # Without the bound.
    assert denoised.shape == network(noisy).shape == noisy.shape
    assert np.isfinite(denoised).all() and np.abs(denoised - noisy).max() > 1e-3


@pytest.mark.parametrize("scale", [2, 3])
def test_an_uneven_size_is_mirrored_up_and_cropped_back(make, scale):
    network, noisy = make(scale=scale), _pictures(1, 7, 5, 1)
    rows, columns = -7 % scale, -5 % scale
    padding = [(0, 0), (0, rows), (0, columns), (0, 0)]
    padded = np.pad(noisy, padding, mode="symmetric")
    expected = network(padded, training=True)[:, :7, :5]
    result = network(noisy, training=True)
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_unknown_sizes_in_a_graph(make):
    network = make()
    spec = tf.TensorSpec([None, None, None, 1], tf.float32)
    traced = tf.function(network, input_signature=[spec])
    for size in SIZES:
        noisy = _pictures(2, *size, 1)
        np.testing.assert_allclose(traced(noisy), network(noisy), atol=1e-5)


@pytest.mark.parametrize("use_bias", [False, True])
def test_starts_as_the_identity(use_bias):
    network = ResNetDenoiser(num_blocks=2, hidden_channels=4, use_bias=use_bias)
    noisy = _pictures(2, 5, 6, 1)
    np.testing.assert_array_equal(network(noisy), noisy)


def test_without_the_residual_the_output_is_the_correction(make, tmp_path):
    noisy = _pictures(1, 5, 6, 1)
    plain, without = make(), make(residual=False)
    correction = plain(noisy, training=True) - noisy
    result = without(noisy, training=True)
    np.testing.assert_allclose(result, correction, atol=1e-6)
    without.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(loaded(noisy), without(noisy))


@pytest.mark.parametrize("factor", [0.25, 3.0])
def test_without_biases_it_is_homogeneous(make, factor):
    network, noisy = make(num_blocks=2), _pictures(1, 5, 6, 1)
    expected = factor * network(noisy)
    np.testing.assert_allclose(network(factor * noisy), expected, rtol=1e-4, atol=1e-4)


def test_with_biases_it_is_not_homogeneous(make):
    network, noisy = make(use_bias=True), _pictures(1, 6, 6, 1)
    assert np.abs(network(2 * noisy) - 2 * network(noisy)).max() > 0.1


@pytest.mark.parametrize("scale, num_blocks", [(1, 0), (1, 1), (2, 1), (3, 0)])
def test_receptive_radius_is_the_farthest_influence(make, scale, num_blocks):
    network = make(scale=scale, num_blocks=num_blocks)
    radius = network.receptive_radius
    center, size = scale * (radius // scale + 1), 2 * scale * (radius // scale + 2)
    noisy = _pictures(1, size, size, 1).numpy()
    before = network(noisy).numpy()
    farthest = 0
    for offset in range(scale):
        perturbed = noisy.copy()
        perturbed[0, center + offset, center + offset] += 5
        changed = np.argwhere(network(perturbed).numpy() != before)[:, 1:3]
        farthest = max(farthest, np.abs(changed - center - offset).max())
    assert farthest == radius


@pytest.mark.parametrize("use_bias", [False, True])
def test_save_and_load(make, tmp_path, use_bias):
    options = {"scale": 3, "channels": 3, "seed": 4, "use_bias": use_bias}
    network, noisy = make(**options), _pictures(1, 4, 5, 3)
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    assert loaded.get_config() == network.get_config()
    assert options.items() <= loaded.get_config().items()
    np.testing.assert_array_equal(loaded(noisy), network(noisy))


def test_bfloat16_is_close_and_gives_float32(make, randomize):
    network, mixed = make(), make(precision="mixed_bfloat16")
    for each in (network, mixed):
        randomize(each, scale=0.1)
    noisy = _pictures(1, 6, 6, 1)
    expected, result = network(noisy), mixed(noisy)
    assert result.dtype == tf.float32
    assert {weight.dtype for weight in mixed.weights} == {"float32"}
    correction = np.abs(expected - noisy).max()
    assert 0 < np.abs(result - expected).max() < 0.03 * correction


def test_seed_decides_the_weights():
    first, again, other = (
        ResNetDenoiser(num_blocks=1, hidden_channels=2, seed=seed).get_weights()
        for seed in (0, 0, 1)
    )
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], other[0])


def test_channels_must_fit(make):
    message = r"noisy must be \[batch, H, W, 3\].*Received: noisy\.shape=\(1, 4, 4, 1\)"
    with pytest.raises(ValueError, match=message):
        make(channels=3)(_pictures(1, 4, 4, 1))


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_space_to_depth_is_that_of_tensorflow_and_has_an_inverse(factor):
    images = _pictures(2, 2 * factor, 3 * factor, 2)
    squeezed = space_to_depth(images, factor)
    assert squeezed.shape == (2, 2, 3, 2 * factor**2)
    np.testing.assert_array_equal(depth_to_space(squeezed, factor), images)
    if factor > 1:
        np.testing.assert_array_equal(squeezed, tf.nn.space_to_depth(images, factor))
        np.testing.assert_array_equal(
            depth_to_space(squeezed, factor), tf.nn.depth_to_space(squeezed, factor)
        )


@pytest.mark.parametrize("batch", [4, 3])
def test_shards_are_a_way_of_computing_the_same(make, batch):
    network, noisy = make(), _pictures(batch, 8, 8, 1)
    parts = []

    def evaluate():
        @tf.function
        def traced(noisy):
            with tf.GradientTape() as tape:
                denoised = network(noisy)
                loss = tf.reduce_mean(denoised**2)
            return [denoised, *tape.gradient(loss, network.trainable_variables)]

        graph = traced.get_concrete_function(noisy).graph
        parts.append(sum(op.type == "Conv2D" for op in graph.get_operations()))
        return traced(noisy)

    whole = evaluate()
    network.num_shards = 2
    for result, expected in zip(evaluate(), whole, strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-6)
    assert parts[1] == 2 * parts[0]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("residual", [True, False])
def test_a_constant_is_kept_exactly(make, channels, residual):
    network = make(channels=channels, residual=residual, use_bias=True)
    color = np.linspace(0.1, 0.9, channels, dtype=np.float32)
    constant = np.broadcast_to(color, (1, 9, 6, channels))
    np.testing.assert_array_equal(network(constant, training=False), constant)
    assert np.abs(network(constant, training=True) - constant).max() > 1e-3
    noisy = np.array(constant)
    noisy[0, :2] = _pictures(2, 6, channels)
    denoised = network(noisy, training=False).numpy()
    np.testing.assert_array_equal(denoised[0, 6:], noisy[0, 6:])  # Far from the noise.
    assert np.abs(denoised - noisy)[0, :2].max() > 1e-3


def test_local_noise_is_the_standard_deviation_of_white_noise():
    rng = np.random.default_rng(0)
    noise = np.float32(rng.normal(0.5, 0.1, (1, 64, 64, 2)) * [1, 0])
    level = local_noise(tf.constant(noise)).numpy()
    assert np.mean(level[..., 0]) == pytest.approx(0.1, rel=0.02)
    assert np.all(level[..., 1] == 0)
