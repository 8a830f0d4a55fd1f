"""Checks of arguments that all rooms share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["check_choice", "check_probability"]


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Checks that `value` is one of `choices`.

    Args:
      name: Name of the argument, for the message.
      value: Its value.
      choices: The valid values, or a table whose keys are the valid values.

    Raises:
      ValueError: If it is not.
    """
    choices = tuple(choices)
    if value not in choices:
        raise ValueError(
            f"{name} must be one of {choices}. Received: {name}={value!r}."
        )


def check_probability(name: str, value: float) -> None:
    """Checks that `value` is within [0, 1]; NaN is not.

    Raises:
      ValueError: If it is not.
    """
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1]. Received: {name}={value}.")
