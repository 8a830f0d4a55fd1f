"""What a training leaves on disk: whole files, one writer, and a step to go on from."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np

from tfflowdn.files import replace

__all__ = ["Checkpoint"]

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


def _variables(model):
    return [*model.variables, *model.optimizer.variables]
