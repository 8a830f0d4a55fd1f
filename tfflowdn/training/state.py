"""The state of a training, and the callback that updates and checks it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np

__all__ = ["DivergenceError", "Progress", "TrainingState"]


class DivergenceError(ArithmeticError):
    """A loss or gradient is not finite, or a loss is far above its lowest value."""


@dataclasses.dataclass
class TrainingState:
    """The progress of a training, in addition to its weights and optimizer.

    Attributes:
      averaged: Whether the weights are averaged.
      step: Number of batches seen.
      skipped: Number of batches whose gradient was not finite.
      count: Number of batches of this epoch in `means`.
      means: Mean logs of the epoch so far.
      losses: First and lowest value of the log "loss"; None before the first step.
    """

    averaged: bool
    step: int = 0
    skipped: int = 0
    count: int = 0
    means: dict[str, float] = dataclasses.field(default_factory=dict)
    losses: tuple[float, float] | None = None


class Progress(keras.callbacks.Callback):
    """Updates the state, and raises DivergenceError.

    It must be the first callback: it corrects the mean logs of an epoch that another
    process began, for the callbacks that follow.

    Args:
      state: The state to update.
      checkpoint_path: Path of the checkpoint, for messages.
      max_skipped: Number of batches whose gradient may be not finite.
      batch_names: Gives the names of the files in the batch of a step, for messages.
    """

    def __init__(
        self,
        state: TrainingState,
        checkpoint_path: Path,
        max_skipped: int,
        batch_names: Callable[[int], Sequence[str]] | None,
    ) -> None:
        super().__init__()
        self._state = state
        self._checkpoint_path = checkpoint_path
        self._max_skipped = max_skipped
        self._batch_names = batch_names

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Remembers the mean logs of the steps of earlier processes."""
        del epoch, logs
        self._keep_means()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Counts the step and checks its logs."""
        del batch
        state = self._state
        state.step += 1
        logs.pop("skipped", None)  # The state counts them.
        # The optimizer does not count a step whose gradient is not finite.
        if int(self.model.optimizer.iterations.numpy()) < state.step - state.skipped:
            self._skip(logs)
            return
        state.count += 1
        self._add_earlier_means(logs)
        self._check_finite(logs)
        self._check_loss(logs["loss"])
        state.means = dict(logs)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Checks the logs of the epoch."""
        del epoch
        logs.pop("skipped", None)
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
        """Replaces the means over the later steps with the means over all steps."""
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
        self.model.reset_metrics()  # They contain values that are not finite.
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
