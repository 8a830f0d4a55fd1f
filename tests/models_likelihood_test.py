"""Densities of pictures of any size, and likelihood maps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

MULTIPLE = 4
SIZES = [(8, 8), (8, 7), (9, 4), (5, 7), (11, 6)]


@pytest.fixture(scope="module")
def prior(make_prior):
    options = {"num_levels": 2, "num_steps": 1, "hidden_channels": 2}
    return make_prior("nice", (8, 8, 1), flow_options=options)


def _images(size, batch=3, seed=0):
    values = np.random.default_rng(seed).uniform(0, 1, (batch, *size, 1))
    return tf.constant(values, tf.float32)


def _windows(images):
    """Returns the corner windows of divisible size, written out."""
    height, width = images.shape[1:3]
    h, w = height - height % MULTIPLE, width - width % MULTIPLE
    corners = itertools.product((0, height - h), (0, width - w))
    return [images[:, i : i + h, j : j + w] for i, j in sorted(set(corners))]


def _by_hand(prior, images):
    bijector, windows, nats = prior.distribution.bijector, _windows(images), []
    for window in windows:
        latents = bijector.inverse(tf.identity(window))
        normal = -0.5 * tf.reduce_sum(latents**2 + np.log(2 * np.pi), [1, 2, 3])
        nats.append(normal + bijector.inverse_log_det_jacobian(window, 3))
    scale = np.prod(images.shape[1:]) / np.prod(windows[0].shape[1:])
    return scale * tf.reduce_mean(tf.stack(nats), axis=0)


@pytest.mark.parametrize("size", SIZES)
def test_log_prob_is_exact_or_the_mean_of_the_corners(prior, size):
    images = _images(size)
    assert len(_windows(images)) == 2 ** sum(s % MULTIPLE > 0 for s in size)
    expected = _by_hand(prior, images)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(prior.log_prob(images), expected, rtol=1e-5)
    if size == (8, 8):
        exact = prior.distribution.log_prob(images)
        np.testing.assert_allclose(expected, exact, rtol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_bits_per_dim_is_the_mean_of_the_windows(prior, size):
    images = _images(size)
    windows = [prior.bits_per_dim(window) for window in _windows(images)]
    expected = np.mean(windows, axis=0)
    np.testing.assert_allclose(prior.bits_per_dim(images), expected, rtol=1e-5)


def test_every_pixel_counts_once():
    # Spread evenly over its pixels, the windows' nats sum to the picture's nats.
    size, nats = (5, 7), np.random.default_rng(0).normal(size=4)
    pixels = np.arange(35).reshape(1, *size)
    total, count = np.zeros(35), np.zeros(35)
    windows = _windows(pixels)
    for window, value in zip(windows, nats, strict=True):
        total[window.ravel()] += value / window.size
        count[window.ravel()] += 1
    expected = 35 / windows[0].size * nats.mean()
    assert (total / count).sum() == pytest.approx(expected)


@pytest.mark.parametrize("size", [(9, 7), (None, 7), (8, None), (None, None)])
def test_graph_equals_eager(prior, size):
    spec = tf.TensorSpec([None, *size, 1], tf.float32)
    traced = tf.function(prior.log_prob, input_signature=[spec])
    for images in map(_images, [*SIZES, (9, 7), (8, 5)]):
        if spec.is_compatible_with(images):
            expected = prior.log_prob(images)
            np.testing.assert_allclose(traced(images), expected, rtol=1e-5)


@pytest.mark.parametrize("shape", [(2, 7, 9, 1), (None, None, None, 1)])
def test_gradient_is_that_of_the_windows(prior, shape):
    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32)])
    def gradient(images):
        return tf.gradients(prior.log_prob(images), images)[0]

    images = _images((7, 9), batch=2)
    with tf.GradientTape() as tape:
        tape.watch(images)
        nats = _by_hand(prior, images)
    expected = tape.gradient(nats, images)
    np.testing.assert_allclose(gradient(images), expected, atol=1e-3)
    assert np.abs(expected).min() > 0  # No pixel is left out.


def test_every_window_is_evaluated_once(prior, count_ops):
    one = count_ops(prior.log_prob, (2, 8, 8, 1))
    assert count_ops(prior.log_prob, (2, 9, 8, 1)) == 2 * one
    assert count_ops(prior.log_prob, (2, 9, 11, 1)) == 4 * one


def test_smaller_images_are_refused(prior):
    message = r"must be at least 4 .*Received: images\.shape=\(2, 3, 8, 1\)"
    with pytest.raises(ValueError, match=message):
        prior.log_prob(_images((3, 8), batch=2))
    spec = tf.TensorSpec([None, None, None, 1], tf.float32)
    traced = tf.function(prior.log_prob, input_signature=[spec])
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least size_multiple"):
        traced(_images((3, 8)))


def _map_by_hand(prior, picture, size, tops, lefts):
    total, count = np.zeros(picture.shape[:2]), np.zeros(picture.shape[:2])
    for top, left in itertools.product(tops, lefts):
        region = np.s_[top : top + size[0], left : left + size[1]]
        total[region] += prior.bits_per_dim(picture[region][np.newaxis])[0]
        count[region] += 1
    return total / count


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_map_is_the_mean_of_the_regions_that_hold_a_pixel(prior, batch_size):
    picture = _images((13, 11))[0]
    result = prior.likelihood_map(
        picture, region_size=5, stride=3, batch_size=batch_size
    )
    assert result.shape == (13, 11) and result.dtype == np.float32
    expected = _map_by_hand(prior, picture, (5, 5), (0, 3, 6, 8), (0, 3, 6))
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_map_defaults_to_half_crops_and_half_of_these(prior):
    picture = _images((9, 8))[0]
    result = prior.likelihood_map(picture)
    expected = _map_by_hand(prior, picture, (4, 4), (0, 2, 4, 5), (0, 2, 4))
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_map_of_a_small_picture_is_its_bits_per_dim(prior):
    images = _images((5, 6), batch=2)
    maps = prior.likelihood_map(images, region_size=8)
    assert maps.shape == (2, 5, 6)
    expected = np.broadcast_to(prior.bits_per_dim(images)[:, None, None], maps.shape)
    np.testing.assert_allclose(maps, expected, rtol=1e-5)


def test_map_averages_over_draws_of_the_noise(make_prior):
    prior = make_prior(
        "glow", dequantization="gaussian", dequantization_sigma=0.1, seed=3
    )
    picture = _images((6, 8))[0]

    def scored(images):
        return prior.likelihood_map(images, region_size=4, num_samples=0)

    noisy = [prior.dequantize(picture[None], [3, -1 - i])[0] for i in range(2)]
    maps = [scored(version) for version in noisy]
    assert np.abs(maps[0] - maps[1]).max() > 0.01
    once = prior.likelihood_map(picture, region_size=4)
    np.testing.assert_allclose(once, maps[0], rtol=1e-5)
    twice = prior.likelihood_map(picture, region_size=4, num_samples=2)
    np.testing.assert_allclose(twice, np.mean(maps, axis=0), rtol=1e-5)


def test_a_noisy_square_lights_up(make_prior):
    # Without couplings the flow is a Gaussian of every pixel, 0.5 +- exp(-3).
    prior = make_prior("nice", (4, 4, 1))
    for layer in prior.flow_layers:
        for weight in layer.trainable_weights:
            weight.assign(tf.zeros_like(weight))
    prior.flow_layers[-1].log_scale.assign(3 * np.ones(4))
    picture = np.full((24, 24, 1), 0.5, np.float32)
    rng = np.random.default_rng(0)
    picture[8:16, 8:16] += 0.3 * rng.standard_normal((8, 8, 1))
    heat = prior.likelihood_map(picture)
    outside = np.delete(heat, np.s_[6:18], axis=0)
    assert heat[9:15, 9:15].min() > outside.max() + 1


@pytest.mark.parametrize(
    "options, message",
    [
        ({"region_size": 3}, r"region_size must lie in \[4, inf\]\. .*region_size=3\."),
        ({"stride": 0}, r"stride must lie in \[1, 4\]\. Received: stride=0\."),
        ({"stride": 5}, r"stride must lie in \[1, 4\]\. Received: stride=5\."),
        ({"num_samples": -1}, r"num_samples must lie in .*num_samples=-1\."),
        ({"batch_size": 0}, r"batch_size must lie in .*Received: batch_size=0\."),
    ],
)
def test_map_refuses_numbers_out_of_range(prior, options, message):
    with pytest.raises(ValueError, match=message):
        prior.likelihood_map(_images((8, 8))[0], **options)


def test_map_refuses_images_that_do_not_fit(prior):
    for shape in [(8, 8), (8, 8, 3), (3, 8, 1)]:
        with pytest.raises(ValueError, match=r"Received: images\.shape="):
            prior.likelihood_map(np.zeros(shape))
