"""Progress of long work: a bar with the time left, or a line from time to time."""

from __future__ import annotations

import importlib
import sys
import time
from types import TracebackType
from typing import Any

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


def __getattr__(name: str) -> Any:
    """Imports the callback, and so Keras, at its first use."""
    if name != "StepProgress":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.steps").StepProgress
