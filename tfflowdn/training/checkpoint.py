"""Checkpoints: a file from which a training continues."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from tfflowdn.files import replace

__all__ = ["Checkpoint"]

_STATE = "state"  # Entry of the file next to the arrays, whose names contain "#".
_MOST_NAMES = 5  # Of a message.


class Checkpoint:
    """A file with the variables of a model and its optimizer, and a JSON state.

    Variables are stored and restored by name, see `_names`. Metrics are left out: with
    several workers each has only a part of their values.

    Args:
      path: Path of the file; its name ends in `.npz`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def exists(self) -> bool:
        """Returns whether there is a file to continue from."""
        return self.path.exists()

    def save(self, model: keras.Model, state: dict) -> None:
        """Saves a compiled model and `state`, completely or not at all.

        Raises:
          OSError: If the file cannot be written; the old one is kept.
        """
        arrays = {name: v.numpy() for name, v in _variables(model).items()}

        def write(temporary):
            with temporary.open("wb") as file:
                np.savez(file, **arrays, **{_STATE: json.dumps(state)})

        replace(self.path, write)

    def state(self) -> dict:
        """Returns the saved `state`."""
        with np.load(self.path) as file:
            return json.loads(str(file[_STATE]))

    def load(self, model: keras.Model) -> None:
        """Restores the variables of a built and compiled model, and of its optimizer.

        Raises:
          ValueError: If the file and the model have different variables, or variables
            of different shapes.
        """
        variables = _variables(model)
        with np.load(self.path) as file:
            arrays = {name: file[name] for name in file.files if name != _STATE}
        self._check(variables, arrays)
        for name, variable in variables.items():
            variable.assign(arrays[name])

    def _check(self, variables, arrays):
        if "arr_0" in arrays:
            raise ValueError(
                "The checkpoint must have been written by this version of tfflowdn: an "
                "earlier version stored no names. Continue with that version, or train "
                f"in a new work directory. Received: {str(self.path)!r}."
            )
        problems = {
            "missing": [name for name in variables if name not in arrays],
            "unexpected": [name for name in arrays if name not in variables],
            "of another shape": [
                f"{name} {arrays[name].shape} instead of {tuple(variable.shape)}"
                for name, variable in variables.items()
                if name in arrays and arrays[name].shape != tuple(variable.shape)
            ],
        }
        found = [
            f"{len(names)} {problem} ({_listed(names)})"
            for problem, names in problems.items()
            if names
        ]
        if found:
            raise ValueError(
                "The model and its optimizer must have the variables of the run that "
                f"wrote {self.path}. Received: {'; '.join(found)}."
            )


def _variables(model):
    """Returns the variables of a model and its optimizer by name."""
    variables = [*model.variables, *model.optimizer.variables]
    names = _names([variable.path for variable in variables])
    return dict(zip(names, variables, strict=True))


def _names(paths: Sequence[str]) -> list[str]:
    """Returns names of variables that are the same in each process.

    Keras counts the layers of a process: the path `conditioner_8/kernel` is
    `conditioner_20/kernel` if another model was made before. Here the numbers are
    removed from the path and replaced by the rank among the paths that are then equal:
    `conditioner/kernel#1`.
    """
    parsed = [_parse(path) for path in paths]
    names = [""] * len(paths)
    ranks = {}
    for index in sorted(range(len(paths)), key=lambda i: parsed[i][1]):
        template = parsed[index][0]
        ranks[template] = ranks.get(template, -1) + 1
        names[index] = f"{template}#{ranks[template]}"
    return names


def _parse(path):
    """Returns a path without its numbers, and the number that follows each word."""
    words = re.findall(r"([/_]?[^/_]+?)(?:_(\d+))?(?=[/_]|$)", path)
    template = "".join(word for word, _ in words)
    return template, tuple(int(number or -1) for _, number in words)


def _listed(names):
    shown = ", ".join(names[:_MOST_NAMES])
    return f"{shown}, ..." if len(names) > _MOST_NAMES else shown
