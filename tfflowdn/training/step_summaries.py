"""A callback that writes several points an epoch to TensorBoard."""

from __future__ import annotations

import os
import time
from pathlib import Path

import keras
import tensorflow as tf

from tfflowdn.training.state import TrainingState

__all__ = ["StepSummaries"]

POINTS = 10  # An epoch.


class StepSummaries(keras.callbacks.Callback):
    """Writes the logs, the learning rate and the speed within an epoch.

    `logs/steps/` gets the mean logs of the epoch so far, the learning rate and the
    seconds of a step, ten times an epoch, and the configuration as a text.

    Args:
      directory: The directory of the training.
      state: The progress of the training; `Progress` must be called first.
      steps_per_epoch: Steps of an epoch.
      text: The configuration in Markdown, or "".
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        state: TrainingState,
        steps_per_epoch: int,
        text: str = "",
    ) -> None:
        super().__init__()
        self._path = Path(directory) / "logs" / "steps"
        self._state = state
        self._every = max(1, steps_per_epoch // POINTS)
        self._text = text
        self._writer = None
        self._last = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Writes the configuration."""
        del logs
        self._last = self._state.step, time.monotonic()
        if self._writer is not None:
            return
        self._writer = tf.summary.create_file_writer(str(self._path))
        if self._text:
            with self._writer.as_default(step=self._state.step):
                tf.summary.text("configuration", self._text)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Writes a point if it is time to."""
        del batch
        step, (last, began) = self._state.step, self._last
        if step % self._every or step == last:
            return
        now = time.monotonic()
        values = {
            **(logs or {}),
            "learning_rate": float(self.model.optimizer.learning_rate),
            "seconds_per_step": (now - began) / (step - last),
        }
        with self._writer.as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(name, value)
        self._last = step, now

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Makes the points visible; the validation does not count as a step."""
        del epoch, logs
        self._writer.flush()
        self._last = self._state.step, time.monotonic()
