"""Flags that several commands share."""

from __future__ import annotations

from typing import Any

from absl import flags

from tfflowdn.scripts import configuration
from tfflowdn.scripts.command_line import require

__all__ = [
    "STRATEGIES",
    "define_channels_flag",
    "define_denoiser_flags",
    "define_pixel_flags",
    "define_stack_flags",
    "define_strategy_flag",
    "define_training_flags",
    "denoiser_options",
    "make_deterministic",
]

STRATEGIES = ("auto", "mirrored", "multi_worker")


def define_training_flags(script: str) -> None:
    """Defines `--config` and `--workdir`, both required, and `--seed`."""
    from ml_collections import config_flags  # Only the trainings need it.

    config_flags.DEFINE_config_file(
        "config",
        None,
        "Configuration: NAME[:VARIANT] or FILE.py[:VARIANT]. The names are "
        f"{', '.join(configuration.configurations())}. --config.KEY=VALUE changes a "
        "key; with --config, --help lists the keys.",
        lock_config=True,
    )
    flags.DEFINE_string(
        "workdir", None, f"Folder for the outputs of {script}; a killed run resumes."
    )
    flags.DEFINE_integer(
        "seed",
        None,
        "Number that is added to every seed of the configuration. When it is given, "
        "operations are deterministic: a second run on this machine has equal results.",
    )
    require("config", "workdir")


def define_strategy_flag() -> None:
    """Defines `--strategy`, see `devices.make_strategy`."""
    flags.DEFINE_enum(
        "strategy",
        "auto",
        STRATEGIES,
        "Devices: all GPUs of this machine (mirrored), all machines in TF_CONFIG "
        "(multi_worker), or mirrored or multi_worker if there are several (auto).",
    )


def define_stack_flags() -> None:
    """Defines `--axes` and `--percentiles_by`, see `data.open_source`."""
    flags.DEFINE_string(
        "axes",
        None,
        "Axes of arrays (.npy, Zarr) and of stacks, such as TZCYX. S stands for the "
        "colors of a pixel, C for channels, such as dyes, also if they are pages: a "
        "model with as many channels sees them together, and a gray model one by one. "
        "Each index along the other axes is a picture. By default the axes that the "
        "file names; a file without such axes is refused.",
    )
    flags.DEFINE_enum(
        "percentiles_by",
        "file",
        ("file", "page"),
        "Whether the percentiles of a range are taken over a whole stack or a page.",
    )


def define_pixel_flags() -> None:
    """Defines `--channels`, `--range` and `--remove_outliers`."""
    define_channels_flag()
    _define_range_flags()


def define_channels_flag() -> None:
    """Defines `--channels`, see `denoise_files`."""
    flags.DEFINE_enum(
        "channels",
        "auto",
        ("auto", "independent"),
        "independent: denoise each channel of a picture as a gray picture, as it is "
        "done for channels without a meaning, such as the dyes of a microscope.",
    )


def _define_range_flags() -> None:
    flags.DEFINE_bool(
        "remove_outliers",
        False,
        "Replace isolated hot and dead pixels before the network: single pixels that "
        "differ from the median of their neighbors by more than 8 times the local "
        "noise. Stars, lines and other structure wider than a pixel are kept.",
    )
    flags.DEFINE_string(
        "range",
        None,
        "Pixel values that the network sees as 0 and 1: LOW,HIGH, percentiles "
        "LOW%,HIGH% of each picture or stack, or dtype. The model has a default, and "
        "percentiles are used if a sizeable part of the pixels lies outside of it.",
    )


def define_denoiser_flags() -> None:
    """Defines the flags that `denoiser_options` reads."""
    flags.DEFINE_float("strength", 1.0, "Part of the correction to apply, 0 to 1.")
    flags.DEFINE_bool(
        "self_ensemble",
        False,
        "Average over 8 flips and rotations. It takes 8 times as long.",
    )
    flags.DEFINE_bool(
        "luminance_only",
        False,
        "Denoise only the luminance of color pictures and keep their chroma.",
    )
    _define_range_flags()
    flags.DEFINE_enum(
        "transform",
        "none",
        ("none", "anscombe", "asinh", "log"),
        "Map of the pixels under which noise that grows with the signal is uniform: "
        "anscombe for photon counts (means are kept by its exact unbiased inverse), "
        "asinh or log for other pictures of a large range.",
    )
    flags.DEFINE_float(
        "gain",
        None,
        "Pixel units for each photon (anscombe), or the unit of asinh and log; "
        "estimated from each picture or stack by default.",
    )
    flags.DEFINE_float(
        "offset",
        None,
        "Pixel value without light, for --transform; estimated by default.",
    )
    flags.DEFINE_bool(
        "trust_saved_model",
        False,
        "Load any SavedModel. It is a program that runs with your rights; without this "
        "flag it must be an unchanged export of tfflowdn that only computes.",
    )


def denoiser_options(values: flags.FlagValues) -> dict[str, object]:
    """Returns the keyword arguments of a denoiser from the flags."""
    return {
        "strength": values.strength,
        "self_ensemble": values.self_ensemble,
        "luminance_only": values.luminance_only,
        "remove_outliers": values.remove_outliers or None,
        "pixel_range": values.range,
        "transform": values.transform,
        "gain": values.gain,
        "offset": values.offset,
    }


def make_deterministic(config: Any, seed: int | None) -> None:
    """Adds a seed to every `seed` of `config`, and makes operations deterministic.

    Does nothing for None.

    Args:
      config: The configuration, a ConfigDict.
      seed: The number to add, or None.
    """
    if seed is None:
        return
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    _add_to_seeds(config, seed)


def _add_to_seeds(config, seed: int) -> None:
    for name, value in config.items():
        if hasattr(value, "items"):
            _add_to_seeds(value, seed)
        elif name == "seed":
            config[name] = value + seed
