"""A callback that saves checkpoints, and ends the training on request."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import keras

from tfflowdn.training.averaging import Averaging
from tfflowdn.training.checkpoint import Checkpoint
from tfflowdn.training.state import TrainingState

__all__ = ["PreemptionError", "SaveCheckpoint"]


class PreemptionError(RuntimeError):
    """A training that ended on request; it can be continued."""


class SaveCheckpoint(keras.callbacks.Callback):
    """Saves checkpoints, and ends the training on request.

    Args:
      checkpoint: The checkpoint; None for a worker that is not the chief.
      state: The state to save.
      averaging: Holds the weights to save after an epoch; None without averages.
      steps_per_epoch: Steps of an epoch.
      seconds: Time between two checkpoints of an epoch.
      stop: Returns whether the training must end.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | None,
        state: TrainingState,
        averaging: Averaging | None,
        *,
        steps_per_epoch: int,
        seconds: float,
        stop: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._checkpoint = checkpoint
        self._state = state
        self._averaging = averaging
        self._steps_per_epoch = steps_per_epoch
        self._seconds = seconds
        self._stop = stop
        self._saved_at = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Saves when the time has passed, and ends the training on request."""
        del batch, logs
        if self._state.step % self._steps_per_epoch == 0:
            return  # `on_epoch_end` saves; it needs the validation.
        stop = self._stop()
        if stop or time.monotonic() >= self._saved_at + self._seconds:
            self._save()
        if stop:
            self._preempt()

    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Ends the training during a validation on request.

        Raises:
          PreemptionError: If the training was asked to stop.
        """
        del batch, logs
        if self._stop():  # The time after SIGTERM may be short.
            raise PreemptionError(
                "The training was asked to stop, and did in the validation after step "
                f"{self._state.step}; given again, the same command continues from the "
                f"last checkpoint, at most {self._seconds:.0f} seconds of steps before."
            )

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Saves after each epoch, and ends the training on request."""
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
            "given again, the same command continues from there."
        )
