"""Training runs: one `fit` for every stage, its work directory and callbacks."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfflowdn import distribution
from tfflowdn.checkpoint import Checkpoint, locked, replace
from tfflowdn.data import write_image
from tfflowdn.optimizer import OPTIMIZERS

__all__ = [
    "DivergenceError",
    "PreemptionError",
    "SampleGrid",
    "check_steps",
    "fit",
    "prepare_workdir",
    "save_copy",
]


class DivergenceError(ArithmeticError):
    """A loss or gradient that is not finite, or a loss far above its lowest."""


class PreemptionError(RuntimeError):
    """A training has stopped because it was asked to, and can go on from there."""


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
        replace(path, lambda temporary: temporary.write_text(json.dumps(identity)))
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
    checkpoint_seconds: float = 60.0,
    max_skipped: int = 0,
    validation: tf.data.Dataset | None = None,
    monitor: str | None = None,
    save_best: Callable[[Path], None] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    batch_names: Callable[[int], Sequence[str]] | None = None,
    stop: Callable[[], bool] | None = None,
    loss=None,
    metrics=None,
) -> None:
    """Trains for a number of steps, or for those that are left of them.

    The learning rate rises over `warmup_steps` and falls along a cosine to a
    hundredth. After each epoch of `steps_per_epoch`, and every `checkpoint_seconds`
    within it, `directory` gets `checkpoint.npz`; after each epoch also `history.csv`
    and TensorBoard's events in `logs/`. A run that finds `checkpoint.npz` goes on from
    its step, and ends as if it had not been interrupted.

    With several workers (`MultiWorkerMirroredStrategy`) the chief alone writes, and
    all of them read its `directory` when they go on.

    Args:
      model: The model, built under the scope of its strategy; compiled here.
      batches: Gives the endless dataset of a run that begins at the given step: what
        an uninterrupted one yields from there on.
      directory: Where the outputs go; made if it is absent.
      num_steps: Number of steps in all, a multiple of `steps_per_epoch`.
      steps_per_epoch: Steps between two validations.
      learning_rate: The largest learning rate.
      optimizer: "adam", or "muon" for networks of convolutions, see `GuardedMuon`.
      warmup_steps: Steps of the linear rise.
      clip_norm: Bound on the gradient's global norm; None for none.
      ema_momentum: Momentum of an exponential moving average of the weights, which
        validation, `callbacks`, `save_best` and the trained model then have; None for
        none.
      checkpoint_seconds: Time between two checkpoints of an epoch, of which a kill
        loses at most one; 0 for one after every step.
      max_skipped: How many batches of the run with a gradient that is not finite are
        passed over (see `GuardedAdam`) and counted, as `skipped` in the logs; the
        next one stops it.
      validation: Dataset for `model.evaluate` after each epoch.
      monitor: Name of the log that `save_best` goes by; lower is better, higher for
        a name that ends in "psnr".
      save_best: Called with `best.keras`'s temporary path whenever it improves.
      callbacks: Further callbacks, of the chief.
      batch_names: Gives the names of what the batch of the given step was made of, to
        be said when it stops the run.
      stop: Asked after each step; when it says True, a checkpoint is written. Within a
        validation it ends the run at once, which goes on from the last checkpoint.
      loss: For `compile`, where the model has no `train_step` of its own.
      metrics: For `compile`, likewise; means over batches.

    Raises:
      ValueError: For an unknown optimizer; if `num_steps` is no multiple of
        `steps_per_epoch`, or the batches no multiple of the replicas; if another
        process trains in `directory`; or if the run to go on with had an average and
        this one has none, or the other way round.
      OSError: If `directory` cannot be written to, as on a full disk; what is in it
        stays whole.
      PreemptionError: If `stop` has said so, after the checkpoint.
      DivergenceError: At the step whose loss or gradient is not finite, or where the
        epoch's mean loss has risen above its lowest by 100 times the magnitude of its
        first or lowest, or by 1 if that is more; or after an epoch whose validation is
        not finite. The last checkpoint is one of before, and no gradient that is not
        finite reaches the weights.
    """
    check_steps(num_steps, steps_per_epoch)
    check_optimizer(optimizer)
    directory, strategy = Path(directory), model.distribute_strategy
    chief = distribution.is_chief(strategy)
    checkpoint = Checkpoint(directory / "checkpoint.npz")
    with contextlib.ExitStack() as stack:
        if chief:
            stack.enter_context(locked(directory))
        with strategy.scope():
            optimizer = OPTIMIZERS[optimizer](
                _cosine(num_steps, learning_rate, warmup_steps),
                clip_norm=clip_norm,
                use_ema=ema_momentum is not None,
                ema_momentum=ema_momentum or 0.0,
            )
            optimizer.build(model.trainable_variables)
            model.compile(optimizer=optimizer, loss=loss, metrics=metrics)
            state = _resume(model, checkpoint, ema_momentum)
        if state.step >= num_steps:
            optimizer.finalize_variable_values(model.trainable_variables)
            return
        distribution.prepare_for_workers(model, lambda: next(iter(batches(state.step))))
        averaging = _Averaging() if state.averaged else None
        last_callback = _SaveCheckpoint(
            checkpoint if chief else None,
            state,
            averaging,
            steps_per_epoch=steps_per_epoch,
            seconds=checkpoint_seconds,
            stop=stop or (lambda: False),
        )
        all_callbacks = [
            _Progress(state, checkpoint.path, max_skipped, batch_names),
            *([averaging] if averaging else []),
        ]
        if chief:
            epoch = state.step // steps_per_epoch
            all_callbacks += callbacks
            all_callbacks += _writers(directory, epoch, monitor, save_best)
        all_callbacks.append(last_callback)
        # First what is left of an epoch, then whole ones: they differ in their steps.
        while state.step < num_steps:
            epoch, done = divmod(state.step, steps_per_epoch)
            dataset = batches(state.step)
            distribution.check_batch_size(dataset, strategy.num_replicas_in_sync)
            with _full_disk_as_os_error():
                model.fit(
                    dataset,
                    initial_epoch=epoch,
                    epochs=epoch + 1 if done else num_steps // steps_per_epoch,
                    steps_per_epoch=steps_per_epoch - done,
                    validation_data=validation,
                    shuffle=False,
                    verbose=1 if sys.stdout.isatty() else 2,
                    callbacks=all_callbacks,
                )
            if model.stop_training:  # By one of the callbacks.
                break
            if averaging and state.step < num_steps:
                averaging.restore()  # Keras has put the averages into the model.


def save_copy(model: keras.Model, path: str | os.PathLike, **overrides) -> None:
    """Saves a model to `.keras` without its optimizer, in one rename.

    Args:
      model: A model with `get_config`.
      path: The file, its name ends in `.keras`.
      **overrides: Constructor arguments of the copy that differ from the model's.
    """
    copy = type(model).from_config({**model.get_config(), **overrides})
    copy.set_weights(model.get_weights())
    replace(Path(path), copy.save)


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
class _State:
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


class _Progress(keras.callbacks.Callback):
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
        del epoch, logs
        self._keep_means()

    def on_train_batch_end(self, batch, logs=None):
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


class _History(keras.callbacks.Callback):
    """Appends each epoch's logs to a CSV file, from `first_epoch` on."""

    def __init__(self, path, first_epoch):
        super().__init__()
        self._path = path
        self._rows = self._read()[:first_epoch] if path.exists() else []

    def best(self, monitor):
        return min((_cost(monitor, row[monitor]) for row in self._rows), default=None)

    def on_epoch_end(self, epoch, logs=None):
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


class _SaveBest(keras.callbacks.Callback):
    def __init__(self, directory, monitor, save_best, best):
        super().__init__()
        self._path = directory / "best.keras"
        self._monitor = monitor
        self._save_best = save_best
        self._best = best

    def on_epoch_end(self, epoch, logs=None):
        del epoch
        value = _cost(self._monitor, logs[self._monitor])
        if self._best is None or value < self._best:
            self._best = value
            self._save_best(self._path)


class _SaveCheckpoint(keras.callbacks.Callback):
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
        del batch, logs
        if self._state.step % self._steps_per_epoch == 0:
            return  # A checkpoint here would forget what follows the epoch.
        stop = self._stop()
        if stop or time.monotonic() >= self._saved_at + self._seconds:
            self._save()
        if stop:
            self._preempt()

    def on_test_batch_end(self, batch, logs=None):
        del batch, logs
        if self._stop():  # A validation may outlast what SIGTERM grants.
            raise PreemptionError(
                f"The training was asked to stop, and did in the validation after step "
                f"{self._state.step}; given again, the same command goes on from the "
                f"last checkpoint, at most {self._seconds:.0f} seconds of steps before."
            )

    def on_epoch_end(self, epoch, logs=None):
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


@contextlib.contextmanager
def _full_disk_as_os_error():
    """Tells TensorBoard's full disk from a full GPU, which TensorFlow does not."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        if "No space left" not in error.message:
            raise
        raise OSError(
            "The disk must have room for TensorBoard's events; checkpoints are as they "
            f"were before. Received: {error.message}."
        ) from error


def _writers(directory, first_epoch, monitor, save_best):
    history = _History(directory / "history.csv", first_epoch)
    writers = [
        history,
        keras.callbacks.TensorBoard(directory / "logs", write_graph=False),
    ]
    if save_best is not None:
        best = history.best(monitor)
        writers.append(_SaveBest(directory, monitor, save_best, best))
    return writers


def _resume(model, checkpoint, ema_momentum):
    """Returns the state to begin with, and loads the checkpoint, if there is one."""
    if not checkpoint.exists():
        return _State(averaged=ema_momentum is not None)
    state = _State(**checkpoint.state())
    if state.averaged != (ema_momentum is not None):
        raise ValueError(
            "ema_momentum must be None if and only if it was for the run that wrote "
            f"{checkpoint.path}. Received: ema_momentum={ema_momentum}."
        )
    checkpoint.load(model)
    return state


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


def _grid(images, side):
    rows = [np.concatenate(images[i * side : (i + 1) * side], 1) for i in range(side)]
    return np.concatenate(rows, 0)
