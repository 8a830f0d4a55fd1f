"""NoiseModel: its density, samples, fit, and the estimation without pairs."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfflowdn.noise import add_noise, curves, estimate_calm_noise, estimate_noise
from tfflowdn.noise.noise_model import NoiseModel


@pytest.fixture
def make(randomize):
    """Makes a noise model with random weights."""

    def make_model(channels=1, **options):
        model = NoiseModel(channels, **{"num_knots": 5, "order": 2, **options})
        randomize(model)
        return model

    return make_model


def _signal(shape, seed=0):
    rng = np.random.default_rng(seed)
    return np.float32(rng.uniform(-0.1, 1.1, shape))


def _without_skew(model):
    model.noise_skew.knots.assign(0 * model.noise_skew.knots)
    return model


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_log_prob_is_that_of_the_samples_covariance(make, channels):
    # Noise is a linear map of white latents: its density is a Gaussian's.
    model, shape = _without_skew(make(channels)), (3, 4, channels)
    signal, log_level = _signal((1, *shape)), np.float32([-0.3])
    size = np.prod(shape)
    latents = np.eye(size, dtype="float32").reshape(size, *shape)
    bijector = model.distribution(signal, -0.3).bijector
    factor = bijector.forward(latents).numpy().reshape(size, size)
    noise = np.random.default_rng(1).standard_normal((1, *shape)).astype("float32")
    covariance = np.float64(factor).T @ factor
    solved = np.linalg.solve(covariance, noise.ravel())
    log_det = np.linalg.slogdet(2 * np.pi * covariance)[1]
    expected = -0.5 * (noise.ravel() @ solved + log_det)
    result = model.log_prob(noise, signal, log_level)
    assert result.shape == (1,)
    np.testing.assert_allclose(result, [expected], rtol=1e-4)


def test_log_prob_without_a_level_is_the_mixture_over_all(make):
    model, signal = make(num_pictures=4), _signal((2, 3, 4, 1))
    noise = 0.5 * _signal((2, 3, 4, 1), seed=1)
    levels = model.log_levels.numpy()
    each = [model.log_prob(noise, signal, np.full(2, level)) for level in levels]
    expected = np.log(np.mean(np.exp(np.float64(each)), axis=0))
    np.testing.assert_allclose(model.log_prob(noise, signal), expected, rtol=1e-4)


def test_samples_have_the_levels_and_the_correlation_of_the_model(make):
    model = _without_skew(make())  # Which takes a little of the correlation.
    signal = np.tile(np.float32([0.1, 0.9])[:, None, None, None], (1, 64, 64, 1))
    noise = model.sample(np.repeat(signal, 8, 0), (3, 4), -1.0).numpy()
    dark, bright = noise[:8], noise[8:]
    expected = np.exp(model.noise_level(signal[:, :1, :1]).numpy().ravel() - 1.0)
    np.testing.assert_allclose([dark.std(), bright.std()], expected, rtol=0.05)
    correlation = model.autocorrelation()[..., 0]
    spectrum = np.mean(np.abs(np.fft.fft2(noise[..., 0])) ** 2, axis=0)
    measured = np.fft.ifft2(spectrum).real
    measured /= measured[0, 0]
    np.testing.assert_allclose(measured[:3, :3], correlation[:3, :3], atol=0.03)
    assert np.abs(correlation[0, 1]) > 0.1


def test_samples_are_a_function_of_the_seed_and_draw_the_levels(make):
    model, signal = make(num_pictures=2), _signal((64, 8, 8, 1))
    model.log_levels.assign([-5.0, 0.0])
    noise = model.sample(signal, (1, 2)).numpy()
    np.testing.assert_array_equal(noise, model.sample(signal, (1, 2)))
    assert not np.array_equal(noise, model.sample(signal, (1, 3)))
    loud = np.std(noise, axis=(1, 2, 3)) > 0.1
    assert 16 < loud.sum() < 48
    np.testing.assert_array_equal(model(signal, seed=(1, 2)), signal + noise)
    twice = model.sample(signal, (1, 2), level_range=(2.0, 2.0))
    np.testing.assert_allclose(twice, 2 * noise, rtol=1e-5)
    between = model.sample(signal, (1, 2), level_range=(1.0, 4.0)) / noise
    factors = np.median(between, axis=(1, 2, 3))
    np.testing.assert_allclose(
        between, np.broadcast_to(factors[:, None, None, None], between.shape), rtol=1e-4
    )
    assert 1 <= factors.min() < 1.2 and 3.3 < factors.max() <= 4
    with pytest.raises(ValueError, match=r"level_range=\(2.0, 1.0\)"):
        model.sample(signal, (1, 2), level_range=(2.0, 1.0))


def test_curves_of_color_count_the_mixing(make):
    model = _without_skew(make(3))
    brightness, curve = model.level_curve()
    signal = np.full((8, 64, 64, 3), brightness[1], "float32")
    noise = model.sample(signal, (0, 1)).numpy()
    std = noise.std((0, 1, 2))
    np.testing.assert_allclose(std, curve[1], rtol=0.05)
    products = np.mean(noise[:, :, 1:] * noise[:, :, :-1], axis=(0, 1, 2))
    correlation = model.autocorrelation()[0, 1]
    np.testing.assert_allclose(products / std**2, correlation, atol=0.04)
    assert np.abs(correlation).max() > 0.1


def test_gray_and_the_opponent_colors_have_spectra_of_their_own():
    model = NoiseModel(3, order=1)
    coefficients = np.zeros((2, 3, 3), "float32")
    coefficients[0, 2] = [0, 1, 1]  # Only color is correlated along the rows.
    model.cepstrum.coefficients.assign(coefficients)
    noise = model.sample(np.full((4, 64, 64, 3), 0.5, "float32"), (0, 1)).numpy()
    parts = noise @ np.float32([[1, 1, 1], [1, 0, -1], [1, -2, 1]]).T
    products = np.mean(parts[:, :, 1:] * parts[:, :, :-1], axis=(0, 1, 2))
    gray, *colors = products / parts.var((0, 1, 2))
    assert abs(gray) < 0.03 and min(colors) > 0.5


@pytest.mark.parametrize("channels", [1, 3])
def test_skewed_samples_have_the_levels_and_the_skewness_of_the_model(channels, make):
    model = make(channels, num_knots=2)
    model.noise_skew.knots.assign([[1.0] * channels, [-0.5] * channels])
    (_, std), (brightness, skewness) = model.level_curve(), model.skewness_curve()
    assert brightness.tolist() == [0, 1]
    signal = np.tile(np.float32([0, 1])[:, None, None, None], (1, 512, 512, channels))
    noise = model.sample(signal, (0, 1), model.log_levels[0]).numpy()
    np.testing.assert_allclose(np.mean(noise, (1, 2)), 0, atol=0.05 * std.max())
    np.testing.assert_allclose(noise.std((1, 2)), std, rtol=0.03)
    found = np.mean(noise**3, (1, 2)) / noise.std((1, 2)) ** 3
    np.testing.assert_allclose(found, skewness, atol=0.06)
    assert np.abs(skewness).max() > 0.3


def test_fit_finds_the_noise():
    rng = np.random.default_rng(0)
    truth = NoiseModel(num_pictures=2, num_knots=3)
    truth.noise_level.knots.assign([[-0.5], [0.0], [0.5]])
    truth.noise_skew.knots.assign([[0.5], [0.3], [-0.1]])
    truth.log_levels.assign([-3.0, -1.0])
    signal = _signal((64, 16, 16, 1))
    index = np.int32(rng.integers(2, size=64))
    levels = truth.log_levels.numpy()[index]
    noise = truth.sample(signal, (5, 6), levels).numpy()
    model = NoiseModel(num_pictures=2, num_knots=3, smoothness=0.0)
    model.log_levels.assign([-2.0, -2.0])
    model.compile(keras.optimizers.Adam(0.05))
    fit = {"batch_size": 16, "epochs": 60, "shuffle": False, "verbose": 0}
    model.fit((index, signal), noise, **fit)
    np.testing.assert_allclose(model.log_levels, truth.log_levels, atol=0.05)
    found = model.noise_level.values().numpy()
    np.testing.assert_allclose(found, truth.noise_level.values(), atol=0.05)
    found = model.noise_skew.values()
    np.testing.assert_allclose(found, truth.noise_skew.values(), atol=0.08)
    assert np.abs(model.autocorrelation()[0, 1]) < 0.05


@pytest.mark.parametrize("num_replicas", [1, 2])
def test_a_step_does_not_depend_on_the_replicas(strategies, num_replicas):
    signal = _signal((4, 4, 4, 1))
    index, noise = np.int32([0, 1, 0, 1]), 0.5 * _signal((4, 4, 4, 1), seed=1)
    with strategies[num_replicas - 1].scope():
        model = NoiseModel(num_pictures=2, num_knots=3, order=1)
        model.compile(keras.optimizers.SGD(1.0))
    weights = np.float32([1, 2, 3, 4])
    model.fit((index, signal), noise, sample_weight=weights, batch_size=4, verbose=0)
    with tf.GradientTape() as tape:
        plain = NoiseModel(num_pictures=2, num_knots=3, order=1)
        levels = tf.gather(tf.convert_to_tensor(plain.log_levels), index)
        nats = -plain.log_prob(noise, signal, levels) / 16
        loss = tf.reduce_mean(nats * weights)
    gradient = tape.gradient(loss, plain.log_levels.value)
    expected = -tf.convert_to_tensor(gradient)
    np.testing.assert_allclose(model.log_levels, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_save_and_load(make, tmp_path, channels):
    model = make(channels, num_pictures=3)
    model.save(tmp_path / "noise.keras")
    loaded = keras.saving.load_model(tmp_path / "noise.keras")
    signal = _signal((2, 5, 6, channels))
    np.testing.assert_array_equal(
        loaded.sample(signal, (1, 2)), model.sample(signal, (1, 2))
    )


def _leaky_denoiser(picture):
    """A box filter, which leaves a part of the noise and removes detail."""
    padded = np.pad(picture, [(1, 1), (1, 1), (0, 0)], "reflect")
    rows = sum(padded[i : i + len(picture)] for i in range(3))
    return sum(rows[:, i : i + picture.shape[1]] for i in range(3)) / 9


def _ramps(count, seed):
    rng = np.random.default_rng(seed)
    rows, columns = np.meshgrid(*[np.linspace(0, 1, 64)] * 2, indexing="ij")
    directions = rng.uniform(0, 2 * np.pi, count)
    return [
        np.float32(0.5 + 0.35 * (np.cos(a) * rows + np.sin(a) * columns))[..., None]
        for a in directions
    ]


def _estimate(noisy, clean, num_knots=3, order=3, **options):
    options = {"num_rounds": 2, **options}
    return estimate_noise(
        _leaky_denoiser,
        noisy,
        clean,
        crop_size=32,
        crops_per_picture=8,
        batch_size=32,
        num_steps=100,
        model_options={"num_knots": num_knots, "order": order},
        **options,
    )


def test_estimation_undoes_what_the_denoiser_does_to_the_noise():
    rng = np.random.default_rng(0)
    clean, pool = _ramps(12, 1), _ramps(12, 2)
    levels = rng.uniform(0.03, 0.1, len(pool))
    noisy = [
        np.float32(p + s * rng.standard_normal(p.shape))
        for p, s in zip(pool, levels, strict=True)
    ]

    def estimate(**options):
        return _estimate(noisy, clean, **options)

    def errors(model):
        relative = np.exp(model.log_levels.numpy()) / levels - 1
        lowest = model.cepstrum(np.zeros((1, 32, 32, 1), "float32"))[0, 0, 0]
        neighbors = model.autocorrelation()[0, 1].item()
        return np.abs([relative.mean(), neighbors, lowest])

    uncorrected = estimate(num_rounds=0)
    assert all(weight.trainable for weight in uncorrected.weights)
    plain = errors(uncorrected)
    corrected = errors(estimate(white_below=0.0))
    assert (plain > (0.05, 0.1, 0.5)).all()  # Else there is nothing to undo.
    assert (corrected < (0.04, 0.04, 0.1)).all()
    level, *correlation = errors(estimate(num_rounds=1))
    assert level < 0.04
    np.testing.assert_allclose(correlation, 0, atol=1e-5)  # Taken for white.


def test_estimation_finds_correlated_noise():
    pool, noise = _ramps(12, 2), {"noise_sigma": 0.06, "blur_sigma": 0.6}
    noisy = [
        add_noise(picture, "correlated", np.random.default_rng([0, i]), **noise)
        for i, picture in enumerate(pool)
    ]
    model = _estimate(noisy, _ramps(12, 1))
    truth = curves.curves_of_pairs(zip(noisy, pool, strict=True))
    found = curves.curves_of_model(model)
    np.testing.assert_allclose(
        found.autocorrelation[:3], truth.autocorrelation[:3], atol=0.06
    )
    assert truth.autocorrelation[1] > 0.4
    np.testing.assert_allclose(np.exp(model.log_levels), 0.06, rtol=0.15)


def test_estimation_finds_what_the_channels_have_in_common():
    rng, shares = np.random.default_rng(0), np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1]])
    pools = [[np.repeat(p, 3, -1) for p in _ramps(8, seed)] for seed in (1, 2)]
    mixing = 0.05 * shares
    noise = [np.float32(rng.standard_normal(p.shape) @ mixing) for p in pools[1]]
    noisy = [p + n for p, n in zip(pools[1], noise, strict=True)]
    model = _estimate(noisy, pools[0], num_rounds=1, num_knots=2, order=2)
    signal = np.full((8, 64, 64, 3), 0.5, "float32")
    sample = model.sample(signal, (0, 1)).numpy().reshape(-1, 3)
    expected = mixing.T @ mixing
    np.testing.assert_allclose(np.cov(sample.T), expected, atol=0.1 * expected.max())


def test_estimation_finds_the_skewness_of_counts():
    noisy = [
        add_noise(picture, "poisson", np.random.default_rng([0, i]))
        for i, picture in enumerate(_ramps(12, 2))
    ]
    model = _estimate(noisy, _ramps(12, 1), num_knots=5, order=2)
    brightness, skewness = model.skewness_curve()
    seen = slice(1, 4)  # The ramps have little of black and white.
    expected = 1 / np.sqrt(30 * brightness[seen])
    np.testing.assert_allclose(skewness[seen, 0], expected, atol=0.1)


def _textured(picture, contrast, seed):
    """Adds a texture finer than a crop, of a random direction."""
    angle = np.random.default_rng(seed).uniform(0, np.pi)
    rows, columns = np.indices(picture.shape[:2])
    phase = 0.8 * (np.cos(angle) * rows + np.sin(angle) * columns)
    return picture + np.float32(contrast * np.sin(phase))[..., np.newaxis]


def test_calm_places_show_correlated_noise():
    pool = _ramps(12, 2)
    for i, picture in enumerate(pool):
        half = np.s_[:, :32] if i < 8 else np.s_[:]  # The last have no calm place.
        picture[half] = _textured(picture[half], 0.2, i)
    noise = {"noise_sigma": 0.06, "blur_sigma": 1.0}
    noisy = [
        add_noise(picture, "correlated", np.random.default_rng([0, i]), **noise)
        for i, picture in enumerate(pool)
    ]

    def error(**options):
        model = estimate_calm_noise(
            noisy,
            crop_size=16,
            calm_share=0.25,
            num_steps=150,
            model_options={"num_knots": 3, "order": 3},
            **options,
        )
        found = curves.curves_of_model(model)
        lags = found.autocorrelation[1:4, 0] - truth.autocorrelation[1:4, 0]
        _, level = model.level_curve()
        return np.abs([*lags, level.mean() / 0.06 - 1]).max()

    truth = curves.curves_of_pairs(zip(noisy, pool, strict=True))
    assert truth.autocorrelation[1] > 0.7
    assert error(num_trims=0) > 0.2  # Else there is nothing to trim.
    assert error(kept_share=0.6) < 0.15


def test_calm_places_must_be_there():
    clipped = np.ones((40, 40, 1), "float32")
    with pytest.raises(ValueError, match=r"neither clipped .* none in 1 pictures"):
        estimate_calm_noise([clipped])
    with pytest.raises(ValueError, match=r"calm_share must be in \(0, 1\].*=0"):
        estimate_calm_noise([clipped], calm_share=0)
    with pytest.raises(ValueError, match=r"crop_size=48 pixels"):
        estimate_calm_noise([clipped], crop_size=48)


@pytest.mark.parametrize("pool", ["noisy", "clean"])
def test_pictures_must_hold_a_crop(pool):
    pools = {"noisy": _ramps(1, 0), "clean": _ramps(1, 0)}
    pools[pool] = [np.zeros((40, 80, 1), "float32")]
    message = rf"{pool} must hold .* crop_size=48.*Received: 1 pictures.*\(40, 80\)"
    with pytest.raises(ValueError, match=message):
        estimate_noise(_leaky_denoiser, **pools)
