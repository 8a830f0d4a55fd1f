"""Versions that are recorded in the files of models."""

from __future__ import annotations

import importlib.metadata
import logging
import re
from typing import Any

import keras

from tfflowdn.checks import check_finite_result

__all__ = ["FORMAT_VERSION", "RECORD", "Versioned", "check_version", "versions"]

FORMAT_VERSION = 1
"""Version of the contents of files; it increases when older code cannot use them."""

RECORD = "tfflowdn"
"""Key of the versions in the build configuration of a model."""


class Versioned(keras.Model):
    """A Keras model whose files record the version of tfflowdn that wrote them.

    The record is part of the build configuration, not of the arguments of the
    constructor, so that older versions can read the file.
    """

    def get_build_config(self) -> dict[str, Any]:
        """Returns the shapes that the model was built with, and the versions."""
        return {**(super().get_build_config() or {}), RECORD: versions()}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Builds the model with the shapes of `get_build_config`."""
        shapes = {name: value for name, value in config.items() if name != RECORD}
        if shapes:
            super().build_from_config(shapes)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the outputs for batches, see `keras.Model.predict`.

        Raises:
          ValueError: If an output is not finite.
        """
        outputs = super().predict(*args, **kwargs)
        cause = "inputs and weights must be finite"
        for output in keras.tree.flatten(outputs):
            check_finite_result("predictions", cause, output)
        return outputs


def versions() -> dict[str, Any]:
    """Returns the version of the contents of files, and the version of tfflowdn."""
    return {
        "format_version": FORMAT_VERSION,
        "version": importlib.metadata.version("tfflowdn"),
    }


def check_version(path: Any, recorded: Any) -> None:
    """Checks that this version can use the contents of a file.

    Logs a warning if a newer version of tfflowdn has written contents of a known
    version.

    Args:
      path: The file, for the message.
      recorded: The result of `versions` when the file was written; None if it was
        written by a version of tfflowdn that recorded nothing.

    Raises:
      ValueError: If only newer code can use the file.
    """
    if not isinstance(recorded, dict):
        return
    known, writer = versions(), str(recorded.get("version"))
    number = recorded.get("format_version", FORMAT_VERSION)
    if not isinstance(number, int) or number > FORMAT_VERSION:
        raise ValueError(
            f"A model must have the format {FORMAT_VERSION} or an older one for "
            f"tfflowdn {known['version']}; install a newer version of tfflowdn. "
            f"Received: {str(path)!r}, of the format {number!r}, written by tfflowdn "
            f"{writer}."
        )
    if _numbers(writer) > _numbers(known["version"]):
        logging.getLogger(__name__).warning(
            "%s was written by tfflowdn %s, which is newer than this version, %s.",
            path,
            writer,
            known["version"],
        )


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]
