"""GuardedModel: Keras' contract for fit, in each of the models with their own loss."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfflowdn.models import FlowPrior, Noise2Void, ResNetDenoiser, UnpairedDenoiser
from tfflowdn.noise import NoiseModel

SGD = keras.optimizers.SGD
LossScale = keras.optimizers.LossScaleOptimizer
OPTIONS = {"num_levels": 1, "num_steps": 1, "hidden_channels": 2}


def _pictures(count=8, seed=0):
    rng = np.random.default_rng(seed)
    return np.float32(rng.uniform(0.1, 0.9, (count, 4, 4, 1)))


def _prior(**options):
    defaults = {"flow_options": OPTIONS, "dequantization": None}
    prior = FlowPrior("glow", (4, 4, 1), **{**defaults, **options})
    prior.initialize(_pictures())
    return prior


def _denoiser(**options):
    network = ResNetDenoiser(num_blocks=1, hidden_channels=2)
    return UnpairedDenoiser(network, _prior(), **options)


def _noise():
    return NoiseModel(order=1, num_knots=3)


def _blind_spots(**options):
    network = ResNetDenoiser(num_blocks=1, hidden_channels=2, residual=False)
    network.tail.kernel.assign(keras.random.normal(network.tail.kernel.shape, seed=0))
    return Noise2Void(network, **{"spacing": 2, "radius": 1, **options})


MAKERS = {"prior": _prior, "denoiser": _denoiser, "noise": _noise}
MAKERS["noise2void"] = _blind_spots
OF_PICTURES = ["prior", "denoiser", "noise2void"]


def _data(name, pictures):
    """Returns x and y of `fit`."""
    if name == "noise":
        return (np.zeros(len(pictures), np.int32), pictures), pictures - 0.5
    return pictures, None


@pytest.fixture(autouse=True)
def _float32():
    yield
    keras.config.set_dtype_policy("float32")
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")


def _changes(name, optimizer, pictures, *, make=None, sample_weight=None, **options):
    """Returns the change of the weights in one epoch of batches of 4, and the logs."""
    model = (make or MAKERS[name])()
    model.compile(optimizer, **options)
    before = model.get_weights()
    x, y = _data(name, pictures)
    history = model.fit(
        x, y, batch_size=4, shuffle=False, verbose=0, sample_weight=sample_weight
    )
    changes = [b - a for a, b in zip(before, model.get_weights(), strict=True)]
    return changes, history.history


def _assert_equal(results, expected, **tolerances):
    tolerances = {"rtol": 1e-5, "atol": 1e-8, **tolerances}
    assert max(np.abs(change).max() for change in expected) > 1e-5
    for one, other in zip(results, expected, strict=True):
        np.testing.assert_allclose(one, other, **tolerances)


@pytest.mark.parametrize("name", MAKERS)
def test_scaled_losses_take_the_same_step(name):
    pictures, eager = _pictures(4), {"run_eagerly": True}
    expected, logs = _changes(name, SGD(0.01), pictures, **eager)
    for optimizer in (LossScale(SGD(0.01)), SGD(0.01, loss_scale_factor=1024.0)):
        changes, scaled_logs = _changes(name, optimizer, pictures, **eager)
        _assert_equal(changes, expected)
        for log, values in logs.items():
            assert scaled_logs[log] == pytest.approx(values, rel=1e-5), log
    keras.config.set_dtype_policy("mixed_float16")
    _assert_equal(_changes(name, SGD(0.01), pictures, **eager)[0], expected)


def test_a_loss_is_scaled_in_a_graph():
    expected, _ = _changes("prior", SGD(0.01), _pictures(4))
    changes, _ = _changes("prior", LossScale(SGD(0.01)), _pictures(4))
    _assert_equal(changes, expected)


def test_a_network_in_float16_gets_the_scaled_gradient():
    def make(policy="float32"):
        inputs = keras.Input((None, None, 1), dtype="float32")
        kernel = keras.initializers.HeNormal(0)
        layer = keras.layers.Conv2D(1, 3, padding="same", kernel_initializer=kernel)
        layer.dtype_policy = keras.DTypePolicy(policy)
        network = keras.Model(inputs, layer(inputs))
        return UnpairedDenoiser(network, _prior(), prior_weight=1e-6)

    pictures = 1e-3 * _pictures(4)  # Gradients below the smallest float16.
    expected, _ = _changes("denoiser", SGD(1.0), pictures, make=make)
    optimizer = LossScale(SGD(1.0), initial_scale=2.0**10)
    half, _ = _changes(
        "denoiser", optimizer, pictures, make=lambda: make("mixed_float16")
    )
    for one, other in zip(half, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0.03, atol=1e-7)


@pytest.mark.parametrize("name", ["prior", "denoiser", "noise"])
def test_accumulated_gradients_are_those_of_the_whole_batch(name):
    optimizer = SGD(0.01, gradient_accumulation_steps=2)
    changes, _ = _changes(name, optimizer, _pictures(8), run_eagerly=True)
    whole = MAKERS[name]()
    whole.compile(SGD(0.01), run_eagerly=True)
    before = whole.get_weights()
    whole.train_on_batch(*_data(name, _pictures(8)))
    expected = [b - a for a, b in zip(before, whole.get_weights(), strict=True)]
    _assert_equal(changes, expected, rtol=1e-4)


@pytest.mark.parametrize("name", MAKERS)
def test_a_batch_that_is_not_finite_is_left_out_and_counted(name):
    adam = keras.optimizers.Adam(0.01, weight_decay=0.1)
    pictures = np.concatenate([_pictures(4), _pictures(4), _pictures(4, seed=1)])
    good = np.concatenate([pictures[:4], pictures[8:]])
    pictures[5, 1, 2] = np.nan
    expected, logs = _changes(name, adam, good)
    adam = keras.optimizers.Adam(0.01, weight_decay=0.1)
    changes, with_bad = _changes(name, adam, pictures)
    _assert_equal(changes, expected)
    assert int(adam.iterations) == 2
    assert (logs["skipped"], with_bad["skipped"]) == ([0], [1])
    for log in logs.keys() - {"skipped"}:
        assert with_bad[log] == pytest.approx(logs[log], rel=1e-4), log


@pytest.mark.parametrize("scaled", [False, True])
def test_a_bad_replica_leaves_out_the_step_of_all(strategies, scaled):
    bad = _pictures(8)
    bad[7] = np.inf  # On the second replica.
    with strategies[1].scope():
        prior = _prior()
        adam = keras.optimizers.Adam(0.01)
        prior.compile(LossScale(adam) if scaled else adam)
    before = prior.get_weights()
    batches = tf.data.Dataset.from_tensor_slices(bad).batch(8)
    history = prior.fit(batches, shuffle=False, verbose=0).history
    assert history["skipped"] == [1]
    for one, other in zip(prior.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_act_norm_is_set_from_finite_pictures():
    pictures = _pictures(8)
    pictures[:5, 0, 0] = np.nan  # No picture of the first batch is finite.
    for data in (pictures, iter([pictures[:4], pictures[4:]])):
        prior, expected = _prior(), _prior()
        for model in (prior, expected):
            model.set_weights([np.zeros_like(w) for w in model.get_weights()])
        prior.compile(SGD(0.0), run_eagerly=True)
        data = data if data is pictures else (batch for batch in data)
        fit = {"steps_per_epoch": 2, "shuffle": False, "verbose": 0}
        prior.fit(data, batch_size=4, **fit)
        expected.initialize(pictures[5:])
        for one, other in zip(prior.get_weights(), expected.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="a picture whose pixels are all finite"):
        prior.initialize(pictures[:4])


BAD_UNITS = {
    "uint8": np.uint8(255 * _pictures()),
    "floats of 8 bits": np.round(255 * _pictures()),
    "dark whole numbers": np.round(12 * _pictures()),
    "resized": 254.9 * _pictures(),
    "16 bits": np.float64(60_000.5 * _pictures()),
}


@pytest.mark.parametrize("units", BAD_UNITS)
@pytest.mark.parametrize("kind", ["array", "dataset"])
@pytest.mark.parametrize("name", OF_PICTURES)
def test_other_units_are_refused(name, kind, units):
    model, data = MAKERS[name](), BAD_UNITS[units]
    eager = units != "resized"  # The others would trace a graph each.
    model.compile(SGD(0.01), run_eagerly=eager)
    if kind == "dataset":
        data = tf.data.Dataset.from_tensor_slices(data).batch(4)
    for function, options in ((model.fit, {"shuffle": False}), (model.evaluate, {})):
        with pytest.raises(ValueError, match=r"floats in \[0, 1\].*Received: a batch"):
            function(data, verbose=0, **options)
    if kind == "array":
        with pytest.raises(ValueError, match=r"floats in \[0, 1\].*Received: a batch"):
            model.test_on_batch(data)


def test_integers_have_no_density():
    integers = BAD_UNITS["uint8"]
    for function in (MAKERS["prior"]().log_prob, MAKERS["prior"]().likelihood_map):
        pictures = integers[0] if function.__name__ == "likelihood_map" else integers
        with pytest.raises(
            ValueError, match="must be floats.*Received: a batch of uin"
        ):
            function(pictures)


@pytest.mark.parametrize("name", MAKERS)
def test_classes_are_refused(name):
    model = MAKERS[name]()
    model.compile("sgd")
    with pytest.raises(ValueError, match=r"class_weight must be None.*class_weight={"):
        model.fit(*_data(name, _pictures()), class_weight={0: 1.0})


def test_units_are_checked_before_act_norm_is_set():
    prior = FlowPrior("glow", (4, 4, 1), flow_options=OPTIONS)
    prior.compile("sgd")
    with pytest.raises(ValueError, match=r"the largest value 2\d\d\.?\d*\.$"):
        prior.fit(255 * _pictures(), verbose=0)
    assert not prior.initialized
    with pytest.raises(ValueError, match=r"\[0, 1\] units.*Received: a batch of uint8"):
        prior.initialize(BAD_UNITS["uint8"])


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
@pytest.mark.parametrize("name", OF_PICTURES)
def test_datasets_of_other_floats(name, dtype):
    pictures = np.round(_pictures(4) * 128) / 128  # Each type holds them.
    expected, _ = _changes(name, SGD(0.01), np.float32(pictures), run_eagerly=True)
    model = MAKERS[name]()
    model.compile(SGD(0.01), run_eagerly=True)
    before = model.get_weights()
    data = tf.data.Dataset.from_tensors(tf.cast(pictures, dtype))
    model.fit(data, shuffle=False, verbose=0, validation_data=data)
    changes = [b - a for a, b in zip(before, model.get_weights(), strict=True)]
    _assert_equal(changes, expected)


def _one_batch(pictures):
    """Returns a generator of one batch."""
    yield pictures


@pytest.mark.parametrize("name", OF_PICTURES)
def test_a_generator(name):
    pictures = _pictures(8)
    expected, _ = _changes(name, SGD(0.01), pictures, run_eagerly=True)
    model = MAKERS[name]()
    model.compile(SGD(0.01), run_eagerly=True)
    before = model.get_weights()
    fit = {"steps_per_epoch": 2, "shuffle": False, "verbose": 0}
    validation = {"validation_data": _one_batch(pictures), "validation_steps": 1}
    logs = model.fit((batch for batch in np.split(pictures, 2)), **fit, **validation)
    assert np.isfinite(logs.history["val_loss"][0])
    changes = [b - a for a, b in zip(before, model.get_weights(), strict=True)]
    _assert_equal(changes, expected)


@pytest.mark.parametrize("name", MAKERS)
def test_sample_weights_multiply_the_loss_of_each_picture(name):
    pictures, eager = _pictures(4), {"run_eagerly": True}
    weights = np.float32([2, 0, 0, 0])
    changes, logs = _changes(name, SGD(0.01), pictures, sample_weight=weights, **eager)
    if name == "noise":  # The roughness of the curves has no weight.
        assert logs["loss"] != _changes(name, SGD(0.01), pictures, **eager)[1]["loss"]
        return
    expected, of_first = _changes(name, SGD(0.005), pictures[:1], **eager)
    _assert_equal(changes, expected, rtol=1e-4)
    assert logs["loss"] == pytest.approx(of_first["loss"], rel=1e-4)
    zeros, _ = _changes(name, SGD(1.0), pictures, sample_weight=0 * weights, **eager)
    assert all(np.all(change == 0) for change in zeros)


@pytest.mark.parametrize("name", ["prior", "denoiser"])
def test_sample_weights_in_validation(name):
    model, pictures = MAKERS[name](), _pictures(4)
    model.compile(SGD(0.0), run_eagerly=True)
    weights = np.float32([0, 1, 0, 0])
    logs = {"return_dict": True, "verbose": 0}
    expected = model.evaluate(pictures[1:2], **logs)["loss"]
    weighted = model.evaluate(pictures, sample_weight=weights, **logs)
    assert weighted.keys() == model.evaluate(pictures, **logs).keys()
    assert weighted["loss"] == pytest.approx(expected, rel=1e-5)
    validation = pictures, None, weights
    history = model.fit(pictures, validation_data=validation, verbose=0).history
    assert history["val_loss"] == pytest.approx([expected], rel=1e-5)
    message = r"one number for each picture.*Received: sample_weight.shape=\(4, 4, 4\)"
    with pytest.raises(ValueError, match=message):
        model.evaluate(pictures, sample_weight=np.ones((4, 4, 4), "f4"), **logs)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(
    "options", [{"loss": "mse"}, {"metrics": ["mae"]}, {"weighted_metrics": ["mae"]}]
)
def test_a_loss_or_metrics_are_refused(name, options):
    ((argument, value),) = options.items()
    with pytest.raises(ValueError, match=rf"{argument} must be None.*{argument}="):
        MAKERS[name]().compile("sgd", **options)


def test_a_compiled_model_is_loaded_with_its_optimizer(tmp_path):
    prior = _prior()
    prior.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    prior.train_on_batch(_pictures(4))
    prior.save(tmp_path / "prior.keras")
    loaded = keras.models.load_model(tmp_path / "prior.keras")
    for model in (prior, loaded):
        model.run_eagerly = True
        model.train_on_batch(_pictures(4, seed=1))
    for one, other in zip(prior.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("channels", [2, 5])
def test_models_of_any_number_of_channels(channels):
    pictures = np.repeat(_pictures(4), channels, -1)
    pictures[..., -1] = 0.3 * pictures[..., -1] + 0.2
    prior = FlowPrior("glow", (4, 4, channels), flow_options=OPTIONS)
    network = ResNetDenoiser(channels, num_blocks=1, hidden_channels=2)
    prior.compile(SGD(0.01), run_eagerly=True)
    logs = prior.fit(pictures, verbose=0).history
    assert np.isfinite(logs["loss"]).all() and logs["skipped"] == [0]
    samples = prior.sample(3, seed=0)
    assert samples.shape == (3, 4, 4, channels)
    latents = prior.distribution.bijector.inverse(tf.identity(samples))
    expected = tf.random.stateless_normal(samples.shape, [0, 0])
    np.testing.assert_allclose(latents, expected, atol=1e-3)
    model = UnpairedDenoiser(network, prior)
    model.compile(SGD(0.01), run_eagerly=True)
    before = network.tail.kernel.numpy()
    model.fit(pictures, verbose=0)
    assert np.abs(network.tail.kernel - before).max() > 0
    assert network(pictures).shape == pictures.shape


def test_numbers_of_samples_are_checked():
    prior = _prior()
    assert prior.sample(0).shape == (0, 4, 4, 1)
    assert prior.log_prob(_pictures()[:0]).shape == (0,)
    for temperature in (-0.1, np.nan, np.inf):
        message = "temperature must be a finite number of 0 or more.*temperature="
        with pytest.raises(ValueError, match=message):
            prior.sample(1, temperature)
        with pytest.raises(tf.errors.InvalidArgumentError, match="temperature must be"):
            tf.function(prior.sample)(1, tf.constant(temperature, tf.float32))
    with pytest.raises(ValueError, match="num_samples must be.*num_samples=-1"):
        prior.sample(-1)


@pytest.mark.parametrize("policy", ["bfloat16", "float16"])
def test_weights_in_half_precision_are_refused(policy):
    keras.config.set_dtype_policy(policy)
    for make in (FlowPrior, NoiseModel):
        with pytest.raises(ValueError, match=f"dtype of the weights must.*{policy}"):
            make()


def test_global_settings_do_not_change_the_models():
    expected, _ = _changes("denoiser", SGD(0.01), _pictures(4), run_eagerly=True)
    keras.config.set_image_data_format("channels_first")
    for policy in ("mixed_bfloat16", "mixed_float16"):
        keras.config.set_dtype_policy(policy)
        changes, _ = _changes("denoiser", SGD(0.01), _pictures(4), run_eagerly=True)
        _assert_equal(changes, expected)
    keras.config.set_dtype_policy("float32")
    keras.config.set_floatx("float64")
    for name, make in MAKERS.items():
        changes, _ = _changes(
            name, SGD(0.01), np.float64(_pictures(4)), make=make, run_eagerly=True
        )
        assert all(np.isfinite(change).all() for change in changes)
    assert ResNetDenoiser(num_blocks=1)(_pictures(1)).dtype == tf.float32


def test_xla_hides_neighbors():
    options = {"replacement": "neighbor", "spacing": 3}
    changes, logs = _changes(
        "noise2void",
        SGD(0.01),
        _pictures(4),
        make=lambda: _blind_spots(**options),
        jit_compile=True,
    )
    assert logs["skipped"] == [0] and max(np.abs(c).max() for c in changes) > 0


@pytest.mark.parametrize("name", ["prior", "denoiser"])
def test_xla_takes_the_same_step(name):
    expected, _ = _changes(name, SGD(0.01), _pictures(4), run_eagerly=True)
    changes, _ = _changes(name, SGD(0.01), _pictures(4), jit_compile=True)
    _assert_equal(changes, expected, rtol=1e-3, atol=1e-6)
