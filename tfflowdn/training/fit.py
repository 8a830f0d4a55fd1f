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
from tfflowdn.training.averaging import Averaging
from tfflowdn.training.checkpoint import Checkpoint
from tfflowdn.training.history import History, SaveBest
from tfflowdn.training.optimizer import OPTIMIZERS
from tfflowdn.training.save_checkpoint import SaveCheckpoint
from tfflowdn.training.state import Progress, TrainingState
from tfflowdn.training.step_summaries import StepSummaries

__all__ = ["check_steps", "fit"]


def check_steps(num_steps: int, steps_per_epoch: int) -> None:
    """Checks that `num_steps` is a multiple of `steps_per_epoch`.

    Raises:
      ValueError: If it is not.
    """
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
    loss: str | keras.losses.Loss | None = None,
    metrics: Sequence[keras.metrics.Metric] | None = None,
    text: str = "",
) -> None:
    """Trains for a number of steps, or continues a training up to that step.

    The learning rate rises over `warmup_steps` and falls along a cosine to a hundredth.
    `directory` gets `checkpoint.npz` after each epoch of `steps_per_epoch` and every
    `checkpoint_seconds` within an epoch; after each epoch it also gets `history.csv`
    and TensorBoard's events in `logs/`. A run that finds `checkpoint.npz` continues
    from its step, and ends with the same weights as an uninterrupted run.

    With several workers (`MultiWorkerMirroredStrategy`) only the chief writes, and all
    workers read its `directory` when they continue.

    Args:
      model: The model, built under the scope of its strategy. It is compiled here.
      batches: Gives the endless dataset of the batches from the given step on.
      directory: Directory of the outputs; it is created if it does not exist.
      num_steps: Total number of steps, a multiple of `steps_per_epoch`.
      steps_per_epoch: Steps between two validations.
      learning_rate: The largest learning rate.
      optimizer: "adam", or "muon" for convolutional networks, see `GuardedMuon`.
      warmup_steps: Number of steps of the linear rise.
      clip_norm: Bound on the global norm of the gradient; None for no bound.
      ema_momentum: Momentum of an exponential moving average of the weights, which is
        used for validation, `callbacks`, `save_best` and the trained model; None for no
        average.
      checkpoint_seconds: Time between two checkpoints of an epoch, and the largest time
        that a killed run loses; 0 for a checkpoint after each step.
      max_skipped: Number of batches with a gradient that is not finite that are skipped
        (see `GuardedAdam`) and counted as `skipped` in the logs; one more stops the
        run.
      validation: Dataset for `model.evaluate` after each epoch.
      monitor: Name of the log that decides which model is best: the lowest value, or
        the highest for a name that ends in "psnr".
      save_best: Writes the best model to the given path, a temporary one of
        `best.keras`.
      callbacks: Further callbacks; only the chief calls them.
      batch_names: Gives the names of the files in the batch of the given step, for the
        message if that batch stops the run.
      stop: Called after each step; if it returns True, a checkpoint is written and the
        run ends. During a validation the run ends at once, and continues later from the
        last checkpoint.
      loss: Loss for `compile`, if the model has no `train_step` of its own.
      metrics: Metrics for `compile`, likewise; they are means over batches.
      text: The configuration in Markdown, for TensorBoard.

    Raises:
      ValueError: If an argument is not valid, `num_steps` is not a multiple of
        `steps_per_epoch`, the batch size is not a multiple of the number of replicas,
        another process trains in `directory`, or the checkpoint there is of another
        model, optimizer or kind of average.
      OSError: If `directory` cannot be written to, for instance on a full disk; its
        files stay complete.
      PreemptionError: If `stop` returned True, after the checkpoint.
      DivergenceError: If a loss or gradient is not finite, a validation is not finite,
        or the mean loss of an epoch exceeds its lowest value by 100 times the magnitude
        of its first or lowest value, or by 1 if that is more. No gradient that is not
        finite changes the weights, and the last checkpoint is older.
    """
    devices.check_not_forked()
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
            all_callbacks.append(StepSummaries(directory, state, steps_per_epoch, text))
            all_callbacks.append(StepProgress(num_steps, done=state.step))
        all_callbacks.append(last_callback)
        # The rest of an interrupted epoch needs a call of its own.
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
            if model.stop_training:  # A callback has stopped the training.
                break
            if averaging and state.step < num_steps:
                averaging.restore()  # Keras has assigned the averages.


@contextlib.contextmanager
def _full_disk_as_os_error():
    """Turns the error of a full disk into an OSError.

    TensorFlow's own error also means a full GPU.
    """
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        if "No space left" not in error.message:
            raise
        raise OSError(
            "The disk must have room for TensorBoard's events; the checkpoints are "
            f"unchanged. Received: {error.message}."
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
    """Returns the first state; loads the checkpoint if there is one."""
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
