"""Sections that the configurations share.

A section holds the keyword arguments of one function; `source()` returns the arguments
of `data.open_source`, for example. A configuration calls the functions of this module
and sets only the values that its experiment chooses:

    from tfflowdn import sections

    def get_config(variant="full"):
        pick = sections.pick_by(variant, ("full", "smoke"))
        return sections.prior_config(
            prior=sections.prior("glow", (32, 32, 1), num_levels=pick(3, smoke=2)),
            crops=sections.crops(batch_size=pick(32, smoke=4)),
            training=sections.training(num_steps=pick(1000, smoke=4)),
        )
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ml_collections import config_dict

from tfflowdn.checks import check_choice

__all__ = [
    "config",
    "crops",
    "denoiser_config",
    "blind_spot_loss",
    "generic_noise",
    "objective_loss",
    "pair_loss",
    "pick_by",
    "prior",
    "prior_config",
    "resnet",
    "source",
    "training",
]


def config(**sections: Any) -> config_dict.ConfigDict:
    """Returns a locked configuration: keys that it does not have cannot be set."""
    return config_dict.create(**sections).lock()


def denoiser_config(**sections: Any) -> config_dict.ConfigDict:
    """Returns a configuration of `train_denoiser`.

    Args:
      **sections: `network` and one section for each stage that runs. The models and
        the pictures, which every such configuration has, are added.
    """
    return config(
        prior=config_dict.placeholder(str),
        denoiser=config_dict.placeholder(str),
        noise=config_dict.placeholder(str),
        noisy=source(),
        clean=source(),
        validation={
            "noisy": config_dict.placeholder(str),
            "clean": config_dict.placeholder(str),
        },
        **sections,
    )


def prior_config(**sections: Any) -> config_dict.ConfigDict:
    """Returns a configuration of `train_prior`.

    Args:
      **sections: `prior`, `crops` and `training`. The pictures are added; the
        validation pictures have the pixel range of the clean ones.
    """
    validation = source()
    del validation["pixel_range"]
    return config(clean=source(), validation=validation, **sections)


def pick_by(variant: str, variants: tuple[str, ...]) -> Callable[..., Any]:
    """Returns a function that picks a value by the variant.

    Args:
      variant: The variant of the configuration.
      variants: The names that `variant` may have.

    Returns:
      `pick(default, **others)`, which gives `others[variant]`, or `default` when
      `others` does not name the variant.

    Raises:
      ValueError: If `variant` is not one of `variants`.
    """
    check_choice("variant", variant, variants)
    return lambda default, **others: others.get(variant, default)


def source() -> dict[str, Any]:
    """Returns the arguments of `data.open_source`; the user must give `spec`."""
    return {
        "spec": config_dict.placeholder(str),
        "data_dir": config_dict.placeholder(str),
        "pixel_range": "dtype",
    }


def crops(**chosen: Any) -> dict[str, Any]:
    """Returns the arguments of `data.RandomCrops`.

    Args:
      **chosen: `batch_size`, `crop_size` (not for priors, which have it in their
        `image_shape`), and any other argument.
    """
    defaults = {
        "augment": True,
        "seed": 0,
        "zoom_range": (1.0, 1.0),
        "contrast_range": (1.0, 1.0),
    }
    return {**defaults, **chosen}


def training(**chosen: Any) -> dict[str, Any]:
    """Returns the arguments of `training.fit`.

    Args:
      **chosen: `num_steps`, `steps_per_epoch`, `learning_rate`, and any other argument.
    """
    defaults = {
        "optimizer": "adam",
        "warmup_steps": 0,
        "clip_norm": 1.0,
        "ema_momentum": config_dict.placeholder(float),
        "checkpoint_seconds": 60.0,
        "max_skipped": 0,
    }
    return {**defaults, **chosen}


def prior(
    flow: str,
    image_shape: tuple[int, int, int],
    *,
    dequantization: str = "gaussian",
    dequantization_sigma: float = 5 / 255,
    **flow_options: Any,
) -> dict[str, Any]:
    """Returns the arguments of `FlowPrior`.

    Args:
      flow: The name of the flow.
      image_shape: Height, width and channels of a crop.
      dequantization: Kind of the noise added to the pixels.
      dequantization_sigma: Standard deviation of gaussian noise, in [0, 1] units.
      **flow_options: Arguments of the flow.
    """
    defaults = {
        "conditioner": "plain",
        "num_residual_blocks": 1,
        "logit_alpha": config_dict.placeholder(float),
        "recompute": False,
        "precision": config_dict.placeholder(str),
        "patch_gradients": config_dict.placeholder(bool),
    }
    return {
        "flow": flow,
        "image_shape": image_shape,
        "flow_options": {**defaults, **flow_options},
        "dequantization": dequantization,
        "dequantization_sigma": dequantization_sigma,
        "seed": 0,
    }


def resnet(**chosen: Any) -> dict[str, Any]:
    """Returns the kind "resnet" and the arguments of `ResNetDenoiser`.

    Args:
      **chosen: `num_blocks`, `hidden_channels`, and any other argument.
    """
    defaults = {
        "kind": "resnet",
        "scale": 2,
        "use_bias": False,
        "residual": True,
        "precision": "float32",
        "seed": 0,
    }
    return {**defaults, **chosen}


def generic_noise(**chosen: Any) -> dict[str, Any]:
    """Returns the arguments of `GenericNoise`."""
    defaults = {
        "max_sigma": 50 / 255,
        "gain_probability": 0.5,
        "correlated_probability": 0.25,
        "blur_range": (0.3, 1.5),
        "row_probability": 0.0,
        "impulse_probability": 0.0,
        "max_impulse_share": 0.02,
        "shared_probability": 0.5,
        "jpeg_probability": 0.0,
        "jpeg_quality_range": (60.0, 98.0),
    }
    return {**defaults, **chosen}


def pair_loss(noise_floor: float | None = None) -> dict[str, Any]:
    """Returns the arguments of `weighted_pairs`."""
    return {
        "noise_floor": config_dict.placeholder(float)
        if noise_floor is None
        else noise_floor
    }


def blind_spot_loss(**chosen: Any) -> dict[str, Any]:
    """Returns the arguments of `Noise2Void`."""
    defaults = {
        "spacing": 4,
        "radius": 2,
        "replacement": "median",
        "noise_floor": config_dict.placeholder(float),
        "seed": 0,
    }
    return {**defaults, **chosen}


def objective_loss(**chosen: Any) -> dict[str, Any]:
    """Returns the arguments of `UnpairedDenoiser`."""
    defaults = {
        "blur_sigma": 0.0,
        "prior_weight": config_dict.placeholder(float),
        "map_factor": 0.45,
        "dequantize": True,
        "gradient_bound": 10.0,
        "rehearsal_weight": 0.0,
        "seed": 0,
    }
    return {**defaults, **chosen}
