"""The terms of stage 2's objective, the blur and the padding, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfflowdn.layers import GaussianBlur, mirror_pad
from tfflowdn.models import losses


def _pictures(*shape, seed=0):
    return np.float32(np.random.default_rng(seed).uniform(0, 1, shape))


def _blurred(images, sigma):
    """The blur by its definition: a sum over mirrored neighbors."""
    radius = int(np.ceil(3 * sigma))
    offsets = np.arange(-radius, radius + 1)
    taps = np.exp(-(offsets**2) / (2 * sigma**2)) if radius else np.ones(1)
    taps /= taps.sum()
    for axis in (1, 2):
        padding = [(radius, radius) if a == axis else (0, 0) for a in range(4)]
        padded = np.pad(np.float64(images), padding, mode="symmetric")
        size = images.shape[axis]
        images = sum(
            tap * np.take(padded, np.arange(i, i + size), axis)
            for i, tap in enumerate(taps)
        )
    return images


@pytest.mark.parametrize("sigma", [0, 0.4, 1.0, 2.5])
@pytest.mark.parametrize(
    "shape", [(2, 7, 9, 1), (1, 6, 5, 3), (1, 1, 1, 1), (1, 2, 3, 2)]
)
def test_blur_is_that_of_its_definition(shape, sigma):
    images = _pictures(*shape)
    result = GaussianBlur(sigma)(images)
    assert result.shape == shape and result.dtype == tf.float32
    np.testing.assert_allclose(result, _blurred(images, sigma), atol=1e-6)


def test_blur_of_a_point_sums_to_one_and_spreads_by_sigma():
    point = np.zeros((1, 21, 21, 1), np.float32)
    point[0, 10, 10] = 1
    result = GaussianBlur(2.0)(point).numpy()[0, ..., 0]
    assert result.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(result, result.T, atol=1e-7)
    variance = (result.sum(0) * (np.arange(21) - 10) ** 2).sum()
    assert variance == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize("shape", [(1, 5, 6, 3), (1, 1, 1, 1), (1, 2, 3, 1)])
def test_blur_keeps_a_constant_picture(shape):
    result = GaussianBlur(1.5)(np.full(shape, 0.3, np.float32))
    np.testing.assert_allclose(result, 0.3, atol=1e-6)


def test_blur_of_sigma_zero_changes_nothing():
    images = _pictures(1, 3, 4, 1)
    np.testing.assert_array_equal(GaussianBlur(0)(images), images)


def test_blur_in_a_graph_of_unknown_sizes():
    blur = GaussianBlur(1.0)
    spec = tf.TensorSpec([None, None, None, 1], tf.float32)
    traced = tf.function(blur, input_signature=[spec])
    for shape in [(1, 2, 3, 1), (2, 6, 5, 1)]:
        images = _pictures(*shape)
        np.testing.assert_allclose(traced(images), _blurred(images, 1.0), atol=1e-6)


def test_blur_has_a_config_and_no_weights():
    blur = GaussianBlur(1.25)
    blur(_pictures(1, 4, 4, 1))
    assert not blur.weights
    assert GaussianBlur.from_config(blur.get_config()).sigma == 1.25


@pytest.mark.parametrize("sigma", [-1, float("inf"), float("nan")])
def test_blur_wants_a_sigma(sigma):
    message = rf"sigma must be 0 or more pixels\. Received: sigma={sigma}\."
    with pytest.raises(ValueError, match=message):
        GaussianBlur(sigma)


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("before, after", [(0, 0), (2, 1), (0, 3), (11, 17)])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 2, 3, 1), (1, 4, 5, 3)])
def test_mirror_pad_is_symmetric_padding(shape, before, after, axis):
    images = _pictures(*shape)
    padding = [(before, after) if a == axis else (0, 0) for a in range(4)]
    expected = np.pad(images, padding, mode="symmetric")
    np.testing.assert_array_equal(mirror_pad(images, axis, before, after), expected)
    traced = tf.function(lambda b, a: mirror_pad(images, axis, b, a))
    result = traced(tf.constant(before), tf.constant(after))
    np.testing.assert_array_equal(result, expected)


def test_blur_fidelity():
    denoised, noisy = _pictures(3, 5, 6, 1), _pictures(3, 5, 6, 1, seed=1)
    result = losses.blur_fidelity(denoised, noisy, GaussianBlur(0.8))
    difference = _blurred(denoised, 0.8) - _blurred(noisy, 0.8)
    assert result.shape == (3,)
    np.testing.assert_allclose(result, (difference**2).mean((1, 2, 3)), rtol=1e-4)


@pytest.mark.parametrize("size", [4, 6])
def test_negative_log_likelihood_is_per_dimension(tiny_prior, size):
    images = _pictures(3, size, size, 1)
    result = losses.negative_log_likelihood(tiny_prior, images)
    expected = -tiny_prior.log_prob(images).numpy() / size**2
    assert result.shape == (3,)
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_negative_log_likelihood_counts_the_channels(make_prior):
    prior, images = make_prior("nice", (4, 4, 3)), _pictures(2, 4, 4, 3)
    expected = -prior.log_prob(images).numpy() / 48
    result = losses.negative_log_likelihood(prior, images)
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_map_prior_weight():
    sigma = np.float32([0.0, 0.1, 0.5])
    np.testing.assert_allclose(losses.map_prior_weight(sigma), [0, 0.02, 0.5])
    np.testing.assert_allclose(losses.map_prior_weight(sigma, 0.5), [0, 0.01, 0.25])


@pytest.mark.parametrize("channels", [1, 3])
def test_noise_sigma_of_each_picture_is_estimated(channels):
    rows, columns = np.mgrid[:64, :64] / 63
    smooth = 0.5 + 0.3 * np.sin(3 * rows) * np.cos(4 * columns)
    smooth[:, 40:] -= 0.2  # An edge must not count.
    sigmas = np.array([0.02, 0.1, 0.3])
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((3, 64, 64, channels))
    noisy = smooth[None, ..., None] + sigmas[:, None, None, None] * noise
    result = losses.estimate_noise_sigma(tf.constant(noisy, tf.float32))
    assert result.shape == (3,)
    np.testing.assert_allclose(result, sigmas, rtol=0.1)


def test_noise_sigma_of_a_plane_is_zero():
    rows, columns = np.mgrid[:8, :8] / 7
    plane = np.float32(0.2 * rows + 0.5 * columns)[None, ..., None]
    result = losses.estimate_noise_sigma(tf.constant(plane))
    np.testing.assert_allclose(result, 0, atol=1e-6)
