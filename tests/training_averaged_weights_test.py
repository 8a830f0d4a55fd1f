"""training.fit: averaged weights, in one run and over a kill."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfflowdn import training

MOMENTUM = 0.75


class _Record(keras.callbacks.Callback):
    """Keeps the weights after every step, and stops like a kill after `last_step`."""

    def __init__(self, last_step=None):
        super().__init__()
        self.steps, self.seen_after_epochs, self._last_step = [], [], last_step

    def on_train_batch_begin(self, batch, logs=None):
        del batch, logs
        if len(self.steps) == self._last_step:
            raise KeyboardInterrupt

    def on_train_batch_end(self, batch, logs=None):
        del batch, logs
        self.steps.append(self.model.get_weights())

    def on_epoch_end(self, epoch, logs=None):
        del epoch, logs
        self.seen_after_epochs.append(self.model.get_weights())


def _model():
    dense = keras.layers.Dense(1, kernel_initializer="ones")
    return keras.Sequential([keras.Input((3,)), dense])


def _pairs():
    x = np.random.default_rng(0).standard_normal((8, 3), np.float32)
    return tf.data.Dataset.from_tensor_slices((x, x @ [[2.0], [3.0], [-1.0]])).batch(8)


def _fit(directory, ema_momentum=MOMENTUM, last_step=None, model=None, **kwargs):
    """Trains for six steps in three epochs; returns the model and the record."""
    model = model or _model()
    record = _Record(last_step)
    training.fit(
        model,
        lambda _: _pairs().repeat(),
        directory=directory,
        num_steps=6,
        steps_per_epoch=2,
        learning_rate=0.1,
        ema_momentum=ema_momentum,
        validation=_pairs(),
        loss="mse",
        callbacks=[record],
        **kwargs,
    )
    return model, record


def _averages(steps):
    """Returns the averages after each epoch of two steps, the first step counted in."""
    averages = [steps[0]]
    for weights in steps[1:]:
        pairs = zip(averages[-1], weights, strict=True)
        averages.append([MOMENTUM * a + (1 - MOMENTUM) * w for a, w in pairs])
    return averages[1::2]


def _assert_equal(result, expected):
    for one, other in zip(result, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_averages_are_what_is_validated_saved_and_kept(tmp_path):
    saved = []
    model = _model()
    model, record = _fit(
        tmp_path,
        model=model,
        monitor="val_loss",
        save_best=lambda _: saved.append(model.get_weights()),
    )
    expected = _averages(record.steps)
    assert np.abs(expected[-1][0] - record.steps[-1][0]).max() > 0.05
    for result, average in zip(record.seen_after_epochs, expected, strict=True):
        _assert_equal(result, average)
    _assert_equal(model.get_weights(), expected[-1])
    _assert_equal(saved[-1], expected[-1])
    rows = (tmp_path / "history.csv").read_text().splitlines()
    column = rows[0].split(",").index("val_loss")
    loss = model.evaluate(_pairs(), verbose=0)
    assert float(rows[-1].split(",")[column]) == pytest.approx(loss, rel=1e-5)


def test_without_averaging_the_last_weights_are_kept(tmp_path):
    model, record = _fit(tmp_path, ema_momentum=None)
    _assert_equal(model.get_weights(), record.steps[-1])


@pytest.mark.parametrize("ema_momentum", [None, MOMENTUM])
def test_a_killed_run_ends_as_if_it_had_not_been(tmp_path, ema_momentum):
    model, record = _fit(tmp_path / "whole", ema_momentum)
    with pytest.raises(KeyboardInterrupt):
        _fit(tmp_path / "killed", ema_momentum, last_step=3)
    resumed, rest = _fit(tmp_path / "killed", ema_momentum)
    assert len(rest.steps) == 4
    for one, other in zip(rest.steps, record.steps[2:], strict=True):
        np.testing.assert_array_equal(one[0], other[0])
    for one, other in zip(resumed.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_finished_run_gives_its_averages_again(tmp_path):
    model, _ = _fit(tmp_path)
    again, rest = _fit(tmp_path)
    assert not rest.steps
    for one, other in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("momenta", [(None, MOMENTUM), (MOMENTUM, None)])
def test_averaging_must_stay_as_it_was(tmp_path, momenta):
    before, after = momenta
    with pytest.raises(KeyboardInterrupt):
        _fit(tmp_path, before, last_step=3)
    message = rf"ema_momentum must be None if and only if.*ema_momentum={after}\."
    with pytest.raises(ValueError, match=message):
        _fit(tmp_path, after)


def test_replicas_average_alike(tmp_path, strategies):
    results = []
    for index, strategy in enumerate(strategies):
        with strategy.scope():
            model, _ = _fit(tmp_path / str(index))
        results.append(model.get_weights())
    _assert_equal(*results)
