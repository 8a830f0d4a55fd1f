"""The arguments of UnpairedDenoiser: checks, and how they are saved."""

from __future__ import annotations

import math
from typing import Any

import keras

__all__ = [
    "MODELS",
    "OPTIONS",
    "check_prior_weight",
    "check_rehearsal_weight",
    "serialize",
    "without_removed",
]

MODELS = ("network", "prior", "noise", "reference")
OPTIONS = (
    "spectral_floor",
    "taper",
    "blur_sigma",
    "prior_weight",
    "map_factor",
    "dequantize",
    "gradient_bound",
    "rehearsal_weight",
    "seed",
)
NEUTRAL = {
    "shift_grid": False,
    "initial_prior_factor": 1.0,
    "initial_blur_sigma": None,
}
"""Arguments that earlier versions saved, with the values that have no effect."""


def check_prior_weight(prior_weight: Any) -> None:
    """Checks that a weight of the prior is None or a number of 0 or more.

    Raises:
      ValueError: If it is not.
    """
    is_number = isinstance(prior_weight, int | float) and prior_weight >= 0
    if not (is_number or prior_weight is None):
        raise ValueError(
            "prior_weight must be a number of 0 or more, or None for the MAP. "
            f"Received: prior_weight={prior_weight!r}."
        )


def check_rehearsal_weight(rehearsal_weight: Any) -> None:
    """Checks that a weight of the rehearsal is a finite number of 0 or more.

    Raises:
      ValueError: If it is not.
    """
    is_number = isinstance(rehearsal_weight, int | float)
    if not (is_number and 0 <= rehearsal_weight < math.inf):
        raise ValueError(
            "rehearsal_weight must be a finite number of 0 or more. "
            f"Received: rehearsal_weight={rehearsal_weight!r}."
        )


def serialize(model: keras.Model | None) -> dict[str, Any] | None:
    """Returns the config of a model inside another one; it is not compiled."""
    if model is None:
        return None
    return {**keras.saving.serialize_keras_object(model), "compile_config": None}


def without_removed(config: dict[str, Any]) -> dict[str, Any]:
    """Returns the config of a saved model without arguments that no longer exist.

    Raises:
      ValueError: If one of them had an effect.
    """
    for name, neutral in NEUTRAL.items():
        if config.get(name, neutral) != neutral:
            raise ValueError(
                f"{name} must be {neutral}, since this version cannot change it. "
                f"Received: {name}={config[name]!r}."
            )
    removed = {*NEUTRAL, "annealing_steps"}
    return {name: value for name, value in config.items() if name not in removed}
