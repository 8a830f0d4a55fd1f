"""Progress of long work: a bar with the time left, or a line from time to time."""

from __future__ import annotations

import sys
import time
from types import TracebackType

import keras
import tqdm

__all__ = ["Progress", "StepProgress"]


class Progress:
    """Shows how much of some work is done, and the time left, on stderr.

    A terminal gets a bar. Anything else, such as a log file, gets a plain line every
    `seconds`, and none if the work is done before.

    Args:
      total: Amount of work.
      unit: Unit of the amount, such as "step".
      description: Name of the work.
      done: Amount that is done already.
      seconds: Time between two lines.
    """

    def __init__(
        self,
        total: float,
        unit: str,
        description: str = "",
        *,
        done: float = 0,
        seconds: float = 30.0,
    ):
        self._seconds = seconds
        self._is_terminal = sys.stderr.isatty()
        self._bar = tqdm.tqdm(
            total=total,
            initial=done,
            desc=description or None,
            unit=unit,
            file=sys.stderr,
            dynamic_ncols=True,
            disable=not self._is_terminal,
            leave=False,
        )
        self._total, self._unit, self._description = total, unit, description
        self._first = self._done = done
        self._began = self._said = time.monotonic()

    def __enter__(self) -> Progress:
        """Returns the progress itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Removes the bar."""
        del kind, error, traceback
        self._bar.close()

    def update(self, amount: float = 1, **figures: object) -> None:
        """Adds to the work that is done.

        Args:
          amount: Amount of work that was done since the last call.
          **figures: Numbers or words to show next to it.
        """
        self._done += amount
        if self._is_terminal:
            if figures:
                self._bar.set_postfix(figures, refresh=False)
            self._bar.n = round(self._done, 1)
            self._bar.update(0)  # Refreshes the bar, but not too often.
            return
        now = time.monotonic()
        if now >= self._said + self._seconds and self._done < self._total:
            self._said = now
            print(self._line(now, figures), file=sys.stderr, flush=True)

    def _line(self, now: float, figures: dict[str, object]) -> str:
        speed = (self._done - self._first) / max(now - self._began, 1e-9)
        left = (self._total - self._done) / max(speed, 1e-9)
        shown = "".join(f", {name} {value}" for name, value in figures.items())
        name = f"{self._description}: " if self._description else ""
        return (
            f"{name}{round(self._done, 1)} of {self._total:g} {self._unit}s, "
            f"{tqdm.tqdm.format_interval(left)} left{shown}"
        )


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
