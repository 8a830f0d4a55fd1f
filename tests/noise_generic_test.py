"""Moments and spectra of the noise models."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfflowdn.noise import GenericNoise, add_noise

SIZE = 256


def _noise(kind, level=0.5, channels=1, **params):
    image = np.full((SIZE, SIZE, channels), level, np.float32)
    return add_noise(image, kind, np.random.default_rng([0, 1]), **params) - level


def _autocorrelation(noise, shift, axis):
    axis = axis % noise.ndim
    length = noise.shape[axis] - shift
    a = np.take(noise, range(length), axis)
    b = np.take(noise, range(shift, noise.shape[axis]), axis)
    return np.mean(a * b) / np.mean(noise**2)


@pytest.mark.parametrize(
    "kind, level, params, sigma",
    [
        ("gaussian", 0.5, {"noise_sigma": 25 / 255}, 25 / 255),
        ("poisson", 0.5, {}, np.sqrt(0.5 / 30)),
        ("poisson", 0.2, {"peak": 10.0}, np.sqrt(0.2 / 10)),
        ("heteroscedastic", 0.0, {}, 10 / 255),
        ("heteroscedastic", 1.0, {}, np.sqrt(40**2 + 10**2) / 255),
        ("correlated", 0.5, {}, 25 / 255),
        ("correlated", 0.5, {"noise_sigma": 0.2, "blur_sigma": 0.5}, 0.2),
        ("stripes", 0.5, {"row_sigma": 1e-9}, 10 / 255),
        ("impulses", 0.5, {}, np.hypot(10 / 255, 0.05)),
    ],
)
def test_mean_and_standard_deviation(kind, level, params, sigma):
    noise = _noise(kind, level, **params)
    assert noise.dtype == np.float32
    assert abs(noise.mean()) < 0.02 * sigma
    assert noise.std() == pytest.approx(sigma, rel=0.02)


@pytest.mark.parametrize("kind", ["gaussian", "poisson", "heteroscedastic"])
def test_white_kinds_are_uncorrelated(kind):
    params = {"noise_sigma": 0.1} if kind == "gaussian" else {}
    noise = _noise(kind, channels=3, **params)
    for axis in (0, 1, 2):
        assert abs(_autocorrelation(noise, 1, axis)) < 0.02


def test_correlated_noise_has_the_autocorrelation_of_its_blur():
    noise = _noise("correlated", channels=3)
    for shift in (1, 2, 3):
        # A Gaussian blur of s pixels leaves the correlation exp(-shift^2 / (4 s^2)).
        expected = np.exp(-(shift**2) / 4)
        for axis in (0, 1):
            assert _autocorrelation(noise, shift, axis) == pytest.approx(
                expected, abs=0.03
            )
    assert abs(_autocorrelation(noise, 1, axis=2)) < 0.03


def test_correlated_noise_is_as_strong_at_the_border():
    rng = np.random.default_rng(0)
    image = np.zeros((6, 20000, 1))
    rows = add_noise(image, "correlated", rng).std(axis=(1, 2))
    np.testing.assert_allclose(rows, 25 / 255, rtol=0.04)


def test_stripes_have_one_value_for_each_row():
    image = np.zeros((20_000, 20, 3))
    noise = add_noise(image, "stripes", np.random.default_rng(0), noise_sigma=1e-9)
    np.testing.assert_allclose(noise - noise[:, :1, :1], 0, atol=1e-7)
    assert noise[:, 0, 0].std() == pytest.approx(10 / 255, rel=0.02)
    both = add_noise(image, "stripes", np.random.default_rng(0))
    assert both.std() == pytest.approx(np.sqrt(2) * 10 / 255, rel=0.02)


def test_impulses_are_a_share_of_the_pixels():
    options = {"noise_sigma": 1e-9, "impulse_share": 0.1}
    noise = _noise("impulses", channels=3, **options)
    for value in (-0.5, 0.5):
        is_impulse = np.isclose(noise, value, atol=1e-6)
        assert is_impulse.mean() == pytest.approx(0.05, rel=0.1)
        assert np.array_equal(is_impulse.any(-1), is_impulse.all(-1))


def test_noise_is_neither_clipped_nor_repeated():
    noise = _noise("gaussian", level=0.0, noise_sigma=0.1)
    assert 0.45 < (noise < 0).mean() < 0.55
    assert np.array_equal(noise, _noise("gaussian", level=0.0, noise_sigma=0.1))
    image = np.zeros((8, 8, 1))
    draws = [
        add_noise(image, "heteroscedastic", np.random.default_rng([0, index]))
        for index in (1, 2)
    ]
    assert not np.array_equal(*draws)


def test_add_noise_errors():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="kind must be one of .*poisson.* kind='salt'"):
        add_noise(np.zeros((4, 4, 1)), "salt", rng)
    with pytest.raises(ValueError, match="must be float .* dtype='uint8'"):
        add_noise(np.zeros((4, 4, 1), np.uint8), "poisson", rng)


def _generic(level, count=2000, size=8, **params):
    images = tf.fill([count, size, size, 1], float(level))
    return (GenericNoise(**params)(images, [1, 2]) - images).numpy()


def _sigmas(noise):
    return noise.std(axis=(1, 2, 3))


def test_generic_read_sigma_is_uniform():
    sigmas = _sigmas(_generic(0.0, max_sigma=0.2, correlated_probability=0.0))
    quantiles = np.quantile(sigmas, [0.25, 0.5, 0.75])
    np.testing.assert_allclose(quantiles, [0.05, 0.1, 0.15], atol=0.01)
    assert sigmas.max() < 0.2 * 1.35


def test_generic_gain_grows_with_the_signal():
    always = {"gain_probability": 1.0, "correlated_probability": 0.0}
    variance = [np.mean(_generic(x, max_sigma=0.3, **always) ** 2) for x in (-1, 0, 1)]
    # The mean square of a sigma uniform in [0, m] is m^2 / 3.
    np.testing.assert_allclose(variance, [0.03, 0.03, 0.06], rtol=0.06)
    never = np.mean(_generic(1.0, max_sigma=0.3, gain_probability=0.0) ** 2)
    assert never == pytest.approx(0.03, rel=0.06)
    half = np.mean(_generic(1.0, max_sigma=0.3) ** 2)
    assert half == pytest.approx(0.045, rel=0.06)


def test_generic_correlation_and_unit_variance():
    params = {"correlated_probability": 1.0, "gain_probability": 0.0}
    noise = _generic(0.0, size=32, count=300, blur_range=(1.2, 1.2), **params)
    unit = noise / np.sqrt(np.mean(noise**2, axis=(1, 2, 3), keepdims=True))
    for axis in (1, 2):
        expected = np.exp(-1 / (4 * 1.2**2))
        assert _autocorrelation(unit, 1, axis) == pytest.approx(expected, abs=0.02)
    white = _generic(
        0.0, size=32, count=300, **{**params, "correlated_probability": 0.0}
    )
    assert abs(_autocorrelation(white, 1, 1)) < 0.01
    assert np.mean(noise**2) == pytest.approx(np.mean(white**2), rel=0.05)
    border = np.mean(noise[:, 0] ** 2)
    assert border == pytest.approx(np.mean(noise**2), rel=0.1)


def test_generic_share_of_correlated_pictures():
    noise = _generic(0.0, size=32, count=400, blur_range=(1.0, 1.5))
    correlation = [_autocorrelation(n, 1, 0) for n in noise]
    assert np.mean(np.array(correlation) > 0.4) == pytest.approx(0.25, abs=0.06)


def test_generic_correlation_of_channels():
    images = tf.zeros([400, 16, 16, 3])
    noise = GenericNoise(correlated_probability=0.0)(images, [1, 2]).numpy()
    noise /= noise.std((1, 2), keepdims=True)
    correlation = np.mean(noise[..., 0] * noise[..., 2], (1, 2))
    # None for half of the pictures, for the others uniform in [0, 1].
    shares = [np.mean(correlation > level) for level in (0.25, 0.5, 0.75)]
    np.testing.assert_allclose(shares, [0.375, 0.25, 0.125], atol=0.07)
    single = GenericNoise(shared_probability=0.0)(images, [1, 2]).numpy()
    cross = np.mean(single[..., 0] * single[..., 2]) / np.mean(single**2)
    assert abs(cross) < 0.02
    always = GenericNoise(shared_probability=1.0)(images, [1, 2]).numpy()
    levels = single.std((1, 2, 3)), always.std((1, 2, 3))
    np.testing.assert_allclose(*levels, rtol=0.35)  # As strong as without.
    np.testing.assert_allclose(np.mean(levels[0]), np.mean(levels[1]), rtol=0.03)


def test_generic_share_of_jpeg_pictures():
    images = tf.fill([400, 8, 8, 1], 0.5)
    plain = GenericNoise(max_sigma=0.03)(images, [1, 2])
    options = {"max_sigma": 0.03, "jpeg_quality_range": (40, 70)}
    jpeg = GenericNoise(jpeg_probability=0.7, **options)(images, [1, 2])
    changed = np.any(np.abs(jpeg - plain) > 1e-4, axis=(1, 2, 3))
    assert np.mean(changed) == pytest.approx(0.7, abs=0.07)
    always = GenericNoise(jpeg_probability=1.0, **options)(images, [1, 2]).numpy()
    # Half a step of the highest frequency is 30 to 62 levels, the noise 8 at most.
    highest = np.outer(*2 * [np.cos(np.pi * (2 * np.arange(8) + 1) * 7 / 16)]) / 4
    power = [np.tensordot(x[..., 0], highest, 2).std() for x in (plain, always)]
    assert power[1] < 0.05 * power[0]
    same = GenericNoise(jpeg_probability=0.0, **options)(images, [1, 2])
    np.testing.assert_array_equal(same, plain)


def test_generic_rows_and_columns():
    images = tf.fill([400, 40, 30, 3], 0.5)
    plain = GenericNoise(max_sigma=0.2)(images, [1, 2])
    noise = GenericNoise(max_sigma=0.2, row_probability=0.7)(images, [1, 2])
    stripes = (noise - plain).numpy()
    rows, columns = stripes.mean(2), stripes.mean(1)  # [400, size, 3]
    for values in (rows, columns):
        sigmas = values[..., 0].std(1)
        assert np.mean(sigmas > 0.01) == pytest.approx(0.7, abs=0.08)
        assert np.mean(sigmas[sigmas > 0.01]) == pytest.approx(0.1, rel=0.15)
    mean = stripes.mean((1, 2), keepdims=True)
    rebuilt = rows[:, :, None] + columns[:, None] - mean
    np.testing.assert_allclose(stripes, rebuilt, atol=1e-5)


def test_generic_impulses():
    images = tf.fill([400, 40, 30, 3], 0.5)
    plain = GenericNoise(max_sigma=0.05)(images, [1, 2]).numpy()
    options = {"impulse_probability": 0.7, "max_impulse_share": 0.2}
    noise = GenericNoise(max_sigma=0.05, **options)(images, [1, 2]).numpy()
    changed = np.any(noise != plain, -1)
    assert set(np.unique(noise[changed])) == {0.0, 1.0}
    shares = changed.mean((1, 2))
    assert np.mean(shares > 0) == pytest.approx(0.7, abs=0.08)
    assert np.mean(shares) == pytest.approx(0.7 * 0.1, rel=0.2)
    assert noise[changed].mean() == pytest.approx(0.5, abs=0.03)


def test_generic_is_a_function_of_its_seed():
    noise, images = GenericNoise(), tf.zeros([3, 8, 10, 3])
    first = noise(images, [1, 2])
    np.testing.assert_array_equal(first, noise(images, [1, 2]))
    assert not np.array_equal(first, noise(images, [1, 3]))
    channels = first.numpy().transpose(0, 3, 1, 2).reshape(9, -1)
    assert len({c.tobytes() for c in channels}) == 9


def test_generic_in_a_graph_of_dynamic_shape():
    noise = GenericNoise(row_probability=1.0, impulse_probability=1.0)
    spec = tf.TensorSpec([None, None, None, 3]), tf.TensorSpec([2], tf.int32)
    dynamic = tf.function(noise, input_signature=spec)
    images, seed = tf.fill([2, 9, 12, 3], 0.5), tf.constant([5, 6])
    np.testing.assert_allclose(dynamic(images, seed), noise(images, seed), atol=1e-6)
    static = tf.function(noise).get_concrete_function(images, seed)
    assert static.output_shapes == images.shape


@pytest.mark.parametrize(
    "params, message",
    [
        ({"max_sigma": 0.0}, "Received: max_sigma=0.0"),
        ({"gain_probability": 1.5}, "Received: gain_probability=1.5"),
        ({"row_probability": 2}, "Received: row_probability=2"),
        ({"jpeg_probability": -0.1}, "Received: jpeg_probability=-0.1"),
        ({"blur_range": (2.0, 1.0)}, r"Received: blur_range=\(2.0, 1.0\)"),
        ({"jpeg_quality_range": (0, 90)}, r"Received: jpeg_quality_range=\(0, 90\)"),
    ],
)
def test_generic_errors(params, message):
    with pytest.raises(ValueError, match=message):
        GenericNoise(**params)
