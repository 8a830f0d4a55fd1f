"""Callbacks that record the logs of epochs and keep the best model."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import keras

from tfflowdn.files import replace

__all__ = ["History", "SaveBest", "cost"]


class History(keras.callbacks.Callback):
    """Appends the logs of each epoch to a CSV file.

    Args:
      path: Path of the file.
      first_epoch: The first epoch of this process; later rows of the file are dropped.
    """

    def __init__(self, path: Path, first_epoch: int) -> None:
        super().__init__()
        self._path = path
        self._rows = self._read()[:first_epoch] if path.exists() else []

    def best(self, monitor: str) -> float | None:
        """Returns the lowest cost so far, see `cost`; None before the first epoch."""
        return min((cost(monitor, row[monitor]) for row in self._rows), default=None)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Writes the row of the epoch."""
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


class SaveBest(keras.callbacks.Callback):
    """Saves the model when the monitored log improves.

    Args:
      directory: Directory of `best.keras`.
      monitor: Name of the log.
      save_best: Writes the model to a path.
      best: Lowest cost so far, see `cost`, or None.
    """

    def __init__(
        self,
        directory: Path,
        monitor: str,
        save_best: Callable[[Path], None],
        best: float | None,
    ) -> None:
        super().__init__()
        self._path = directory / "best.keras"
        self._monitor = monitor
        self._save_best = save_best
        self._best = best

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Saves the model if the epoch is the best so far."""
        del epoch
        value = cost(self._monitor, logs[self._monitor])
        if self._best is None or value < self._best:
            self._best = value
            self._save_best(self._path)


def cost(monitor: str, value: float | str) -> float:
    """Returns the value of a log, with a sign that makes lower values better."""
    return -float(value) if monitor.endswith("psnr") else float(value)
