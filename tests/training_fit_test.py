"""Failing training runs: their end, their message and their files."""

from __future__ import annotations

import csv
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfflowdn import training
from tfflowdn.training.checkpoint import Checkpoint
from tfflowdn.training.optimizer import OPTIMIZERS, GuardedAdam, GuardedMuon

STEPS = 4  # of an epoch


def _images(count, seed=0):
    rng = np.random.default_rng(seed)
    levels = rng.uniform(0.2, 0.8, (count, 1, 1, 1))
    noise = 0.05 * rng.standard_normal((count, 4, 4, 1))
    return np.float32(levels + noise)


def _batches(*broken_steps):
    """Returns the arguments of `training.fit`; some of the steps may get a NaN."""
    images = _images(8)
    spoiled = np.where(images == images[0, 0, 0], np.nan, images)

    def batches(step):
        def generate():
            for index in range(step + 1, 1000):
                yield spoiled if index in broken_steps else images

        spec = tf.TensorSpec(images.shape, tf.float32)
        return tf.data.Dataset.from_generator(generate, output_signature=spec)

    return batches


def _fit(prior, directory, batches, *, num_steps=3 * STEPS, rate=1e-3, **kwargs):
    validation = kwargs.pop("validation", _images(8, seed=1))
    training.fit(
        prior,
        batches,
        directory=directory,
        num_steps=num_steps,
        steps_per_epoch=STEPS,
        learning_rate=rate,
        clip_norm=50.0,
        validation=tf.data.Dataset.from_tensors(validation),
        monitor="val_loss",
        save_best=lambda path: training.save_copy(prior, path),
        **kwargs,
    )


def _diverges(message, directory, step):
    """Expects a DivergenceError at a step, which names the checkpoint."""
    last = re.escape(str(directory / "checkpoint.npz"))
    end = rf"Received: .* at step {step}\."
    pattern = rf"Training stopped: {message}.* checkpoint is {last}\..* {end}$"
    return pytest.raises(training.DivergenceError, match=pattern)


def _assert_usable(prior, directory):
    """The model in memory, the best prior and the checkpoint are all finite."""
    _assert_finite(prior)
    _assert_finite(keras.models.load_model(directory / "best.keras", compile=False))
    Checkpoint(directory / "checkpoint.npz").load(prior)
    _assert_finite(prior)


def _assert_finite(prior):
    assert all(np.isfinite(weights).all() for weights in prior.get_weights())
    assert np.isfinite(prior.log_prob(_images(2))).all()


@pytest.fixture
def trained(make_prior, tmp_path):
    """A run of one epoch: the prior, its directory and its checkpoints' bytes."""
    prior = make_prior("glow")
    _fit(prior, tmp_path, _batches(), num_steps=STEPS)
    names = ("checkpoint.npz", "best.keras")
    return prior, tmp_path, {name: (tmp_path / name).read_bytes() for name in names}


def _assert_untouched(directory, checkpoints):
    for name, content in checkpoints.items():
        assert (directory / name).read_bytes() == content


def test_a_non_finite_gradient_stops_before_it_reaches_the_weights(trained):
    prior, directory, checkpoints = trained
    with _diverges("the gradient must be finite", directory, step=STEPS + 2):
        _fit(prior, directory, _batches(STEPS + 2))
    _assert_untouched(directory, checkpoints)
    _assert_usable(prior, directory)
    _fit(prior, directory, _batches())  # From the checkpoint to the end.
    assert int(prior.optimizer.iterations) == 3 * STEPS


@pytest.mark.parametrize("rate", [1.0, 3.0])
def test_a_loss_far_above_its_lowest_stops(trained, rate):
    prior, directory, checkpoints = trained
    message = r"loss must not rise above [\d.]+ after it was -?[\d.]+\."
    with _diverges(message, directory, step=r"\d"):
        _fit(prior, directory, _batches(), rate=rate)
    _assert_untouched(directory, checkpoints)
    _assert_usable(prior, directory)


def test_a_loss_is_compared_with_those_before_the_run(trained):
    prior, directory, checkpoints = trained
    prior.set_weights([10 * weights for weights in prior.get_weights()])
    checkpoint = Checkpoint(directory / "checkpoint.npz")
    checkpoint.save(prior, checkpoint.state())
    with _diverges("loss must not rise above", directory, step=STEPS + 1):
        _fit(prior, directory, _batches())
    assert (directory / "best.keras").read_bytes() == checkpoints["best.keras"]


def test_a_non_finite_validation_stops_before_the_checkpoint(trained):
    prior, directory, checkpoints = trained
    broken = np.full((2, 4, 4, 1), np.nan, np.float32)
    with _diverges(r"val_\w+ must be finite", directory, step=2 * STEPS):
        _fit(prior, directory, _batches(), validation=broken)
    _assert_untouched(directory, checkpoints)


def test_without_a_checkpoint_the_message_says_so(make_prior, tmp_path):
    message = r"There is no checkpoint before it\..* at step 1\.$"
    with pytest.raises(training.DivergenceError, match=message):
        _fit(make_prior("glow"), tmp_path, _batches(1))
    assert not (tmp_path / "checkpoint.npz").exists()


def test_a_non_finite_gradient_of_a_finite_loss_stops(tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, name="d")])
    before = model.get_weights()
    zeros = tf.data.Dataset.from_tensors((tf.zeros([2, 1]), tf.zeros([2, 1]))).repeat()
    message = r"the gradient must be finite\..* at step 1\.$"
    with pytest.raises(training.DivergenceError, match=message):
        training.fit(
            model,
            lambda step: zeros.skip(step),
            directory=tmp_path,
            num_steps=1,
            steps_per_epoch=1,
            learning_rate=1.0,
            loss=lambda y, x: tf.sqrt((x - y) ** 2),  # Its slope at 0 is 0 / 0.
        )
    for weights, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weights, expected)


def test_the_pictures_of_the_batch_are_named(make_prior, tmp_path):
    def names(step):
        return [f"{step}.png", "b.png"]

    message = rf"The batch was made of {STEPS}\.png, b\.png\..* at step {STEPS + 1}\.$"
    with pytest.raises(training.DivergenceError, match=message):
        _fit(
            make_prior("glow"),
            tmp_path,
            _batches(STEPS + 1),
            batch_names=names,
        )


def _rows(directory):
    with (directory / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("broken", [(1,), (2, 3), (STEPS,), (STEPS + 1,)])
def test_batches_are_skipped_and_counted(make_prior, tmp_path, broken):
    prior = make_prior("glow")
    prior.initialize(_images(8))
    expected = make_prior("glow")
    expected.set_weights(prior.get_weights())
    _fit(prior, tmp_path, _batches(*broken), max_skipped=2, num_steps=2 * STEPS)
    assert int(prior.optimizer.iterations) == 2 * STEPS - len(broken)
    expected.compile(prior.optimizer.from_config(prior.optimizer.get_config()))
    batches = _batches(*broken)(0).take(2 * STEPS)
    logs = [expected.train_on_batch(batch, return_dict=True) for batch in batches]
    norms = [np.nan if log["skipped"] else log["gradient_norm"] for log in logs]
    norms = np.reshape(norms, (2, STEPS))
    for index, row in enumerate(_rows(tmp_path)):
        assert int(row["skipped"]) == sum(
            step <= STEPS * (index + 1) for step in broken
        )
        assert float(row["gradient_norm"]) == pytest.approx(np.nanmean(norms[index]))
    for one, other in zip(prior.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_no_more_batches_are_skipped_than_may_be(make_prior, tmp_path):
    with pytest.raises(training.DivergenceError, match=r"finite.* at step 7\.$"):
        _fit(make_prior("glow"), tmp_path, _batches(2, 3, 7), max_skipped=2)
    with pytest.raises(training.DivergenceError, match="an epoch must have a finite"):
        _fit(make_prior("nice"), tmp_path / "b", _batches(1, 2, 3, 4), max_skipped=4)


GRADIENTS = [[3.0, -4.0], [0.0, 0.0], [0.3, 0.1], [30.0, 40.0]]


@pytest.mark.parametrize("clip_norm", [None, 5.0])
def test_guarded_adam_is_adam_on_finite_gradients(clip_norm):
    optimizers = [
        GuardedAdam(0.1, clip_norm=clip_norm),
        keras.optimizers.Adam(0.1, global_clipnorm=clip_norm),
    ]
    results = []
    for optimizer in optimizers:
        weights = [keras.Variable([1.0, 2.0]), keras.Variable([[3.0]])]
        for gradient in GRADIENTS:
            gradients = [tf.constant(gradient), tf.constant([[1.0]])]
            optimizer.apply(gradients, weights)
        results.append(np.concatenate([w.numpy().ravel() for w in weights]))
        assert int(optimizer.iterations) == len(GRADIENTS)
    np.testing.assert_allclose(*results, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("num_replicas", [1, 2])
def test_guarded_adam_passes_over_non_finite_gradients(strategies, num_replicas, bad):
    strategy = strategies[num_replicas - 1]
    with strategy.scope():
        weights = [keras.Variable([1.0, 2.0]), keras.Variable([[3.0]])]
        optimizer = GuardedAdam(0.1, clip_norm=5.0)
        optimizer.build(weights)

    @tf.function
    def step(value):
        def replica():
            context = tf.distribute.get_replica_context()
            is_last = context.replica_id_in_sync_group == num_replicas - 1
            gradient = tf.where(is_last, value, 1.0)  # One replica's is bad.
            optimizer.apply([tf.stack([1.0, gradient]), tf.constant([[1.0]])], weights)

        strategy.run(replica)

    step(tf.constant(bad))
    assert optimizer.iterations.numpy() == 0
    for _ in range(3):
        step(tf.constant(bad))
        step(tf.constant(1.0))
    assert optimizer.iterations.numpy() == 3
    for weight, before in zip(weights, ([1.0, 2.0], [[3.0]]), strict=True):
        change = weight.numpy() - before
        assert (change > -1).all() and (change < -0.1).all()


def test_guarded_muon_passes_over_non_finite_gradients():
    kernel = keras.Variable(np.ones((1, 1, 2, 16), "float32"), name="kernel")
    optimizer = GuardedMuon(0.1, clip_norm=5.0)
    optimizer.apply([tf.fill(kernel.shape, np.nan)], [kernel])
    np.testing.assert_array_equal(kernel, np.ones((1, 1, 2, 16)))
    assert optimizer.iterations.numpy() == 0


def _kernels(*values):
    return [keras.Variable(value, name="kernel") for value in values]


def test_muon_makes_the_steps_of_a_kernel_orthogonal():
    rng = np.random.default_rng(0)
    kernel, last = _kernels(np.zeros((3, 3, 4, 16)), np.zeros((3, 3, 16, 4)))
    bias = keras.Variable(np.zeros(16), name="bias")
    gradients = [rng.standard_normal(v.shape) for v in (kernel, bias, last)]
    gradients[0] *= np.geomspace(0.03, 1, 16)  # Of very different singular values.
    GuardedMuon(0.1).apply([np.float32(g) for g in gradients], [kernel, bias, last])
    singular = np.linalg.svd(np.reshape(kernel, (36, 16)), compute_uv=False)
    assert singular.min() > 0.5 * singular.max()
    np.testing.assert_allclose(np.std(kernel), 0.2 * 0.1, rtol=0.4)
    for variable, gradient in ((bias, gradients[1]), (last, gradients[2])):
        np.testing.assert_allclose(variable, -0.1 * np.sign(gradient), rtol=1e-2)


def test_muon_of_a_matrix_is_that_of_keras():
    gradient = np.float32(np.random.default_rng(0).standard_normal((20, 16)))
    zeros = np.zeros((20, 16), "float32")
    matrix = keras.Variable(zeros)
    dense, convolution = _kernels(zeros, zeros[None, None])
    plain, guarded = keras.optimizers.Muon(0.1, weight_decay=None), GuardedMuon(0.1)
    for _ in range(3):
        plain.apply([gradient], [matrix])
        guarded.apply([gradient, gradient[None, None]], [dense, convolution])
    np.testing.assert_allclose(dense, matrix, rtol=1e-4)
    np.testing.assert_allclose(convolution[0, 0], matrix, rtol=1e-4)


@pytest.mark.parametrize("shape", [(5, 16), (3, 3, 2, 16)])
def test_muon_takes_the_kernels_of_a_stack_one_by_one(shape):
    rng = np.random.default_rng(0)
    gradient = np.float32(rng.standard_normal((4, *shape)))
    (stack,) = _kernels(np.zeros((4, *shape)))
    kernels = _kernels(*np.zeros((4, *shape)))
    GuardedMuon(0.1).apply([gradient], [stack])
    GuardedMuon(0.1).apply(list(gradient), kernels)
    np.testing.assert_allclose(stack, np.stack(kernels), rtol=1e-4, atol=1e-6)


def test_the_optimizer_must_be_known(tmp_path):
    with pytest.raises(ValueError, match=r"optimizer must be one of.*optimizer='sgd'"):
        _fit(None, tmp_path, _batches(), optimizer="sgd")


@pytest.mark.parametrize("kind", list(OPTIMIZERS.values()))
def test_optimizers_survive_their_config(kind):
    optimizer = kind(0.1, clip_norm=5.0, epsilon=1e-5)
    loaded = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert isinstance(loaded, kind)
    assert loaded.get_config() == optimizer.get_config()
