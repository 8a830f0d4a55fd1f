"""UnpairedDenoiser: its objective, training, freezing, saving and replicas."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfflowdn.models import ResNetDenoiser, UnpairedDenoiser
from tfflowdn.noise import NoiseModel


def _pictures(count=8, size=4, channels=1, seed=0):
    rng = np.random.default_rng(seed)
    return np.float32(rng.uniform(0, 1, (count, size, size, channels)))


def _network(randomize=None, **options):
    defaults = {"num_blocks": 1, "hidden_channels": 2}
    network = ResNetDenoiser(**{**defaults, **options})
    if randomize is not None:
        randomize(network, scale=0.1)
    return network


@pytest.fixture
def make(randomize, make_prior):
    """Makes a tiny denoiser with random weights and a prior of its own."""

    def make_denoiser(network=None, **options):
        prior = make_prior("nice")
        network = _network(randomize) if network is None else network
        model = UnpairedDenoiser(network, prior, **{"blur_sigma": 0.5, **options})
        model.compile(optimizer=keras.optimizers.SGD(0.1))
        return model

    return make_denoiser


def _copy(weights):
    return [weight.numpy().copy() for weight in weights]


def _equal(before, after):
    return [np.array_equal(a, b) for a, b in zip(before, after, strict=True)]


def _blurred(images, sigma, radius=None):
    radius = int(np.ceil(3 * sigma)) if radius is None else radius
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    taps /= taps.sum()
    padding = [(0, 0), (radius, radius), (radius, radius), (0, 0)]
    padded = np.pad(images, padding, mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(
        padded, (len(taps), len(taps)), (1, 2)
    )
    return np.einsum("bhwcij,i,j->bhwc", windows, taps, taps)


def _sigma(noisy):
    stencil = np.diff(np.diff(noisy, 2, axis=1), 2, axis=2)
    return np.median(np.abs(stencil), axis=(1, 2, 3)) / (6 * 0.67448975)


def test_prior_is_evaluated_with_its_dequantization_noise(make_prior):
    prior = make_prior("nice", dequantization="gaussian", dequantization_sigma=0.1)
    denoised, noisy = tf.constant(_pictures(3)), tf.constant(_pictures(3, seed=1))
    model = UnpairedDenoiser(_network(), prior, prior_weight=1.0)
    _, mse, nats = model.objective(denoised, noisy, seed=(3, 4))
    with_noise = prior.dequantize(denoised, (3, 4))
    assert np.std(with_noise - denoised) == pytest.approx(0.1, rel=0.3)
    np.testing.assert_allclose(nats, -prior.log_prob(with_noise) / 16, rtol=1e-5)
    expected = ((denoised - noisy) ** 2).numpy().mean((1, 2, 3))
    np.testing.assert_allclose(mse, expected, rtol=1e-5)
    model = UnpairedDenoiser(_network(), prior, prior_weight=1.0, dequantize=False)
    nats = model.objective(denoised, noisy, seed=(3, 4))[2]
    np.testing.assert_allclose(nats, -prior.log_prob(denoised) / 16, rtol=1e-5)


@pytest.mark.parametrize("prior_weight", [0, 0.02, None])
def test_objective_is_that_of_the_paper(make, prior_weight):
    model = make(prior_weight=prior_weight, blur_sigma=0.7, map_factor=0.4)
    denoised, noisy = _pictures(3), _pictures(3, seed=1)
    loss, blur_mse, nats = model.objective(tf.constant(denoised), tf.constant(noisy))
    difference = _blurred(denoised, 0.7) - _blurred(noisy, 0.7)
    expected_mse = (difference**2).mean((1, 2, 3))
    expected_nats = -model.prior.log_prob(denoised).numpy() / 16
    weight = 0.4 * 2 * _sigma(noisy) ** 2 if prior_weight is None else prior_weight
    np.testing.assert_allclose(blur_mse, expected_mse, rtol=1e-4)
    np.testing.assert_allclose(nats, expected_nats, rtol=1e-5)
    np.testing.assert_allclose(loss, expected_mse + weight * expected_nats, rtol=1e-4)


def test_saved_models_with_removed_arguments_load_if_they_had_no_effect(make):
    config = make().get_config()
    removed = {
        "shift_grid": False,
        "initial_prior_factor": 1.0,
        "initial_blur_sigma": None,
        "annealing_steps": 3,
    }
    loaded = UnpairedDenoiser.from_config({**config, **removed})
    assert loaded.get_config().keys() == config.keys()
    message = "shift_grid must be False.*Received: shift_grid=True"
    with pytest.raises(ValueError, match=message):
        UnpairedDenoiser.from_config({**config, "shift_grid": True})


@pytest.mark.parametrize("prior_weight", [0.01, None])
def test_fit_lowers_the_loss_and_changes_the_network_only(make, prior_weight):
    model, noisy = make(prior_weight=prior_weight), _pictures()
    model.compile(optimizer=keras.optimizers.Adam(1e-2))
    network, prior = _copy(model.network.weights), _copy(model.prior.weights)
    fit = {"batch_size": 4, "epochs": 6, "shuffle": False, "verbose": 0}
    history = model.fit(noisy, **fit).history
    assert history["loss"][-1] < history["loss"][0]
    assert not any(_equal(network, _copy(model.network.weights)))
    assert all(_equal(prior, _copy(model.prior.weights)))


def test_only_the_network_is_trainable(make):
    model = make()
    paths = {weight.path for weight in model.trainable_weights}
    assert paths == {weight.path for weight in model.network.trainable_weights}
    assert not model.prior.trainable


def test_first_step_is_gradient_descent_on_the_mean_objective(make):
    model, noisy = make(prior_weight=0.05), _pictures()
    variables = model.network.trainable_variables
    before = _copy(variables)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model.objective(model(noisy), tf.constant(noisy))[0])
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    model.fit(noisy, batch_size=8, verbose=0)
    for value, old, gradient in zip(variables, before, gradients, strict=True):
        np.testing.assert_allclose(value, old - 0.1 * gradient, atol=1e-6)


def _step(model, noisy, clean=None):
    """Returns the change of each weight in a step of gradient descent."""
    before = _copy(model.network.trainable_variables)
    model.train_on_batch(noisy, clean)
    after = _copy(model.network.trainable_variables)
    return [a - b for a, b in zip(after, before, strict=True)]


class _CliffPrior(keras.Model):
    """Knows nothing of bright pictures: their density is beyond float32."""

    def log_prob(self, images):
        return -tf.exp(200 * (tf.reduce_mean(images, [1, 2, 3]) - 0.9))


def test_a_picture_without_a_finite_gradient_is_left_out(randomize):
    noisy = _pictures(2)
    noisy[1] += 10
    steps = []
    for batch in (noisy, noisy[:1]):
        options = {"prior_weight": 1e-3, "dequantize": False, "blur_sigma": 0.5}
        model = UnpairedDenoiser(_network(randomize), _CliffPrior(), **options)
        model.compile(optimizer=keras.optimizers.SGD(0.1))
        steps.append(_step(model, batch))
    for both, single in zip(*steps, strict=True):
        assert np.abs(single).max() > 0
        np.testing.assert_allclose(both, single / 2, rtol=1e-5, atol=2e-8)


def test_the_bound_scales_the_gradient_of_a_picture(make):
    noisy = _pictures(1)
    free, loose, tight, tighter = (
        _step(make(gradient_bound=bound), noisy) for bound in (None, 1e6, 0.02, 0.01)
    )
    for steps in zip(free, loose, tight, tighter, strict=True):
        of_free, of_loose, of_tight, of_tighter = map(np.linalg.norm, steps)
        assert of_loose == pytest.approx(of_free, rel=1e-5)
        assert of_tight < 0.5 * of_free
        assert of_tight == pytest.approx(2 * of_tighter, rel=0.02)
        cosine = np.vdot(steps[2], steps[0]) / (of_tight * of_free)
        assert cosine == pytest.approx(1, abs=1e-3)


def _rehearsal_batch(count=8):
    """Returns (noisy, synthetic), clean."""
    return tuple(_pictures(count, seed=seed) for seed in (0, 1)), _pictures(count)


@pytest.mark.parametrize("weight", [0.5, 10])
@pytest.mark.parametrize("bound", [None, 0.02])
def test_rehearsal_adds_the_mse_of_the_pairs_whatever_the_bound(make, weight, bound):
    (noisy, synthetic), clean = _rehearsal_batch(4)
    options = {"prior_weight": 0.05, "gradient_bound": bound}
    model = make(rehearsal_weight=weight, **options)
    variables = model.network.trainable_variables
    with tf.GradientTape() as tape:
        errors = (model.network(synthetic) - clean) ** 2
        mse = tf.reduce_mean(tf.reduce_mean(errors, axis=(1, 2, 3)))
    gradients = tape.gradient(mse, [variable.value for variable in variables])
    plain = _step(make(**options), noisy)
    rehearsed = _step(model, (noisy, synthetic), clean)
    assert not any(_equal(plain, rehearsed))
    for own, other, gradient in zip(rehearsed, plain, gradients, strict=True):
        expected = other - 0.1 * weight * gradient
        np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-6)


def test_rehearsal_is_tracked_in_training_and_not_in_validation(make):
    (noisy, synthetic), clean = _rehearsal_batch()
    plain, model = make(), make(rehearsal_weight=2.0)
    mse = np.mean((model(synthetic) - clean) ** 2)
    fit = {"batch_size": 8, "verbose": 0, "validation_data": (noisy, clean)}
    expected = plain.fit(noisy, **fit).history
    history = model.fit((noisy, synthetic), clean, **fit).history
    assert history.keys() == expected.keys() | {"rehearsal_mse"}
    assert history["rehearsal_mse"] == pytest.approx([mse], rel=1e-4)
    loss = expected["loss"][0] + 2 * mse
    assert history["loss"] == pytest.approx([loss], rel=1e-4)
    plain.network.set_weights(model.network.get_weights())
    names = {name.removeprefix("val_") for name in expected if name[:4] == "val_"}
    logs = plain.evaluate(noisy, clean, batch_size=8, return_dict=True, verbose=0)
    assert logs.keys() == names
    for name in names:
        assert history[f"val_{name}"] == pytest.approx([logs[name]], rel=1e-5)


def test_rehearsal_keeps_what_the_objective_without_it_unlearns(make):
    (noisy, synthetic), clean = _rehearsal_batch()
    errors = {}
    for weight in (0, 30.0):
        model = make(rehearsal_weight=weight, prior_weight=0.5)
        model.compile(optimizer=keras.optimizers.Adam(1e-2))
        batch = ((noisy, synthetic), clean) if weight else (noisy,)
        model.fit(*batch, batch_size=8, epochs=20, verbose=0)
        errors[weight] = np.mean((model(synthetic) - clean) ** 2)
    assert errors[30.0] < errors[0]


def test_no_rehearsal_is_the_default_and_changes_nothing(make):
    (noisy, _), _ = _rehearsal_batch()
    steps = [_step(make(**options), noisy) for options in ({}, {"rehearsal_weight": 0})]
    assert all(_equal(*steps))


@pytest.mark.parametrize(
    ("weight", "batch", "message"),
    [
        (1.0, (4,), r"\(\(4, 4, 4, 1\),\), rehearsal_weight=1.0"),
        (1.0, (4, 4), r"\(\(4, 4, 4, 1\), \(4, 4, 4, 1\)\), rehearsal_weight=1.0"),
        (1.0, ((4, 4),), r"\(\(\(4, 4, 4, 1\), \(4, 4, 4, 1\)\),\), rehearsal"),
        (1.0, ((4, 4, 4), 4), r"\(\(\(4.*1\)\), \(4, 4, 4, 1\)\), rehearsal"),
        (1.0, ((4, 4), 8), r"\(8, 8, 8, 1\)\), rehearsal_weight=1.0"),
        (0.0, ((4, 4), 4), r"\(4, 4, 4, 1\)\), rehearsal_weight=0.0"),
    ],
)
def test_batches_of_another_structure_are_said(make, weight, batch, message):
    model = make(rehearsal_weight=weight)
    batch = tf.nest.map_structure(lambda n: tf.zeros([n, n, n, 1]), batch)
    data = tf.data.Dataset.from_tensors(batch if len(batch) > 1 else (batch[0],))
    with pytest.raises(ValueError, match=f"Batches must be .*Received: .*{message}"):
        model.fit(data, shuffle=False, verbose=0)


def test_pairs_are_not_for_validation(make):
    model, (x, clean) = make(rehearsal_weight=1.0), _rehearsal_batch(2)
    with pytest.raises(ValueError, match=r"of validation .*Received: \(\(\(None, 4"):
        model.evaluate(x, clean, verbose=0)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf"), None, "10"])
def test_rehearsal_weight_must_be_a_number(tiny_prior, weight):
    message = f"must be a finite number .*Received: rehearsal_weight={weight!r}"
    with pytest.raises(ValueError, match=message):
        UnpairedDenoiser(_network(), tiny_prior, rehearsal_weight=weight)


def test_rehearsal_is_saved(make, tmp_path):
    model, (x, clean) = make(rehearsal_weight=3.0), _rehearsal_batch()
    model.fit(x, clean, batch_size=8, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.rehearsal_weight == 3.0
    for one in (model, loaded):
        one.fit(x, clean, batch_size=8, verbose=0)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_rehearsal_on_one_and_two_replicas_takes_the_same_step(make, strategies):
    batch, weights, logs = _rehearsal_batch(), [], []
    for strategy in strategies:
        with strategy.scope():
            model = make(rehearsal_weight=5.0)
        dataset = tf.data.Dataset.from_tensor_slices(batch).batch(8)
        logs.append(model.fit(dataset, shuffle=False, verbose=0).history)
        weights.append(_copy(model.network.weights))
    for one, two in zip(*weights, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
    assert "rehearsal_mse" in logs[0]
    for name, values in logs[0].items():
        assert values == pytest.approx(logs[1][name], rel=1e-5)


def test_trackers_have_their_names_and_values(make):
    model, noisy = make(prior_weight=0.03), _pictures()
    logs = model.evaluate(noisy, batch_size=4, return_dict=True, verbose=0)
    assert logs.keys() == {"loss", "blur_mse", "prior_bits_per_dim"}
    denoised = model(noisy)
    loss, blur_mse, nats = model.objective(denoised, tf.constant(noisy))
    assert logs["loss"] == pytest.approx(np.mean(loss), rel=1e-4)
    assert logs["blur_mse"] == pytest.approx(np.mean(blur_mse), rel=1e-4)
    bits = np.mean(model.prior.bits_per_dim(denoised))
    assert logs["prior_bits_per_dim"] == pytest.approx(bits, rel=1e-4)
    assert bits == pytest.approx(np.mean(nats) / np.log(2) + 8, rel=1e-4)


def test_psnr_is_tracked_in_validation_with_references_only(make):
    model, noisy, clean = make(), _pictures(), _pictures(seed=1)
    names = {"loss", "blur_mse", "prior_bits_per_dim"}
    fit = {"batch_size": 4, "shuffle": False, "verbose": 0}
    without = model.fit(noisy, validation_data=(noisy,), **fit).history
    assert without.keys() == names | {"skipped"} | {f"val_{n}" for n in names}
    history = model.fit(noisy, validation_data=(noisy, clean), **fit).history
    assert history.keys() == without.keys() | {"val_psnr"}
    denoised = np.clip(model.predict(noisy, verbose=0), 0, 1)
    errors = ((denoised - clean) ** 2).mean((1, 2, 3))
    expected = np.mean(-10 * np.log10(errors))
    assert history["val_psnr"][-1] == pytest.approx(expected, rel=1e-4)


def test_references_are_not_looked_at_in_training(make):
    noisy, weights = _pictures(), []
    for clean in (None, _pictures(seed=1)):
        model = make()
        model.fit(noisy, clean, batch_size=8, shuffle=False, verbose=0)
        weights.append(_copy(model.network.weights))
    for without, given in zip(*weights, strict=True):
        np.testing.assert_allclose(without, given, atol=1e-7)


def test_users_network_and_callback(make):
    inputs = keras.Input((None, None, 1))
    hidden = keras.layers.Conv2D(2, 3, padding="same", activation="relu")(inputs)
    outputs = keras.layers.Conv2D(1, 3, padding="same")(hidden)
    network, noisy, seen = keras.Model(inputs, outputs), _pictures(), []
    model = make(network)
    before = _copy(network.weights)
    callback = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append((epoch, sorted(logs)))
    )
    model.fit(noisy, batch_size=4, epochs=2, callbacks=[callback], verbose=0)
    names = ["blur_mse", "loss", "prior_bits_per_dim", "skipped"]
    assert seen == [(0, names), (1, names)]
    assert not any(_equal(before, _copy(network.weights)))
    np.testing.assert_array_equal(model(noisy), network(noisy))


@pytest.mark.parametrize("prior_weight", [0.02, None])
def test_save_and_load(make, tmp_path, prior_weight):
    model, noisy = make(prior_weight=prior_weight, map_factor=0.2), _pictures()
    model.fit(noisy, batch_size=8, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(noisy), model(noisy))
    assert (loaded.prior_weight, loaded.map_factor) == (prior_weight, 0.2)
    assert loaded.blur.sigma == 0.5 and not loaded.prior.trainable_weights
    terms = [m.objective(m(noisy), tf.constant(noisy)) for m in (model, loaded)]
    np.testing.assert_allclose(*terms, rtol=1e-6)
    model.fit(noisy, batch_size=8, verbose=0)
    loaded.fit(noisy, batch_size=8, verbose=0)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("prior_weight", [0.05, None])
def test_one_and_two_replicas_take_the_same_step(make, strategies, prior_weight):
    noisy, weights, logs = _pictures(), [], []
    for strategy in strategies:
        with strategy.scope():
            model = make(prior_weight=prior_weight)
        before = _copy(model.network.weights)
        dataset = tf.data.Dataset.from_tensor_slices(noisy).batch(8)
        logs.append(model.fit(dataset, shuffle=False, verbose=0).history)
        weights.append(_copy(model.network.weights))
        assert not any(_equal(before, weights[-1]))
    for one, two in zip(*weights, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
    for name, values in logs[0].items():
        assert values == pytest.approx(logs[1][name], rel=1e-5)


@pytest.mark.parametrize("prior_weight", [-0.1, "auto", float("nan")])
def test_prior_weight_must_be_a_number_or_map(tiny_prior, prior_weight):
    message = (
        "prior_weight must be a number of 0 or more, or None for the MAP. "
        f"Received: prior_weight={prior_weight!r}."
    )
    with pytest.raises(ValueError, match=message):
        UnpairedDenoiser(_network(), tiny_prior, prior_weight=prior_weight)


def test_learned_noise_is_the_data_term(make):
    noise = NoiseModel(num_knots=3, order=1)
    noise.log_levels.assign([np.log(0.1)])
    options = {"noise": noise, "spectral_floor": 0.0, "taper": 0, "map_factor": 0.5}
    model = make(**options)
    denoised, noisy = (tf.constant(_pictures(3, seed=seed)) for seed in (0, 1))
    loss, mismatch, nats = model.objective(denoised, noisy)
    expected = np.mean((denoised - noisy) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(mismatch, expected, rtol=1e-4)
    np.testing.assert_allclose(loss, expected + 0.5 * 2 * 0.01 * nats, rtol=1e-4)


def test_borders_have_no_gradient_under_the_learned_noise(make):
    steps = []
    for taper in (0, 2):
        noise = NoiseModel(num_knots=3, order=1)
        model = make(_Offset(), noise=noise, taper=taper, gradient_bound=None)
        model.train_on_batch(_pictures(2))  # N - D is 0: only the prior has a gradient.
        steps.append(model.network.offset.numpy()[..., 0])
    fall = np.sin(np.pi / 8 * np.float32([1, 3, 3, 1])) ** 2
    assert np.abs(steps[0]).min() > 0
    np.testing.assert_allclose(steps[1], steps[0] * np.outer(fall, fall), rtol=1e-3)


def test_learned_noise_is_frozen_and_saved(make, tmp_path, randomize):
    noise = NoiseModel(num_knots=3, order=1)
    randomize(noise)
    model = make(noise=noise, reference=_network(randomize), taper=1)
    before = _copy([*noise.weights, *model.reference.weights])
    history = model.fit(_pictures(), batch_size=4, verbose=0).history
    assert {"noise_mismatch", "prior_bits_per_dim"} <= history.keys()
    assert all(_equal(before, _copy([*noise.weights, *model.reference.weights])))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    pair = [tf.constant(_pictures(2, seed=seed)) for seed in (0, 1)]
    for one, other in zip(loaded.objective(*pair), model.objective(*pair), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


class _Offset(keras.Model):
    """Adds one weight to each pixel of 4x4 pictures."""

    def __init__(self):
        super().__init__()
        self.offset = self.add_weight(shape=(4, 4, 1), initializer="zeros")

    def call(self, noisy):
        return noisy + self.offset
