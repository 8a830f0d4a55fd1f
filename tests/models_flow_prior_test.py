"""FlowPrior: training, density, samples, saving and replicas."""

from __future__ import annotations

import math

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfflowdn import flows
from tfflowdn.bijectors import ActNorm
from tfflowdn.models import FlowPrior


def _images(count=32, size=4, channels=1, seed=0):
    rng = np.random.default_rng(seed)
    levels = rng.uniform(0.2, 0.8, (count, 1, 1, channels))
    noise = 0.05 * rng.standard_normal((count, size, size, channels))
    return np.float32(np.round(255 * np.clip(levels + noise, 0, 1)) / 255)


def _fit(prior, images, *, rate=1e-2, **kwargs):
    prior.compile(optimizer=keras.optimizers.Adam(rate))
    defaults = {"batch_size": 16, "shuffle": False, "verbose": 0}
    return prior.fit(images, **{**defaults, **kwargs}).history


@pytest.fixture(scope="module")
def fitted(make_prior):
    """A prior with its training's history; read only."""
    prior = make_prior("glow", dequantization="uniform")
    history = _fit(prior, _images(), epochs=8, validation_data=(_images(seed=1),))
    return prior, history


def test_fit_lowers_the_loss_in_training_and_validation(fitted):
    _, history = fitted
    for name in ("loss", "val_loss"):
        assert history[name][-1] < history[name][0] - 0.05


def test_logs_have_their_names_and_agree(fitted):
    _, history = fitted
    training = {"loss", "bits_per_dim", "gradient_norm", "skipped"}
    assert history.keys() == training | {"val_loss", "val_bits_per_dim"}
    for prefix in ("", "val_"):
        bits = np.array(history[f"{prefix}bits_per_dim"])
        nats = np.array(history[f"{prefix}loss"])
        np.testing.assert_allclose(bits, nats / math.log(2) + 8, rtol=1e-5)
    assert min(history["gradient_norm"]) > 0


def test_fit_initializes_act_norm_from_the_first_batch():
    prior = FlowPrior(
        "glow",
        (4, 4, 1),
        flow_options={"num_levels": 1, "num_steps": 1, "hidden_channels": 2},
        dequantization=None,
    )
    assert not prior.initialized
    images = _images()
    _fit(prior, images, rate=0.0)
    assert prior.initialized
    shift, squeeze, repeat, _ = prior.distribution.bijector.bijectors
    assert repeat.layer is prior.flow_layers[0]
    repeat.layer.read(0)
    act_norm = ActNorm(repeat.steps[0].bijectors[0].layer.act_norm)
    values = tf.constant(images[:16])
    for part in (shift, squeeze, act_norm):
        values = part.inverse(values)
    np.testing.assert_allclose(np.mean(values, (0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(np.var(values, (0, 1, 2)), 1, atol=1e-2)


@pytest.mark.parametrize("kind", ["dataset", "pairs", "generator"])
def test_fit_initializes_from_any_input(make_prior, kind):
    prior, images = make_prior("glow"), _images(16)
    dataset = tf.data.Dataset.from_tensor_slices(images).batch(8)
    if kind == "pairs":
        dataset = tf.data.Dataset.zip(dataset, dataset)
    if kind == "generator":
        dataset = _Batches(images)
    prior.compile(optimizer="sgd")
    prior.fit(dataset, steps_per_epoch=1, shuffle=False, verbose=0)
    expected = make_prior("glow")
    expected.initialize(images[:8])
    expected.compile(optimizer="sgd")
    expected.fit(images[:8], batch_size=8, shuffle=False, verbose=0)
    for result, weight in zip(prior.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(result, weight, atol=1e-6)


class _Batches(keras.utils.PyDataset):
    def __init__(self, images):
        super().__init__()
        self._images = images

    def __len__(self):
        return len(self._images) // 8

    def __getitem__(self, index):
        return self._images[8 * index : 8 * index + 8]


def test_fit_does_not_initialize_twice(make_prior):
    prior = make_prior("glow")
    prior.initialize(_images())
    before = prior.get_weights()
    _fit(prior, _images(seed=1) / 2, rate=0.0)
    for result, weight in zip(prior.get_weights(), before, strict=True):
        np.testing.assert_array_equal(result, weight)


def test_a_file_holds_every_weight_once(make_prior, tmp_path):
    prior = make_prior("glow")
    prior.save_weights(tmp_path / "prior.weights.h5")
    sizes = []
    with h5py.File(tmp_path / "prior.weights.h5") as file:
        file.visititems(lambda _, item: sizes.append(getattr(item, "size", 0)))
    assert sum(sizes) == prior.count_params()


@pytest.mark.parametrize("flow", flows.FLOWS)
def test_save_and_load_give_the_same_density(make_prior, tmp_path, flow):
    options = {"num_levels": 1, "hidden_channels": 2}
    prior = make_prior(flow, flow_options=options, dequantization="gaussian", seed=3)
    prior.initialize(_images())
    prior.save(tmp_path / "prior.keras")
    loaded = keras.saving.load_model(tmp_path / "prior.keras")
    assert loaded.initialized
    assert loaded.get_config() == prior.get_config()
    np.testing.assert_array_equal(
        loaded.log_prob(_images(4)), prior.log_prob(_images(4))
    )


def test_uninitialized_prior_stays_uninitialized_after_load(make_prior, tmp_path):
    make_prior("glow").save(tmp_path / "prior.keras")
    assert not keras.saving.load_model(tmp_path / "prior.keras").initialized


def test_frozen_prior_has_no_trainable_weight_and_stays_frozen(make_prior, tmp_path):
    prior = make_prior("glow")
    num_weights = len(prior.weights)
    assert len(prior.trainable_weights) == 2 + 3 + 6
    prior.trainable = False
    assert not prior.trainable_weights
    assert len(prior.non_trainable_weights) == num_weights
    prior.save(tmp_path / "prior.keras")
    loaded = keras.saving.load_model(tmp_path / "prior.keras")
    assert not loaded.trainable and not loaded.trainable_weights
    assert not FlowPrior(**{**_config(prior), "trainable": False}).trainable_weights
    loaded.trainable = True
    assert len(loaded.trainable_weights) == 2 + 3 + 6


def _config(prior):
    names = ("flow", "image_shape", "flow_options")
    return {name: getattr(prior, name) for name in names}


def test_log_prob_is_that_of_the_distribution(tiny_prior):
    images = _images(5)
    result = tiny_prior.log_prob(images)
    assert result.shape == (5,)
    expected = tiny_prior.distribution.log_prob(tf.constant(images))
    np.testing.assert_allclose(result, expected, rtol=1e-5)
    np.testing.assert_array_equal(tiny_prior(images), result)
    np.testing.assert_allclose(tiny_prior.predict(images, verbose=0), result, rtol=1e-5)


@pytest.mark.parametrize("size", [2, 6, 8])
def test_log_prob_of_other_sizes(tiny_prior, size):
    images = tf.constant(_images(3, size))
    base = flows.standard_normal((size, size, 1))
    bijector = tiny_prior.distribution.bijector
    expected = base.log_prob(bijector.inverse(images))
    expected += bijector.inverse_log_det_jacobian(images, event_ndims=3)
    np.testing.assert_allclose(tiny_prior.log_prob(images), expected, rtol=1e-5)


def test_log_prob_in_a_graph_of_unknown_sizes(tiny_prior):
    spec = tf.TensorSpec([None, None, None, 1], tf.float32)
    traced = tf.function(tiny_prior.log_prob, input_signature=[spec])
    for images in (_images(3, 4), _images(2, 8)):
        expected = tiny_prior.log_prob(images)
        np.testing.assert_allclose(traced(images), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "shape, message",
    [
        ((4, 4, 1), r"images must be \[batch, H, W, 1\] for this prior\."),
        ((2, 4, 4, 3), r"images must be \[batch, H, W, 1\] for this prior\."),
        ((2, 4, 1, 1), r"height and width of images must be at least 2 "),
        ((2, 0, 4, 1), r"height and width of images must be at least 2 "),
        ((2, 4, 5, 1), r"height and width of images must be divisible by 2 "),
        ((2, 3, 4, 1), r"height and width of images must be divisible by 2 "),
    ],
)
def test_images_that_do_not_fit_are_refused(tiny_prior, shape, message):
    received = rf"{message}.*Received: images\.shape=\({', '.join(map(str, shape))}\)"
    images = tf.zeros(shape)
    functions = [tiny_prior.initialize]
    if "divisible" not in message:  # Any other size has a density.
        functions += [tiny_prior.log_prob, tiny_prior.bits_per_dim]
    for function in functions:
        with pytest.raises(ValueError, match=received):
            function(images)
    if len(shape) == 4:
        with pytest.raises(ValueError, match=message):
            tiny_prior.sample(1, image_shape=shape[1:])


@pytest.mark.parametrize("num_levels", [1, 2])
def test_size_multiple_comes_from_the_levels(num_levels):
    options = {"num_steps": 1, "hidden_channels": 1, "num_levels": num_levels}
    prior = FlowPrior("nice", (4, 4, 1), flow_options=options)
    assert prior.size_multiple == 2**num_levels


def test_size_multiple_of_the_default_levels():
    options = {"num_steps": 1, "hidden_channels": 1}
    assert FlowPrior("glow", (8, 8, 1), flow_options=options).size_multiple == 8


def test_bits_per_dim_counts_the_8_bits(tiny_prior):
    images = _images(3, 6)
    nats = tiny_prior.log_prob(images).numpy()
    expected = 8 - nats / (36 * math.log(2))
    np.testing.assert_allclose(tiny_prior.bits_per_dim(images), expected, rtol=1e-5)


def test_samples_follow_their_seed(tiny_prior):
    first = tiny_prior.sample(3, seed=1)
    assert first.shape == (3, 4, 4, 1)
    np.testing.assert_array_equal(first, tiny_prior.sample(3, seed=1))
    assert not np.allclose(first, tiny_prior.sample(3, seed=2))
    assert not np.allclose(tiny_prior.sample(3), tiny_prior.sample(3))


def test_samples_of_temperature_zero_are_the_image_of_the_mean(tiny_prior):
    samples = tiny_prior.sample(3, temperature=0.0)
    mean = tiny_prior.distribution.bijector.forward(tf.zeros([1, 4, 4, 1]))
    np.testing.assert_allclose(samples, tf.repeat(mean, 3, axis=0), atol=1e-6)


def test_temperature_scales_the_latents(tiny_prior):
    bijector = tiny_prior.distribution.bijector
    one, two = (tiny_prior.sample(2, temperature=t, seed=0) for t in (1.0, 2.0))
    latents = bijector.inverse(tf.identity(one))
    np.testing.assert_allclose(
        2 * latents, bijector.inverse(tf.identity(two)), atol=1e-4
    )


def test_logistic_latents_are_drawn_and_scored(make_prior):
    options = {"num_levels": 1, "num_steps": 1, "hidden_channels": 2}
    prior = make_prior("nice", flow_options={**options, "base": "logistic"})
    bijector = prior.distribution.bijector
    samples = prior.sample(64, seed=0, image_shape=(8, 8, 1))
    latents = bijector.inverse(tf.identity(samples))
    assert np.std(latents) == pytest.approx(math.pi / math.sqrt(3), rel=0.05)
    base = flows.standard_logistic((8, 8, 1))
    expected = base.log_prob(latents)
    expected += bijector.inverse_log_det_jacobian(samples, event_ndims=3)
    np.testing.assert_allclose(prior.log_prob(samples), expected, rtol=1e-4)


def test_samples_of_another_size_have_a_density(tiny_prior):
    samples = tiny_prior.sample(2, seed=0, image_shape=(6, 8, 1))
    assert samples.shape == (2, 6, 8, 1)
    latents = tf.random.stateless_normal((2, 6, 8, 1), [0, 0])
    result = tiny_prior.distribution.bijector.inverse(tf.identity(samples))
    np.testing.assert_allclose(result, latents, atol=1e-4)


@pytest.mark.parametrize(
    "dequantization, sigma, largest",
    [("uniform", 1 / 255 / math.sqrt(12), 0.5 / 255), ("gaussian", 0.02, 0.12)],
)
def test_dequantization_noise(make_prior, dequantization, sigma, largest):
    prior = make_prior(dequantization=dequantization, dequantization_sigma=0.02)
    images = np.full((100, 8, 8, 1), 0.5, np.float32)
    noise = prior.dequantize(images, [0, 1]).numpy() - images
    assert abs(noise.mean()) < 4 * sigma / 80
    assert noise.std() == pytest.approx(sigma, rel=0.05)
    assert np.abs(noise).max() <= largest * (1 + 1e-4)
    again, other = (prior.dequantize(images, [0, step]) - images for step in (1, 2))
    np.testing.assert_array_equal(noise, again)
    assert abs(np.corrcoef(noise.ravel(), np.ravel(other))[0, 1]) < 0.1


def test_no_dequantization_leaves_images(make_prior):
    images = _images(2)
    np.testing.assert_array_equal(make_prior().dequantize(images, [0, 1]), images)


def test_only_training_and_validation_add_noise(make_prior, monkeypatch):
    prior = make_prior(dequantization="uniform")
    images, seen = _images(4), []
    log_prob = FlowPrior.log_prob

    def spy(self, received):
        seen.append(np.array(received))
        return log_prob(self, received)

    monkeypatch.setattr(FlowPrior, "log_prob", spy)
    prior.compile(optimizer="sgd", run_eagerly=True)
    prior.fit(images, batch_size=4, epochs=2, shuffle=False, verbose=0)
    for _ in range(2):
        prior.evaluate(images, batch_size=4, verbose=0)
    for noisy in seen:
        assert 0 < np.abs(noisy - images).max() <= 0.5 / 255 + 1e-6
    first, second, *validation = seen
    assert np.abs(first - second).max() > 1e-4  # Each step has noise of its own,
    np.testing.assert_array_equal(*validation)  # validation the same each time,
    prior.predict(images, verbose=0)
    np.testing.assert_array_equal(seen[-1], images)  # and log_prob has none.


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"flow": "iaf"},
            r"flow must be one of \('nice', 'real_nvp', 'glow'\)\. "
            r"Received: flow='iaf'\.",
        ),
        (
            {"dequantization": "laplace"},
            r"dequantization must be one of .*Received: dequantization='laplace'\.",
        ),
        ({"image_shape": (6, 8, 1)}, r"Received: image_shape=\(6, 8, 1\)"),
    ],
)
def test_unknown_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FlowPrior(**arguments)


def test_one_and_two_replicas_take_the_same_step(make_prior, strategies):
    weights, logs = [], []
    for strategy in strategies:
        with strategy.scope():
            prior = make_prior("glow")
            prior.compile(optimizer=keras.optimizers.SGD(0.1))
        before = prior.get_weights()
        dataset = tf.data.Dataset.from_tensor_slices(_images(8)).batch(8)
        logs.append(prior.fit(dataset, shuffle=False, verbose=0).history)
        weights.append(prior.get_weights())
        moved = [np.abs(a - b).max() for a, b in zip(before, weights[-1], strict=True)]
        assert max(moved) > 1e-2
    for one, two in zip(*weights, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
    for name in ("loss", "bits_per_dim"):
        assert logs[0][name] == pytest.approx(logs[1][name], rel=1e-5)


@pytest.mark.parametrize("batch", [4, 3])
def test_shards_are_a_way_of_computing_the_same(make_prior, batch):
    prior, images = make_prior("glow"), _images()[:batch]

    def evaluate():
        with tf.GradientTape() as tape:
            log_prob = prior.log_prob(images)
            loss = tf.reduce_mean(log_prob)
        return [log_prob, *tape.gradient(loss, prior.trainable_variables)]

    whole = evaluate()
    prior.num_shards = 2
    for result, expected in zip(evaluate(), whole, strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def _tiny_flow(image_shape, *, seed, dtype):
    options = flows.FlowOptions(num_levels=1, num_steps=1, seed=seed, dtype=dtype)
    build = flows.FlowBuilder(image_shape, options)
    step = flows.CouplingStep(checkerboard=True, act_norm=True)
    return build.distribution([build.repeat([step], 2, image_shape[-1], 2)])


def test_a_flow_of_your_own_is_trained_saved_and_loaded(tmp_path, monkeypatch):
    prior = FlowPrior(_tiny_flow, (4, 4, 1))
    assert prior.size_multiple == 1  # It has no squeeze.
    _fit(prior, _images(), epochs=1)
    with pytest.raises(ValueError, match=r"must have a name in flows\.FLOWS\."):
        prior.save(tmp_path / "prior.keras")
    monkeypatch.setitem(flows.FLOWS, "tiny", _tiny_flow)
    prior.save(tmp_path / "prior.keras")
    loaded = keras.saving.load_model(tmp_path / "prior.keras")
    assert loaded.flow == "tiny"
    for size in (3, 4):
        expected = prior.log_prob(_images(4, size))
        np.testing.assert_array_equal(loaded.log_prob(_images(4, size)), expected)


@pytest.mark.parametrize("flow", ["nice", "real_nvp", "glow"])
@pytest.mark.parametrize("channels", [1, 3])
def test_no_image_has_no_sample_and_no_density(make_prior, flow, channels):
    prior = make_prior(flow, (4, 4, channels))
    assert prior.sample(0).shape == (0, 4, 4, channels)
    assert prior.log_prob(np.zeros((0, 4, 4, channels))).shape == (0,)
    assert prior.bits_per_dim(np.zeros((0, 4, 4, channels))).shape == (0,)


@pytest.mark.parametrize("value", [1e25, -3e38])
def test_a_density_that_is_not_finite_is_refused(make_prior, value):
    prior, images = make_prior("glow"), np.full((2, 4, 4, 1), 0.5, np.float32)
    images[1] = value
    for function in (prior.log_prob, prior.bits_per_dim, prior.likelihood_map):
        with pytest.raises(ValueError, match="density of finite images must be fin"):
            function(images)
    assert not np.isfinite(prior.log_prob(np.full((1, 4, 4, 1), np.nan)))
