"""The pictures of a configuration."""

from __future__ import annotations

from typing import Any

from ml_collections import config_dict

from tfflowdn import data

__all__ = ["check_given", "open_pictures"]


def check_given(key: str, value: Any, kind: str, reason: str) -> None:
    """Checks that the user has given a key of the configuration.

    Args:
      key: The key, such as "clean.spec".
      value: Its value; None and the empty string mean that it is absent.
      kind: Meaning of the value, such as "PICTURES".
      reason: Why it is needed, a clause.

    Raises:
      ValueError: If the key has no value.
    """
    if not value:
        raise ValueError(
            f"--config.{key}={kind} must be given because {reason}. "
            f"Received: {key}={value!r}."
        )


def open_pictures(
    config: config_dict.ConfigDict, name: str, channels: int | None, **options: Any
) -> data.ImageSource:
    """Opens the pictures of a section of a configuration.

    Args:
      config: The configuration.
      name: The name of the section, which holds the arguments of `data.open_source`.
      channels: Channels of every picture; None for the number of the first one.
      **options: Arguments that replace the section's.

    Raises:
      ValueError: If the user has not named any pictures, or for bad pictures.
      FileNotFoundError: If nothing exists there.
    """
    section = config[name]
    reason = f"the training reads {name} pictures"
    check_given(f"{name}.spec", section.spec, "PICTURES", reason)
    return data.open_source(**{**section, **options}, channels=channels)
