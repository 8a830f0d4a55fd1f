"""Variational dequantisation: the conditional flow of the noise, and its bound."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfflowdn.layers import VariationalDequantizer


def _images(count=2, size=4, channels=1):
    levels = np.random.default_rng(0).integers(0, 256, (count, size, size, channels))
    return tf.constant(levels / 255)


def _noise(shape, seed=1):
    return tf.constant(np.random.default_rng(seed).uniform(-0.5, 0.5, shape))


def _layer(randomize=None, channels=1, num_couplings=3):
    layer = VariationalDequantizer(num_couplings, 4, dtype="float64")
    layer.build((None, None, None, channels))
    if randomize:
        randomize(layer)
    return layer


def test_it_starts_as_uniform_noise():
    images = _images()
    noise = _noise(images.shape)
    result, log_det = _layer()(images, noise)
    np.testing.assert_allclose(result, noise, atol=1e-12)
    np.testing.assert_allclose(log_det, [0, 0], atol=1e-12)


@pytest.mark.parametrize("channels", [1, 3])
def test_log_det_is_that_of_the_jacobian(channels, randomize, jacobian_log_det):
    layer, images = _layer(randomize, channels), _images(2, 2, channels)
    noise = _noise(images.shape)
    result, log_det = layer(images, noise)
    assert np.abs(result).max() < 0.5 and np.abs(result - noise).max() > 0.05

    def noise_map(values):
        return layer(tf.repeat(images, values.shape[0] // 2, axis=0), values)[0]

    expected = jacobian_log_det(noise_map, noise)
    np.testing.assert_allclose(log_det, expected, rtol=0, atol=1e-9)


def test_noise_depends_on_the_neighbours_but_not_on_other_images(randomize):
    layer, images = _layer(randomize), _images(2, 8).numpy()
    noise = _noise(images.shape)
    before = layer(tf.constant(images), noise)[0]
    images[0, 3, 3] += 1 / 255
    moved = np.abs(layer(tf.constant(images), noise)[0] - before)
    assert moved[0, 2, 3] > 1e-6 and moved[1].max() == 0


def test_extreme_noise_stays_finite(randomize):
    layer, images = _layer(randomize), _images()
    for value in (-0.5, 0.5):
        for result in layer(
            images, tf.fill(images.shape, tf.constant(value, "float64"))
        ):
            assert np.isfinite(result).all()


def test_every_weight_of_a_prior_gets_a_gradient(make_prior, randomize):
    prior = make_prior("glow", dequantization="variational")
    randomize(prior.dequantizer, scale=0.1)
    num_weights = len(prior.trainable_weights) - len(
        make_prior("glow").trainable_weights
    )
    assert num_weights == len(prior.dequantizer.trainable_weights) == 4 * 6
    before = prior.get_weights()
    prior.compile(keras.optimizers.SGD(1.0))
    prior.fit(np.float32(_images(8)), batch_size=8, shuffle=False, verbose=0)
    pairs = zip(before, prior.get_weights(), prior.weights, strict=True)
    assert [w.path for a, b, w in pairs if w.trainable and (a == b).all()] == []


def test_bound_is_the_uniform_one_at_first_and_uses_the_noise_density(
    make_prior, randomize
):
    images = np.float32(_images(4))
    uniform = make_prior("glow", dequantization="uniform")
    prior = make_prior("glow", dequantization="variational")
    losses = []
    for model in (uniform, prior):
        model.compile()
        losses.append(model.evaluate(images, return_dict=True, verbose=0)["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    randomize(prior.dequantizer)
    result = prior.evaluate(images, return_dict=True, verbose=0)["loss"]
    noise = tf.random.stateless_uniform(images.shape, [0, -1], -0.5, 0.5)
    noise, log_det = prior.dequantizer(images, noise)
    expected = -np.mean(prior.log_prob(images + noise / 255) + log_det) / 16
    assert result == pytest.approx(expected, rel=1e-5)
    assert result != pytest.approx(losses[0], abs=1e-3)


def test_density_and_stage_2_do_not_see_it(make_prior, randomize):
    images = tf.cast(_images(4), tf.float32)
    prior = make_prior("glow", dequantization="variational")
    randomize(prior.dequantizer)
    expected = make_prior("glow").log_prob(images)
    np.testing.assert_array_equal(prior.log_prob(images), expected)
    with tf.GradientTape() as tape:
        tape.watch(images)
        noisy = prior.dequantize(images, (0, 1))
    assert 0 < np.abs(noisy - images).max() <= 0.5 / 255 + 1e-6
    np.testing.assert_array_equal(tape.gradient(noisy, images), np.ones(images.shape))
    prior.trainable = False
    assert not prior.trainable_weights


def test_save_and_load_keep_it(make_prior, randomize, tmp_path):
    images = np.float32(_images(4))
    prior = make_prior("nice", dequantization="variational")
    randomize(prior.dequantizer)
    prior.save(tmp_path / "prior.keras")
    loaded = keras.saving.load_model(tmp_path / "prior.keras")
    np.testing.assert_array_equal(
        loaded.dequantize(images, (0, 1)), prior.dequantize(images, (0, 1))
    )


def test_xla_compiles_it(randomize):
    layer, images = _layer(randomize), _images()
    noise = _noise(images.shape)
    compiled = tf.function(layer, jit_compile=True)(images, noise)
    for result, expected in zip(compiled, layer(images, noise), strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-9)
