"""Training runs: one `fit` for every stage, its work directory and callbacks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from tfflowdn import devices
from tfflowdn.checks import check_choice
from tfflowdn.files import locked
from tfflowdn.progress import StepProgress
from tfflowdn.training.callbacks import (
    Averaging,
    History,
    Progress,
    SaveBest,
    SaveCheckpoint,
    TrainingState,
)
from tfflowdn.training.checkpoint import Checkpoint
from tfflowdn.training.optimizer import OPTIMIZERS

__all__ = ["check_steps", "fit"]


def check_steps(num_steps: int, steps_per_epoch: int) -> None:
    """Raises ValueError unless `num_steps` is a multiple of `steps_per_epoch`."""
    if num_steps % steps_per_epoch:
        raise ValueError(
            "num_steps must be a multiple of steps_per_epoch. "
            f"Received: {num_steps=}, {steps_per_epoch=}."
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
    check_choice("optimizer", optimizer, OPTIMIZERS)
    directory, strategy = Path(directory), model.distribute_strategy
    chief = devices.is_chief(strategy)
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
        devices.prepare_for_workers(model, lambda: next(iter(batches(state.step))))
        averaging = Averaging() if state.averaged else None
        last_callback = SaveCheckpoint(
            checkpoint if chief else None,
            state,
            averaging,
            steps_per_epoch=steps_per_epoch,
            seconds=checkpoint_seconds,
            stop=stop or (lambda: False),
        )
        all_callbacks = [
            Progress(state, checkpoint.path, max_skipped, batch_names),
            *([averaging] if averaging else []),
        ]
        if chief:
            epoch = state.step // steps_per_epoch
            all_callbacks += callbacks
            all_callbacks += _writers(directory, epoch, monitor, save_best)
            all_callbacks.append(StepProgress(num_steps, done=state.step))
        all_callbacks.append(last_callback)
        # First what is left of an epoch, then whole ones: they differ in their steps.
        while state.step < num_steps:
            epoch, done = divmod(state.step, steps_per_epoch)
            dataset = batches(state.step)
            devices.check_batch_size(dataset, strategy.num_replicas_in_sync)
            with _full_disk_as_os_error():
                model.fit(
                    dataset,
                    initial_epoch=epoch,
                    epochs=epoch + 1 if done else num_steps // steps_per_epoch,
                    steps_per_epoch=steps_per_epoch - done,
                    validation_data=validation,
                    shuffle=False,
                    verbose=0,
                    callbacks=all_callbacks,
                )
            if model.stop_training:  # By one of the callbacks.
                break
            if averaging and state.step < num_steps:
                averaging.restore()  # Keras has put the averages into the model.


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
    history = History(directory / "history.csv", first_epoch)
    writers = [
        history,
        keras.callbacks.TensorBoard(directory / "logs", write_graph=False),
    ]
    if save_best is not None:
        best = history.best(monitor)
        writers.append(SaveBest(directory, monitor, save_best, best))
    return writers


def _resume(model, checkpoint, ema_momentum):
    """Returns the state to begin with, and loads the checkpoint, if there is one."""
    if not checkpoint.exists():
        return TrainingState(averaged=ema_momentum is not None)
    state = TrainingState(**checkpoint.state())
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
