"""Checkpoints store and restore variables by name."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tfflowdn.training import Checkpoint
from tfflowdn.training.checkpoint import _names


def _model(*widths, optimizer="adam"):
    layers = [keras.layers.Dense(width) for width in widths]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(optimizer, "mse")
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.fixture
def checkpoint(tmp_path):
    return Checkpoint(tmp_path / "a.npz")


def test_a_model_that_is_made_later_gets_the_same_weights(checkpoint):
    model = _model(2, 3, 3)
    model.fit(np.ones((4, 3)), np.ones((4, 3)), verbose=0)
    checkpoint.save(model, {"step": 7})
    _model(4)  # Keras counts its layers.
    later = _model(2, 3, 3)
    checkpoint.load(later)
    assert checkpoint.state() == {"step": 7}
    variables = zip(
        [*model.variables, *model.optimizer.variables],
        [*later.variables, *later.optimizer.variables],
        strict=True,
    )
    for one, other in variables:
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_names_follow_the_layers_not_the_order():
    paths = ["a/b_7/kernel", "a/b_9/kernel", "c/b_3/kernel", "a/b_10/kernel"]
    names = ["a/b/kernel#0", "a/b/kernel#1", "c/b/kernel#0", "a/b/kernel#2"]
    assert _names(paths) == names
    assert _names(paths[::-1]) == names[::-1]
    first = ["s/b/kernel", "s_1/b_8/kernel", "s_1/b_8/bias"]
    later = ["s_4/b_12/kernel", "s_5/b_20/kernel", "s_5/b_20/bias"]
    assert _names(first) == _names(later)


@pytest.mark.parametrize(
    "widths, optimizer, message",
    [
        ((2, 3, 3), "sgd", r"\d+ unexpected \(adam/.*, \.\.\.\)"),
        ((2, 3), "adam", r"unexpected \(sequential/dense/kernel#2"),
        ((2, 3, 3, 3), "adam", r"missing \(sequential/dense/kernel#3"),
        ((2, 3, 4), "adam", r"shape \(.*kernel#2 \(3, 3\) instead of \(3, 4\)"),
    ],
)
def test_another_model_is_refused_by_name(checkpoint, widths, optimizer, message):
    checkpoint.save(_model(2, 3, 3), {})
    other = _model(*widths, optimizer=optimizer)
    before = other.get_weights()
    with pytest.raises(ValueError, match="must have the variables.*" + message):
        checkpoint.load(other)
    for one, now in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, now)


def test_a_checkpoint_without_names_is_refused(checkpoint):
    np.savez(checkpoint.path, np.zeros(3), state="{}")
    with pytest.raises(ValueError, match="earlier version stored no names"):
        checkpoint.load(_model(2))
