"""The directory of a training, and the models in it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import keras

from tfflowdn.files import replace

__all__ = ["prepare_workdir", "save_copy"]


def prepare_workdir(workdir: str | os.PathLike, identity: dict[str, Any]) -> Path:
    """Creates a work directory, or checks that it belongs to the same training.

    Args:
      workdir: The directory; it is created if it does not exist.
      identity: Settings that must not change when a training continues, as JSON types.

    Returns:
      The directory.

    Raises:
      ValueError: If the directory holds a training with another identity.
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


def save_copy(model: keras.Model, path: str | os.PathLike, **overrides: Any) -> None:
    """Saves a model without its optimizer, completely or not at all.

    Args:
      model: A model with `get_config`.
      path: Path of the file; its name ends in `.keras`.
      **overrides: Constructor arguments of the saved copy that differ from the model.
    """
    copy = type(model).from_config({**model.get_config(), **overrides})
    copy.set_weights(model.get_weights())
    replace(Path(path), copy.save)
