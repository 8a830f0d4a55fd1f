"""The configurations of the trainings of an adaptation."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging
from ml_collections import config_dict

from tfflowdn import config_files, data, devices, inference, stages
from tfflowdn.adapt.decide import Decisions
from tfflowdn.adapt.look import Look
from tfflowdn.noise import NoiseModel

__all__ = [
    "command_of",
    "config_of",
    "measured_zoom",
    "noise_ratio",
    "plan_denoiser",
    "plan_noise",
]

NOISE, DENOISER = "noise", "denoiser_resnet"  # The configurations.
NOISE_SIDE, NOISE_PICTURES = 256, 32  # Of the pictures for the training of the noise.
NUM_EPOCHS = 4
MIN_STEPS, MAX_STEPS = 200, 4000


def config_of(stage: Mapping[str, Any]) -> config_dict.ConfigDict:
    """Returns the configuration of a planned training."""
    config = config_files.get_config(stage["config"])
    changes = {name: _tuple(value) for name, value in stage["changes"].items()}
    config.update_from_flattened_dict(changes)
    return config


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def command_of(
    script: str, config: str, changes: Mapping[str, Any], workdir: Path
) -> str:
    """Returns the command line that repeats a training."""
    options = []
    for name, value in changes.items():
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        options.append(f"--config.{name}={text}")
    return " ".join([script, "--config", config, *options, "--workdir", f"{workdir}"])


def _seconds_per_step(config: config_dict.ConfigDict, channels: int) -> float:
    """Returns the time of a training step on this machine."""
    network = stages.Run(config).network
    network.compile(keras.optimizers.Adam(1e-9), loss="mse")
    (name,) = set(stages.STAGES) & set(config)
    section = config[name].crops
    size = section.crop_size
    count = section.batch_size * (2 if name == "recorrupt" else 1)
    batch = tf.zeros((count, size, size, channels))
    seconds = []
    for _ in range(7):
        began = time.perf_counter()
        network.train_on_batch(batch, batch)
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds[2:]))


def noise_ratio(look: Look, noise: NoiseModel) -> float:
    """Returns the median ratio of the learned noise to the noise of calm places."""
    brightness, std = noise.level_curve()
    seen = (np.array(look.brightness) - look.origin) / look.unit
    learned = look.unit * np.interp(seen, brightness, std.mean(1))
    return float(np.median(learned / np.maximum(look.noise, 1e-12)))


def plan_noise(workdir: Path, decisions: Decisions) -> dict[str, Any]:
    """Returns the configuration and its changes for the training of the noise."""
    changes = {
        "noisy.spec": str(workdir / "noisy"),
        "noisy.pixel_range": decisions.pixel_range,
        "clean.spec": str(workdir / "clean"),
        "denoiser": decisions.start,
        "evidence": decisions.evidence,
        "max_pictures": NOISE_PICTURES,
        "max_side": NOISE_SIDE,
    }
    return {"config": NOISE, "changes": changes}


def plan_denoiser(
    workdir: Path,
    decisions: Decisions,
    *,
    is_own: bool,
    channels: int,
    noise: Path,
    start: Path | str,
    zoom_range: tuple[float, float],
    seconds: float,
) -> dict[str, Any]:
    """Returns the configuration and its changes for a training of the denoiser.

    Args:
      workdir: The folder of the run.
      decisions: The decisions of the run.
      is_own: Whether the denoiser learns from the noisy pictures, not from clean ones.
      channels: 1 or 3.
      noise: The file of the noise.
      start: The denoiser that the training starts from.
      zoom_range: Range of the factors by which clean crops are enlarged.
      seconds: Time for the training.
    """
    variant = "recorrupt" if is_own else "distill"
    is_camera = decisions.evidence == "calm" and channels == 3 and not is_own
    changes: dict[str, Any] = {
        "clean.spec": str(workdir / "clean"),
        "noisy.pixel_range": decisions.pixel_range,
        "noise": str(noise),
        "denoiser": str(start),
        "network.precision": devices.faster_precision() or "float32",
    }
    if is_own:
        changes["noisy.spec"] = str(workdir / "noisy")
    crops = f"{variant}.rehearsal.crops" if is_own else f"{variant}.crops"
    changes[f"{crops}.zoom_range"] = zoom_range
    changes[f"{variant}.noise.level_range"] = decisions.level_range
    config = f"{DENOISER}:{'camera_distill' if is_camera else variant}"
    stage = {"config": config, "changes": changes}
    steps = _num_steps(stage, seconds, channels)
    changes[f"{variant}.training.num_steps"] = steps
    changes[f"{variant}.training.steps_per_epoch"] = steps // NUM_EPOCHS
    return stage


def measured_zoom(
    planes: Sequence[np.ndarray], clean: Path, noise: Path
) -> tuple[float, float]:
    """Returns the range of zooms at which clean pictures are as sharp as `planes`.

    Args:
      planes: Noisy planes, float32 in [0, 1] units.
      clean: The folder of clean pictures.
      noise: The file of the noise.
    """
    planes = [p for p in planes if min(p.shape[:2]) >= 64]
    if not planes:
        return 1.0, 1.0
    model = inference.load_noise(noise)
    mean = np.mean([plane.mean() for plane in planes])
    signal = np.full((64, 64, 64, model.channels), mean, np.float32)
    crops = np.array(model(signal, seed=(0, 0))) - signal
    source = data.open_source(str(clean), channels=planes[0].shape[-1])
    low, high = data.matching_zoom_range(planes, source, crops)
    # Smaller zooms can hardly be distinguished.
    return (low if low > 2 else 1.0), (high if high > 2 else 1.0)


def _num_steps(stage: Mapping[str, Any], seconds: float, channels: int) -> int:
    """Returns the number of training steps that fit into a time."""
    each = _seconds_per_step(config_of(stage), channels)
    steps = int(np.clip(seconds / each, MIN_STEPS, MAX_STEPS))
    logging.info("A step takes %.0f ms; %d steps are made", 1e3 * each, steps)
    return steps // NUM_EPOCHS * NUM_EPOCHS
