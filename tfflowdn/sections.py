"""Sections that the configurations share.

A section holds the keyword arguments of one function; `source()` returns the arguments
of `data.open_source`, for example. A configuration calls the functions of this module
and sets only the values that its experiment chooses:

    from tfflowdn import sections, variants

    @variants.configuration("full", "smoke")
    def get_config(pick: variants.Pick) -> variants.Config:
        return sections.prior_config(
            prior=sections.prior("glow", (32, 32, 1), num_levels=pick(3, smoke=2)),
            training=sections.prior_training(num_steps=20_000),
        )
"""

from __future__ import annotations

from typing import Any

from ml_collections import config_dict

__all__ = [
    "crops",
    "denoiser_config",
    "blind_spot_loss",
    "generic_noise",
    "noise_config",
    "objective_loss",
    "pair_loss",
    "prior",
    "prior_config",
    "prior_training",
    "rehearsal",
    "resnet",
    "source",
    "training",
    "uncertainty_config",
]

NOISE_FIT = {"batch_size": 64, "learning_rate": 0.03}
FLOWS = {
    "nice": {"base": "normal"},
    "real_nvp": {
        "conditioner": "residual",
        "hidden_growth": 1,
        "log_scale_bound": 2.0,
        "split_prior": False,
    },
    "glow": {"coupling": "affine", "log_scale_bound": 2.0, "split_prior": True},
}


def denoiser_config(**sections: Any) -> config_dict.ConfigDict:
    """Returns a configuration of `train_denoiser`.

    Args:
      **sections: `network` and one section for each stage that runs. The models and
        the pictures, which every such configuration has, are added.
    """
    names = ("prior", "denoiser", "noise")
    return _locked(
        **{name: config_dict.placeholder(str) for name in names},
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
      **sections: `prior`, `training` and, for batches of other than 32 crops, `crops`.
        The pictures are added; the validation pictures have the pixel range of the
        clean ones.
    """
    validation = source()
    del validation["pixel_range"]
    given = {"clean": source(), "validation": validation, "crops": crops(batch_size=32)}
    return _locked(**{**given, **sections})


def noise_config(
    *, residuals: dict[str, Any], calm: dict[str, Any], **sections: Any
) -> config_dict.ConfigDict:
    """Returns a configuration of `train_noise`.

    Args:
      residuals: The arguments of `estimate_noise`, without the ones in `NOISE_FIT`.
      calm: The arguments of `estimate_calm_noise`, likewise.
      **sections: `model` and the limits of the pictures. The denoiser, the pictures and
        `evidence` are added.
    """
    return _locked(
        denoiser=config_dict.placeholder(str),
        noisy=source(),
        clean=source(),
        reference=config_dict.placeholder(str),
        evidence="residuals",  # Or "calm", the calmest places of the noisy pictures.
        residuals={**NOISE_FIT, **residuals},
        calm={**NOISE_FIT, **calm},
        **sections,
    )


def uncertainty_config(**sections: Any) -> config_dict.ConfigDict:
    """Returns a configuration of `train_uncertainty`.

    Args:
      **sections: `uncertainty`, `crops`, `generic_noise` and `training`. The models and
        the pictures are added.
    """
    return _locked(
        denoiser=config_dict.placeholder(str),
        noise=config_dict.placeholder(str),
        level_range=(1.0, 1.0),
        clean=source(),
        validation=source(),
        **sections,
    )


def _locked(**sections):
    """Returns a configuration; a key that it does not have cannot be set."""
    return config_dict.create(**sections).lock()


def source() -> dict[str, Any]:
    """Returns the arguments of `data.open_source`; the user must give `spec`."""
    return {
        "spec": config_dict.placeholder(str),
        "data_dir": config_dict.placeholder(str),
        "pixel_range": "dtype",
        "axes": config_dict.placeholder(str),
        "percentiles_by": "file",
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
      **chosen: `num_steps`, and any other argument.
    """
    defaults = {
        "steps_per_epoch": 1000,
        "learning_rate": 1e-3,
        "optimizer": "adam",
        "warmup_steps": 100,
        "clip_norm": 1.0,
        "ema_momentum": config_dict.placeholder(float),
        "checkpoint_seconds": 60.0,
        "max_skipped": 0,
    }
    return {**defaults, **chosen}


def prior_training(**chosen: Any) -> dict[str, Any]:
    """Returns the arguments of `training.fit` for a prior, as of `training`.

    The loss of a prior is in nats, so that its gradients are clipped at 50.
    """
    return training(**{"learning_rate": 5e-3, "clip_norm": 50.0, **chosen})


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
      **flow_options: Arguments of the flow, instead of the ones in `FLOWS`.
    """
    defaults = {
        "hidden_channels": 64,
        "squeeze": "space_to_depth",
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
        "flow_options": {**defaults, **FLOWS.get(flow, {}), **flow_options},
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


def rehearsal(**sizes: int) -> dict[str, Any]:
    """Returns the clean crops with generic noise that the objective rehearses.

    Args:
      **sizes: `crop_size` and `batch_size`.
    """
    return {"crops": crops(**sizes, seed=1001), "noise": generic_noise()}


def pair_loss(noise_floor: float | None = None) -> dict[str, Any]:
    """Returns the arguments of `weighted_pairs`."""
    return {"noise_floor": _float(noise_floor)}


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
        "spectral_floor": 0.2,
        "taper": 8,
        "blur_sigma": 0.0,
        "prior_weight": None,
        "map_factor": 0.45,
        "dequantize": True,
        "gradient_bound": 10.0,
        "rehearsal_weight": 0.0,
        "seed": 0,
    }
    loss = {**defaults, **chosen}
    optional = ("prior_weight", "map_factor", "gradient_bound")
    return {**loss, **{name: _float(loss[name]) for name in optional}}


def _float(value):
    """Returns a number, or the placeholder of one for None."""
    return config_dict.placeholder(float) if value is None else value
