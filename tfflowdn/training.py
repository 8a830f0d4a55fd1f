"""Training runs: one `fit` for every stage, its work directory and callbacks."""

from __future__ import annotations

import csv
import functools
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfflowdn.data import write_image
from tfflowdn.optimizer import OPTIMIZERS

__all__ = [
    "DivergenceError",
    "SampleGrid",
    "check_steps",
    "default_strategy",
    "fit",
    "prepare_workdir",
    "save_copy",
]


class DivergenceError(ArithmeticError):
    """A loss or gradient that is not finite, or a loss far above its lowest."""


@functools.cache  # Two strategies of one process would mix up their all-reduces.
def default_strategy() -> tf.distribute.Strategy:
    """Returns MirroredStrategy over all GPUs if there are several, else the default."""
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def prepare_workdir(workdir: str | os.PathLike, identity: dict) -> Path:
    """Makes a work directory, or checks that it belongs to the same run.

    Args:
      workdir: The directory; made if it is absent.
      identity: What makes a model another model, as JSON types.

    Raises:
      ValueError: If the directory holds a run of another model.
    """
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / "model.json"
    identity = json.loads(json.dumps(identity))
    if path.exists():
        found = json.loads(path.read_text())
        names = sorted(set(found) | set(identity))
        differing = [n for n in names if found.get(n) != identity.get(n)]
        if differing:
            raise ValueError(
                "workdir must be new or hold a run of the same model; "
                f"{differing} differ from {path.name} in it. "
                f"Received: workdir={str(workdir)!r}."
            )
    else:
        _replace(path, lambda temporary: temporary.write_text(json.dumps(identity)))
    return workdir


def check_steps(num_steps: int, steps_per_epoch: int) -> None:
    """Raises ValueError unless `num_steps` is a multiple of `steps_per_epoch`."""
    if num_steps % steps_per_epoch:
        raise ValueError(
            "num_steps must be a multiple of steps_per_epoch. "
            f"Received: {num_steps=}, {steps_per_epoch=}."
        )


def check_optimizer(name: str) -> None:
    """Raises ValueError unless `name` is a key of `OPTIMIZERS`."""
    if name not in OPTIMIZERS:
        raise ValueError(
            f"optimizer must be one of {sorted(OPTIMIZERS)}. "
            f"Received: optimizer={name!r}."
        )


def fit(
    model: keras.Model,
    batches: Callable[[int], tf.data.Dataset],
    *,
    directory: str | os.PathLike,
    num_steps: int,
    steps_per_epoch: int,
    learning_rate: float,
    optimizer: str = "adam",
    warmup_steps: int = 0,
    clip_norm: float | None = None,
    ema_momentum: float | None = None,
    validation: tf.data.Dataset | None = None,
    monitor: str | None = None,
    save_best: Callable[[Path], None] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    loss=None,
    metrics=None,
) -> None:
    """Trains for a number of steps, or for those that are left of them.

    The learning rate rises over `warmup_steps` and falls along a cosine to a
    hundredth. After each epoch of `steps_per_epoch`, `directory` gets
    `last.weights.h5` (weights, optimizer, step), `history.csv` and TensorBoard's
    events in `logs/`; a run that finds `last.weights.h5` goes on from there.

    Args:
      model: The model; compiled here.
      batches: Gives the endless dataset of a run that begins at the given step.
      directory: Where the outputs go; made if it is absent.
      num_steps: Number of steps in all, a multiple of `steps_per_epoch`.
      steps_per_epoch: Steps between two validations and checkpoints.
      learning_rate: The largest learning rate.
      optimizer: "adam", or "muon" for networks of convolutions, see `GuardedMuon`.
      warmup_steps: Steps of the linear rise.
      clip_norm: Bound on the gradient's global norm; None for none.
      ema_momentum: Momentum of an exponential moving average of the weights, which
        validation, `callbacks`, `save_best` and the trained model then have; None for
        none.
      validation: Dataset for `model.evaluate` after each epoch.
      monitor: Name of the log that `save_best` goes by; lower is better, higher for
        a name that ends in "psnr".
      save_best: Called with `best.keras`'s temporary path whenever it improves.
      callbacks: Further callbacks.
      loss: For `compile`, where the model has no `train_step` of its own.
      metrics: For `compile`, likewise.

    Raises:
      ValueError: For an unknown optimizer, if `num_steps` is no multiple of
        `steps_per_epoch`, or if the run to go on with had an average and this one has
        none, or the other way round.
      DivergenceError: At the step whose loss or gradient is not finite, or where the
        epoch's mean loss has risen above its lowest by 100 times the magnitude of its
        first or lowest, or by 1 if that is more; or after an epoch whose validation is
        not finite. Checkpoints are left as they were after the last good epoch, and
        no gradient that is not finite reaches the weights.
    """
    check_steps(num_steps, steps_per_epoch)
    check_optimizer(optimizer)
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    schedule = _cosine(num_steps, learning_rate, warmup_steps)
    optimizer = OPTIMIZERS[optimizer](
        schedule,
        clip_norm=clip_norm,
        use_ema=ema_momentum is not None,
        ema_momentum=ema_momentum or 0.0,
    )
    optimizer.build(model.trainable_variables)
    model.compile(optimizer=optimizer, loss=loss, metrics=metrics)
    last = directory / "last.weights.h5"
    if last.exists():
        _load_checkpoint(model, last, ema_momentum)
    step = int(optimizer.iterations.numpy())
    if step >= num_steps:
        optimizer.finalize_variable_values(model.trainable_variables)
        return
    epoch = step // steps_per_epoch
    history = _History(directory / "history.csv", first_epoch=epoch)
    best = history.best(monitor) if save_best else None
    averaging = _Averaging() if ema_momentum is not None else None
    model.fit(
        batches(step),
        initial_epoch=epoch,
        epochs=num_steps // steps_per_epoch,
        steps_per_epoch=steps_per_epoch,
        validation_data=validation,
        shuffle=False,
        verbose=1 if sys.stdout.isatty() else 2,
        callbacks=[
            _StopOnDivergence(last, history.first_and_lowest_loss()),
            *([averaging] if averaging else []),
            *callbacks,
            history,
            keras.callbacks.TensorBoard(directory / "logs", write_graph=False),
            _Checkpoint(directory, monitor, save_best, best, averaging),
        ],
    )


def save_copy(model: keras.Model, path: str | os.PathLike, **overrides) -> None:
    """Saves a model to `.keras` without its optimizer, in one rename.

    Args:
      model: A model with `get_config`.
      path: The file, its name ends in `.keras`.
      **overrides: Constructor arguments of the copy that differ from the model's.
    """
    copy = type(model).from_config({**model.get_config(), **overrides})
    copy.set_weights(model.get_weights())
    _replace(Path(path), copy.save)


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


class _StopOnDivergence(keras.callbacks.Callback):
    """Raises DivergenceError; it stands before the callbacks that write checkpoints."""

    def __init__(self, last, first_and_lowest):
        super().__init__()
        self._last = last
        self._first_and_lowest = first_and_lowest

    def on_train_begin(self, logs=None):
        del logs
        self._step = self._iterations()

    def on_train_batch_end(self, batch, logs=None):
        del batch
        self._step += 1
        self._check_finite(logs)
        if self._iterations() < self._step:  # The optimizer has not counted the step.
            self._stop("the gradient must be finite", "one that is not")
        self._check_loss(float(logs["loss"]))

    def on_epoch_end(self, epoch, logs=None):
        del epoch
        self._check_finite(logs)

    def _check_finite(self, logs):
        for name, value in logs.items():
            if not name.endswith("psnr") and not np.isfinite(value):
                self._stop(f"{name} must be finite", f"{name}={value}")

    def _check_loss(self, loss):
        first, lowest = self._first_and_lowest or (loss, loss)
        limit = lowest + max(100 * abs(first), 100 * abs(lowest), 1)
        if loss > limit:
            must = f"loss must not rise above {limit:.4g} after it was {lowest:.4g}"
            self._stop(must, f"loss={loss:.4g}")
        self._first_and_lowest = (first, min(lowest, loss))

    def _stop(self, must, received):
        kept = (
            f"The last good checkpoint is {self._last}."
            if self._last.exists()
            else "There is no checkpoint before it."
        )
        raise DivergenceError(
            f"Training stopped: {must}. {kept} A lower learning_rate may help. "
            f"Received: {received} at step {self._step}."
        )

    def _iterations(self):
        return int(self.model.optimizer.iterations.numpy())


class _History(keras.callbacks.Callback):
    """Appends each epoch's logs to a CSV file, from `first_epoch` on."""

    def __init__(self, path, first_epoch):
        super().__init__()
        self._path = path
        self._rows = self._read()[:first_epoch] if path.exists() else []

    def best(self, monitor):
        return min((_cost(monitor, row[monitor]) for row in self._rows), default=None)

    def first_and_lowest_loss(self):
        losses = [float(row["loss"]) for row in self._rows]
        return (losses[0], min(losses)) if losses else None

    def on_epoch_end(self, epoch, logs=None):
        self._rows.append({"epoch": epoch, **(logs or {})})
        _replace(self._path, self._write)

    def _read(self):
        with self._path.open(newline="") as file:
            return list(csv.DictReader(file))

    def _write(self, path):
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(self._rows[0]))
            writer.writeheader()
            writer.writerows(self._rows)


class _Checkpoint(keras.callbacks.Callback):
    def __init__(self, directory, monitor, save_best, best, averaging):
        super().__init__()
        self._directory = directory
        self._monitor = monitor
        self._save_best = save_best
        self._best = best
        self._averaging = averaging

    def on_epoch_end(self, epoch, logs=None):
        del epoch
        if self._save_best is not None:
            value = _cost(self._monitor, logs[self._monitor])
            if self._best is None or value < self._best:
                self._best = value
                self._save_best(self._directory / "best.keras")
        if self._averaging is not None:
            self._averaging.restore()
        _replace(self._directory / "last.weights.h5", self.model.save_weights)


class _Averaging(keras.callbacks.Callback):
    """Puts the averaged weights into the model for validation and after an epoch.

    After an epoch they stay until `restore`; after the last one Keras puts them into
    the model for good.
    """

    def __init__(self):
        super().__init__()
        self._own = None

    def on_test_begin(self, logs=None):
        del logs
        self._swap()

    def on_test_end(self, logs=None):
        del logs
        self.restore()

    def on_epoch_end(self, epoch, logs=None):
        del epoch, logs
        self._swap()

    def restore(self):
        variables = self.model.trainable_variables
        for variable, value in zip(variables, self._own, strict=True):
            variable.assign(value)

    def _swap(self):
        variables = self.model.trainable_variables
        self._own = [variable.numpy() for variable in variables]
        self.model.optimizer.finalize_variable_values(variables)


def _load_checkpoint(model, path, ema_momentum):
    model.load_weights(path)
    # Keras only warns that it left an optimizer's weights out.
    if not int(model.optimizer.iterations.numpy()):
        raise ValueError(
            "ema_momentum must be None if and only if it was for the run that wrote "
            f"{path}. Received: ema_momentum={ema_momentum}."
        )


def _cosine(num_steps, learning_rate, warmup_steps):
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup_steps else learning_rate,
        decay_steps=max(1, num_steps - warmup_steps),
        alpha=0.01,
        warmup_target=learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )


def _cost(monitor, value):
    return -float(value) if monitor.endswith("psnr") else float(value)


def _replace(path, write):
    """Calls `write` with a temporary path beside `path`, then renames it."""
    temporary = path.with_name(f".tmp.{path.name}")
    write(temporary)
    os.replace(temporary, path)


def _grid(images, side):
    rows = [np.concatenate(images[i * side : (i + 1) * side], 1) for i in range(side)]
    return np.concatenate(rows, 0)
