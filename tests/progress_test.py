"""Progress of long work, on a terminal and in a log file."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tfflowdn import progress


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_from_time_to_time(clock, capsys):
    with progress.Progress(10, "step", "Noise", done=2, seconds=30) as shown:
        for _ in range(8):
            clock[0] += 20
            shown.update(loss="1.5")
    assert capsys.readouterr().err.splitlines() == [
        "Noise: 4 of 10 steps, 02:00 left, loss 1.5",
        "Noise: 6 of 10 steps, 01:20 left, loss 1.5",
        "Noise: 8 of 10 steps, 00:40 left, loss 1.5",
    ]


def test_short_work_says_nothing(capsys):
    with progress.Progress(3, "step") as shown:
        shown.update(3)
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    with progress.Progress(2, "step", "Noise") as shown:
        shown.update(2, loss="1.5")
    assert "Noise:" in capsys.readouterr().err


def test_a_training_shows_its_steps_and_epochs(clock, capsys):
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    step = progress.StepProgress(6, "Fit", done=2)
    step.on_train_batch_end = _slow(step.on_train_batch_end, clock)
    x = np.zeros((4, 1), np.float32)
    model.fit(x, x, batch_size=2, epochs=2, verbose=0, callbacks=[step])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Fit: 3 of 6 steps, 02:00 left, loss 0"
    assert [line for line in lines if line.startswith("Epoch")] == [
        "Epoch 1: loss 0",
        "Epoch 2: loss 0",
    ]


def _slow(function, clock):
    def after_40_seconds(*arguments, **options):
        clock[0] += 40
        function(*arguments, **options)

    return after_40_seconds
