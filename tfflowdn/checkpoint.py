"""What a training leaves on disk: whole files, one writer, and a step to go on from."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import keras
import numpy as np

__all__ = ["Checkpoint", "locked", "replace"]

_STATE = "state"  # The entry of the file beside its arrays.


class Checkpoint:
    """A file with a model's variables, its optimizer's, and whatever JSON can hold.

    Metrics are left out: with several workers their values are spread over all.

    Args:
      path: The file, its name ends in `.npz`.
    """

    def __init__(self, path: Path):
        self.path = path

    def exists(self) -> bool:
        """Whether there is one to go on from."""
        return self.path.exists()

    def save(self, model: keras.Model, state: dict) -> None:
        """Saves a compiled model and `state`; whole, or not at all.

        Raises:
          OSError: As `replace`.
        """
        arrays = [variable.numpy() for variable in _variables(model)]

        def write(temporary):
            with temporary.open("wb") as file:
                np.savez(file, *arrays, **{_STATE: json.dumps(state)})

        replace(self.path, write)

    def state(self) -> dict:
        """Returns the `state` that was saved."""
        with np.load(self.path) as file:
            return json.loads(str(file[_STATE]))

    def load(self, model: keras.Model) -> None:
        """Gives a model of the same shapes, compiled and built, what was saved.

        Raises:
          ValueError: If the shapes differ.
        """
        variables = _variables(model)
        with np.load(self.path) as file:
            arrays = [file[name] for name in file.files if name != _STATE]
        shapes = [tuple(variable.shape) for variable in variables]
        if [array.shape for array in arrays] != shapes:
            raise ValueError(
                "The model and its optimizer must have the variables of the run that "
                f"wrote {self.path}. Received: {len(arrays)} variables in it and "
                f"{len(shapes)} of the model, or other shapes."
            )
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)


def replace(path: Path, write: Callable[[Path], None]) -> None:
    """Calls `write` with a path beside `path`, then renames that file to `path`.

    Whenever the process or the machine ends, `path` is the old file or the new one.

    Raises:
      OSError: If the file cannot be written, as on a full disk; `path` is unchanged.
    """
    temporary = path.with_name(f".tmp.{path.name}")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        kept = "is as it was before" if path.exists() else "was not written"
        raise OSError(
            f"The disk must have room for {path.name} and let it be written; "
            f"{path} {kept}. Received: {error}."
        ) from error


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Makes a directory and keeps other processes out; a killed one keeps none out.

    Raises:
      ValueError: If another process is in it.
      OSError: If nothing can be written to it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(directory / ".lock")
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise ValueError(
            "No two processes may train in one work directory at the same time. "
            f"Received: {str(directory)!r}, in which another one does."
        ) from None
    except OSError as error:
        raise OSError(
            f"The work directory must be one to write to. Received: {error}."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _variables(model):
    return [*model.variables, *model.optimizer.variables]
