"""The directory of a training run, and the models that it saves there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import keras

from tfflowdn.files import replace

__all__ = ["prepare_workdir", "save_copy"]


def prepare_workdir(workdir: str | os.PathLike, identity: dict) -> Path:
    """Makes a work directory, or checks that it belongs to the same run.

    Args:
      workdir: The directory; made if it is absent.
      identity: What makes a model another model, as JSON types.

    Raises:
      ValueError: If the directory holds a run of another model.
    """
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / "model.json"
    identity = json.loads(json.dumps(identity))
    if path.exists():
        found = json.loads(path.read_text())
        names = sorted(set(found) | set(identity))
        differing = [n for n in names if found.get(n) != identity.get(n)]
        if differing:
            raise ValueError(
                "workdir must be new or hold a run of the same model; "
                f"{differing} differ from {path.name} in it. "
                f"Received: workdir={str(workdir)!r}."
            )
    else:
        replace(path, lambda temporary: temporary.write_text(json.dumps(identity)))
    return workdir


def save_copy(model: keras.Model, path: str | os.PathLike, **overrides) -> None:
    """Saves a model to `.keras` without its optimizer, in one rename.

    Args:
      model: A model with `get_config`.
      path: The file, its name ends in `.keras`.
      **overrides: Constructor arguments of the copy that differ from the model's.
    """
    copy = type(model).from_config({**model.get_config(), **overrides})
    copy.set_weights(model.get_weights())
    replace(Path(path), copy.save)
