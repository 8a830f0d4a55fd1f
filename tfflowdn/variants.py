"""Variants of a configuration.

The sections of a configuration are in `tfflowdn.sections`; this module makes the
function `get_config(variant)` that the commands call.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ml_collections import config_dict

from tfflowdn.checks import check_choice

__all__ = ["Config", "Pick", "configuration"]

Config = config_dict.ConfigDict

SMOKE_TRAINING = {"num_steps": 4, "steps_per_epoch": 2, "warmup_steps": 1}


class Pick:
    """Picks values by the variant.

    `pick(default, **others)` returns `others[variant]`, or `default` when `others` does
    not name the variant.

    Args:
      variant: The variant of the configuration.
    """

    def __init__(self, variant: str):
        self.variant = variant

    def __call__(self, default: Any, **others: Any) -> Any:
        """Returns the value for the variant."""
        return others.get(self.variant, default)


def configuration(
    *variants: str,
) -> Callable[[Callable[[Pick], Config]], Callable[..., Config]]:
    """Returns a decorator that makes `get_config(variant)` from `get_config(pick)`.

    The models, crops and trainings of variants named "smoke..." are made so small that
    a test runs them in seconds.

    Args:
      *variants: The variants; the first is the default. They become the attribute
        `variants` of `get_config`.
    """
    names = tuple(dict.fromkeys(variants))

    def decorate(function: Callable[[Pick], Config]) -> Callable[..., Config]:
        @functools.wraps(function)
        def get_config(variant: str = names[0]) -> Config:
            check_choice("variant", variant, names)
            config = function(Pick(variant))
            if variant.startswith("smoke"):
                _shrink(config)
            return config

        get_config.__doc__ = "Returns the configuration of a variant."
        get_config.variants = names
        return get_config

    return decorate


def _shrink(config):
    """Makes models and crops of a configuration small; trainings get 4 steps."""
    for name, values in config.items():
        if name == "training":
            values.update(SMOKE_TRAINING)
        elif name == "crops":
            values.update({"batch_size": 4})
            values.update({"crop_size": 8} if "crop_size" in values else {})
        elif name == "network":
            values.update({"num_blocks": 1, "hidden_channels": 4})
        elif name == "prior" and values:
            values.image_shape = (8, 8, values.image_shape[-1])
            values.flow_options.hidden_channels = 4
        elif name in ("residuals", "calm"):
            values.update({"batch_size": 4, "num_steps": 4})
        elif isinstance(values, Config):
            _shrink(values)
