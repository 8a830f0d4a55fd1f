"""Checks of arguments that all rooms share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

__all__ = ["check_choice", "check_finite_result", "check_probability"]


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


def check_finite_result(what: str, cause: str, result: Any) -> None:
    """Checks that every value of a result is finite.

    Args:
      what: The result in words, such as "samples".
      cause: The condition under which it is finite.
      result: An array or a tensor of floats.

    Raises:
      ValueError: If a value is not finite.
    """
    values = np.asarray(result)
    num_bad = int(np.count_nonzero(~np.isfinite(values)))
    if num_bad:
        raise ValueError(
            f"The {what} must be finite; {cause}. "
            f"Received: {num_bad} of {values.size} values that are not."
        )


def check_probability(name: str, value: float) -> None:
    """Checks that `value` is within [0, 1]; NaN is not.

    Raises:
      ValueError: If it is not.
    """
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1]. Received: {name}={value}.")
