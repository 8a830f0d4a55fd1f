"""Progress of the steps of a training."""

from __future__ import annotations

import sys

import keras
import tqdm

from tfflowdn.progress import Progress

__all__ = ["StepProgress"]


class StepProgress(keras.callbacks.Callback):
    """Shows the progress of the steps of a training.

    Args:
      num_steps: Number of steps in all.
      description: Name of the training.
      done: Number of steps that earlier runs made.
      show_epochs: Whether to print the figures of each epoch.
    """

    def __init__(
        self,
        num_steps: int,
        description: str = "",
        *,
        done: int = 0,
        show_epochs: bool = True,
    ):
        super().__init__()
        self._show_epochs = show_epochs
        self._options = (num_steps, "step", description)
        self._done = done
        self._progress = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Shows the progress so far."""
        del logs
        self._progress = Progress(*self._options, done=self._done)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Counts a step."""
        del batch
        self._done += 1
        figures = {"loss": f"{logs['loss']:.4g}"} if logs and "loss" in logs else {}
        self._progress.update(**figures)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Prints the figures of an epoch in a line."""
        if not self._show_epochs:
            return
        figures = ", ".join(f"{name} {v:.4g}" for name, v in (logs or {}).items())
        with tqdm.tqdm.external_write_mode(file=sys.stderr):
            print(f"Epoch {epoch + 1}: {figures}", file=sys.stderr, flush=True)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Removes the bar."""
        del logs
        self._progress.__exit__(None, None, None)
