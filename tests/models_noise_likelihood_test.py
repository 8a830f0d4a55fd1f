"""NoiseLikelihood: the likelihood of the removed noise as a data term."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfflowdn.models.noise_likelihood import NoiseLikelihood
from tfflowdn.noise import NoiseModel, add_noise


def _images(count=3, size=16, channels=1, seed=0):
    rng = np.random.default_rng(seed)
    return tf.constant(rng.uniform(0, 1, (count, size, size, channels)), "float32")


def _correlated(model):
    """Gives a model the noise of neighboring pixels that are alike."""
    coefficients = np.zeros(model.cepstrum.coefficients.shape, "float32")
    coefficients[0, model.order + 1] = coefficients[1, model.order] = 1.0
    model.cepstrum.coefficients.assign(coefficients)
    return model


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("floor", [0.0, 0.2])
def test_white_noise_gives_the_mean_squared_error(channels, floor):
    noise = NoiseModel(channels)
    term = NoiseLikelihood(noise, spectral_floor=floor, taper=0)
    denoised, noisy = _images(channels=channels), _images(channels=channels, seed=1)
    expected = np.mean((denoised - noisy) ** 2, axis=(1, 2, 3))
    for log_level in (np.log(0.1), 0.0):
        levels = tf.fill([3], np.float32(log_level))
        np.testing.assert_allclose(term(denoised, noisy, levels), expected, rtol=1e-4)
        sigma = term.sigma(noisy, levels)
        np.testing.assert_allclose(sigma, np.exp(levels), rtol=1e-5)


def test_term_is_the_log_density_of_the_noise_model(randomize):
    noise = NoiseModel(3, num_knots=5, order=2)
    randomize(noise)
    term = NoiseLikelihood(noise, spectral_floor=0.0, taper=0)
    denoised, noisy = _images(channels=3), _images(channels=3, seed=1)
    levels = tf.constant([-2.0, -1.0, 0.0])
    nats = noise.log_prob(0 * noisy, denoised, levels) - noise.log_prob(
        noisy - denoised, denoised, levels
    )
    sigma = noise.standard_deviation(noisy, levels)
    np.testing.assert_allclose(
        term(denoised, noisy, levels), 2 * sigma**2 * nats / 768, rtol=1e-4
    )


def test_standard_deviation_is_that_of_samples(randomize):
    noise = NoiseModel(3, num_knots=5, order=2)
    randomize(noise)
    noise.noise_skew.knots.assign(0 * noise.noise_skew.knots)
    signal = tf.repeat(_images(1, 64, 3), 16, axis=0)
    samples = noise.sample(signal, (1, 2), tf.fill([16], -1.0))
    expected = np.sqrt(np.mean(samples**2))
    sigma = noise.standard_deviation(signal, -1.0)
    np.testing.assert_allclose(sigma, expected, rtol=0.03)


def test_floor_bounds_what_a_rare_frequency_counts():
    noise = _correlated(NoiseModel(order=2))
    noisy, checks = tf.zeros([1, 16, 16, 1]), np.indices((16, 16)).sum(0) % 2
    denoised = tf.constant(0.1 * (2 * checks - 1), "float32")[None, ..., None]
    pair = denoised, noisy
    terms = [
        float(NoiseLikelihood(noise, spectral_floor=f, taper=0)(*pair, [0.0])[0])
        for f in (0.0, 0.2, 1.0)
    ]
    assert terms[0] > 2 * terms[1] > 4 * terms[2]
    assert terms[1] <= 0.01 * 1.04 / 0.04


def test_window_ignores_the_border_and_keeps_the_mean():
    noise, rng = NoiseModel(), np.random.default_rng(0)
    term = NoiseLikelihood(noise, taper=4)
    window = term.window(tf.zeros([1, 16, 20, 1])).numpy()
    assert window.shape == (16, 20, 1)
    np.testing.assert_allclose(window[4:-4, 4:-4], 1, rtol=1e-6)
    assert window[0].max() < 0.05
    np.testing.assert_allclose(window, window[::-1, ::-1], rtol=1e-5)
    noisy = tf.constant(0.1 * rng.standard_normal((64, 16, 20, 1)), "float32")
    terms = term(0 * noisy, noisy, tf.zeros([64]))
    assert np.mean(terms) == pytest.approx(0.01, rel=0.05)


def test_levels_come_from_the_noise_model_or_from_the_reference():
    noise = NoiseModel(num_pictures=2)
    noise.log_levels.assign(np.log([0.1, 0.2]))
    rng, clean = np.random.default_rng(0), np.full((64, 64, 1), 0.5, np.float32)
    sigmas = (0.05, 0.2)
    noisy = tf.stack(
        [add_noise(clean, "gaussian", rng, noise_sigma=sigma) for sigma in sigmas]
    )
    mean = np.log(0.1**2 / 2 + 0.2**2 / 2) / 2
    np.testing.assert_allclose(NoiseLikelihood(noise).log_level(noisy), [mean] * 2)

    class Reference(tf.Module):
        def __call__(self, images, training):
            assert not training
            return tf.zeros_like(images) + clean

    levels = NoiseLikelihood(noise, Reference()).log_level(noisy)
    np.testing.assert_allclose(np.exp(levels), sigmas, rtol=0.03)


def test_no_gradient_passes_through_the_condition(randomize):
    noise = NoiseModel(num_knots=5, order=1)
    randomize(noise)
    noise.noise_skew.knots.assign(0 * noise.noise_skew.knots)  # Its mode is 0.
    term, noisy = NoiseLikelihood(noise, taper=0), _images(1, 8)
    with tf.GradientTape() as tape:
        tape.watch(noisy)
        value = term(noisy, tf.stop_gradient(noisy), [0.0])
    np.testing.assert_allclose(tape.gradient(value, noisy), 0, atol=1e-7)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"spectral_floor": -0.1}, "spectral_floor must be.*Received: spectral_floor="),
        ({"taper": float("inf")}, "taper must be.*Received: taper=inf"),
    ],
)
def test_invalid_options(option, message):
    with pytest.raises(ValueError, match=message):
        NoiseLikelihood(NoiseModel(), **option)
