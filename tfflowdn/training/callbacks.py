"""Callbacks of a training: its state, history, checkpoints, samples and averages."""

from __future__ import annotations

import csv
import dataclasses
import math
import os
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfflowdn.data import write_image
from tfflowdn.files import replace

__all__ = [
    "Averaging",
    "DivergenceError",
    "History",
    "PreemptionError",
    "Progress",
    "SampleGrid",
    "SaveBest",
    "SaveCheckpoint",
    "TrainingState",
]


class DivergenceError(ArithmeticError):
    """A loss or gradient that is not finite, or a loss far above its lowest."""


class PreemptionError(RuntimeError):
    """A training has stopped because it was asked to, and can go on from there."""


class SampleGrid(keras.callbacks.Callback):
    """Writes a grid of a prior's samples after each epoch, as PNG and to TensorBoard.

    Args:
      directory: The PNGs go to `samples/`, TensorBoard's events to `logs/samples/`.
      num_samples: Number of samples, a square number.
      temperature: Factor on the latents' standard deviation.
      seed: Seed of the latents, the same each time.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        num_samples: int = 16,
        temperature: float = 0.8,
        seed: int = 0,
    ):
        super().__init__()
        self._directory = Path(directory)
        self._arguments = (num_samples, temperature, seed)
        self._side = math.isqrt(num_samples)
        self._writer = None

    def on_epoch_end(self, epoch, logs=None):
        """Draws the samples and writes the grid."""
        del logs
        samples = np.clip(self.model.sample(*self._arguments), 0, 1)
        grid = _grid(np.uint8(np.round(255 * samples)), self._side)
        folder = self._directory / "samples"
        folder.mkdir(exist_ok=True)
        write_image(folder / f"epoch_{epoch + 1:04d}.png", grid)
        if self._writer is None:
            path = self._directory / "logs" / "samples"
            self._writer = tf.summary.create_file_writer(str(path))
        with self._writer.as_default():
            tf.summary.image("samples", grid[np.newaxis], step=epoch + 1)
        self._writer.flush()


@dataclasses.dataclass
class TrainingState:
    """Where a training is, beside its weights and optimizer.

    Attributes:
      averaged: Whether there is an average of the weights.
      step: Batches taken in all.
      skipped: Those of them whose gradient was not finite.
      count: Those of this epoch that `means` is over.
      means: The epoch's logs.
      losses: First and lowest value of the log "loss"; None before the first.
    """

    averaged: bool
    step: int = 0
    skipped: int = 0
    count: int = 0
    means: dict[str, float] = dataclasses.field(default_factory=dict)
    losses: tuple[float, float] | None = None


class Progress(keras.callbacks.Callback):
    """Keeps the state, and raises DivergenceError.

    It stands first: Keras's means begin with what this process has seen of an epoch,
    and the callbacks that follow get those of the whole epoch.
    """

    def __init__(self, state, checkpoint_path, max_skipped, batch_names):
        super().__init__()
        self._state = state
        self._checkpoint_path = checkpoint_path
        self._max_skipped = max_skipped
        self._batch_names = batch_names

    def on_epoch_begin(self, epoch, logs=None):
        """Keeps the means of what came before."""
        del epoch, logs
        self._keep_means()

    def on_train_batch_end(self, batch, logs=None):
        """Acts after a step."""
        del batch
        state = self._state
        state.step += 1
        # The optimizer does not count a step whose gradient is not finite.
        if int(self.model.optimizer.iterations.numpy()) < state.step - state.skipped:
            self._skip(logs)
            return
        state.count += 1
        self._add_earlier_means(logs)
        self._check_finite(logs)
        self._check_loss(logs["loss"])
        state.means = dict(logs)

    def on_epoch_end(self, epoch, logs=None):
        """Acts after an epoch."""
        del epoch
        if not self._state.count:
            self._stop("an epoch must have a finite gradient", "none", batch=False)
        self._add_earlier_means(logs)
        self._check_finite(logs, batch=False)
        if self._max_skipped:
            logs["skipped"] = self._state.skipped
        self._state.count, self._state.means = 0, {}

    def _keep_means(self):
        self._earlier = self._state.count, self._state.means

    def _add_earlier_means(self, logs):
        """Turns means over what came after the earlier ones into means over all."""
        earlier, means = self._earlier
        for name in means:
            later = self._state.count - earlier
            total = earlier * means[name] + later * logs[name]
            logs[name] = total / self._state.count

    def _skip(self, logs):
        if self._state.skipped >= self._max_skipped:
            self._check_finite(logs)
            self._stop("the gradient must be finite", "one that is not")
        self._state.skipped += 1
        self.model.reset_metrics()  # They hold what is not finite.
        self._keep_means()
        logs.update(self._state.means)

    def _check_finite(self, logs, batch=True):
        for name, value in logs.items():
            if not name.endswith("psnr") and not np.isfinite(value):
                self._stop(f"{name} must be finite", f"{name}={value}", batch)

    def _check_loss(self, loss):
        first, lowest = self._state.losses or (loss, loss)
        limit = lowest + max(100 * abs(first), 100 * abs(lowest), 1)
        if loss > limit:
            must = f"loss must not rise above {limit:.4g} after it was {lowest:.4g}"
            self._stop(must, f"loss={loss:.4g}")
        self._state.losses = (first, min(lowest, loss))

    def _stop(self, must, received, batch=True):
        step = self._state.step
        kept = (
            f"The last good checkpoint is {self._checkpoint_path}."
            if self._checkpoint_path.exists()
            else "There is no checkpoint before it."
        )
        seen = ""
        if batch and self._batch_names is not None:
            seen = f" The batch was made of {', '.join(self._batch_names(step - 1))}."
        raise DivergenceError(
            f"Training stopped: {must}. {kept}{seen} A lower learning_rate may help. "
            f"Received: {received} at step {step}."
        )


class History(keras.callbacks.Callback):
    """Appends each epoch's logs to a CSV file, from `first_epoch` on."""

    def __init__(self, path, first_epoch):
        super().__init__()
        self._path = path
        self._rows = self._read()[:first_epoch] if path.exists() else []

    def best(self, monitor):
        """Returns the lowest cost so far, or None."""
        return min((_cost(monitor, row[monitor]) for row in self._rows), default=None)

    def on_epoch_end(self, epoch, logs=None):
        """Acts after an epoch."""
        self._rows.append({"epoch": epoch, **(logs or {})})
        replace(self._path, self._write)

    def _read(self):
        with self._path.open(newline="") as file:
            return list(csv.DictReader(file))

    def _write(self, path):
        with path.open("w", newline="") as file:
            names = list(dict.fromkeys(name for row in self._rows for name in row))
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(self._rows)


class SaveBest(keras.callbacks.Callback):
    """Saves the model when the monitored log improves."""

    def __init__(self, directory, monitor, save_best, best):
        super().__init__()
        self._path = directory / "best.keras"
        self._monitor = monitor
        self._save_best = save_best
        self._best = best

    def on_epoch_end(self, epoch, logs=None):
        """Acts after an epoch."""
        del epoch
        value = _cost(self._monitor, logs[self._monitor])
        if self._best is None or value < self._best:
            self._best = value
            self._save_best(self._path)


class SaveCheckpoint(keras.callbacks.Callback):
    """Saves (the chief, which has a checkpoint to save to), and stops when asked to."""

    def __init__(self, checkpoint, state, averaging, *, steps_per_epoch, seconds, stop):
        super().__init__()
        self._checkpoint = checkpoint
        self._state = state
        self._averaging = averaging
        self._steps_per_epoch = steps_per_epoch
        self._seconds = seconds
        self._stop = stop
        self._saved_at = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        """Acts after a step."""
        del batch, logs
        if self._state.step % self._steps_per_epoch == 0:
            return  # A checkpoint here would forget what follows the epoch.
        stop = self._stop()
        if stop or time.monotonic() >= self._saved_at + self._seconds:
            self._save()
        if stop:
            self._preempt()

    def on_test_batch_end(self, batch, logs=None):
        """Stops within a validation when asked to."""
        del batch, logs
        if self._stop():  # A validation may outlast what SIGTERM grants.
            raise PreemptionError(
                f"The training was asked to stop, and did in the validation after step "
                f"{self._state.step}; given again, the same command goes on from the "
                f"last checkpoint, at most {self._seconds:.0f} seconds of steps before."
            )

    def on_epoch_end(self, epoch, logs=None):
        """Acts after an epoch."""
        del epoch, logs
        if self._averaging is not None:
            self._averaging.restore()
        self._save()
        if self._stop():
            self._preempt()

    def _save(self):
        if self._checkpoint is not None:
            self._checkpoint.save(self.model, dataclasses.asdict(self._state))
        self._saved_at = time.monotonic()

    def _preempt(self):
        raise PreemptionError(
            f"The training was asked to stop, and did after step {self._state.step}; "
            "given again, the same command goes on from there."
        )


class Averaging(keras.callbacks.Callback):
    """Puts the averaged weights into the model for validation and after an epoch.

    After an epoch they stay until `restore`; after the last one Keras puts them into
    the model for good.
    """

    def __init__(self):
        super().__init__()
        self._own = None

    def on_test_begin(self, logs=None):
        """Puts the averages into the model."""
        del logs
        self._swap()

    def on_test_end(self, logs=None):
        """Puts the model's own weights back."""
        del logs
        self.restore()

    def on_epoch_end(self, epoch, logs=None):
        """Acts after an epoch."""
        del epoch, logs
        self._swap()

    def restore(self):
        """Puts the model's own weights back."""
        variables = self.model.trainable_variables
        for variable, value in zip(variables, self._own, strict=True):
            variable.assign(value)

    def _swap(self):
        variables = self.model.trainable_variables
        self._own = [variable.numpy() for variable in variables]
        self.model.optimizer.finalize_variable_values(variables)


def _cost(monitor, value):
    return -float(value) if monitor.endswith("psnr") else float(value)


def _grid(images, side):
    rows = [np.concatenate(images[i * side : (i + 1) * side], 1) for i in range(side)]
    return np.concatenate(rows, 0)
