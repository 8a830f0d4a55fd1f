"""Learns the noise of noisy pictures without pairs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from ml_collections import config_dict

from tfflowdn import data, files, inference, training
from tfflowdn.checks import check_choice
from tfflowdn.noise import NoiseModel, estimate_calm_noise, estimate_noise
from tfflowdn.noise.curves import (
    NoiseCurves,
    curves_of_model,
    curves_of_pairs,
    plot_curves,
)
from tfflowdn.stages.noise_report import Losses, write_noise_report
from tfflowdn.stages.pictures import check_given, open_pictures

__all__ = ["train_noise"]

Estimate = tuple[Callable[..., NoiseModel], list[np.ndarray]]
DECILES = np.linspace(0, 1, 11)


def train_noise(
    config: config_dict.ConfigDict, workdir: str | Path, *, commands: Sequence[str] = ()
) -> Path:
    """Learns the noise of a configuration; each section is a function's arguments.

    Args:
      config: `evidence` names the method: "residuals" learns from the pixels that a
        denoiser removes, and reads `denoiser` (path), `clean` (data.open_source) and
        `residuals` (estimate_noise); "calm" learns from the calmest places of the
        pictures, and reads `calm` (estimate_calm_noise). Both read `noisy`
        (data.open_source), `model` (NoiseModel), `max_pictures` (of each pool) and
        `max_side` (larger pictures are cropped to their middle). `reference` is the
        path of the clean versions of the noisy pictures, or None; it is used for a
        comparison only.
      workdir: The directory of the outputs.
      commands: Commands that repeat the training, for the report.

    Returns:
      The path of the trained model, `noise.keras`.

    Raises:
      ValueError: For missing or bad pictures, unknown evidence, or a denoiser that
        does not fit the pictures.
    """
    check_choice("evidence", config.evidence, EVIDENCE)
    estimate, pictures = EVIDENCE[config.evidence](config)
    truth = _truth(config, pictures[0].shape[-1])

    directory, losses = Path(workdir), Losses()
    with files.locked(directory):
        model = estimate(model_options=config.model, callbacks=[losses])
        curves = {"learned": curves_of_model(model), **truth}
        _write_curves(model, curves, directory)
        write_noise_report(directory, config, model, curves, pictures, losses, commands)
        path = directory / "noise.keras"
        training.save_copy(model, path)
    logging.info("The noise is in %s", path)
    return path


def _from_residuals(config: config_dict.ConfigDict) -> Estimate:
    """Returns a function that makes the estimate, and the noisy pictures."""
    reason = "the noise is learned from the residuals of a denoiser"
    check_given("denoiser", config.denoiser, "DENOISER.keras", reason)
    denoiser = inference.Denoiser.from_pretrained(config.denoiser)

    def denoise(picture: np.ndarray) -> np.ndarray:
        return denoiser(picture, pixel_range="dtype")  # In [0, 1] units.

    pools = [_pictures(name, denoiser.channels, config) for name in ("noisy", "clean")]
    estimate = functools.partial(estimate_noise, denoise, *pools, **config.residuals)
    return estimate, pools[0]


def _from_calm(config: config_dict.ConfigDict) -> Estimate:
    noisy = _pictures("noisy", None, config)
    estimate = functools.partial(estimate_calm_noise, noisy, **config.calm)
    return estimate, noisy


EVIDENCE = {"residuals": _from_residuals, "calm": _from_calm}
"""The methods by name."""


def _pictures(
    name: str, channels: int | None, config: config_dict.ConfigDict
) -> list[np.ndarray]:
    """Returns pictures spread evenly over a pool, float32 [H, W, C]."""
    source = open_pictures(config, name, channels)
    source.verify()
    step = max(1, len(source) // config.max_pictures)
    pictures = source.with_gaps("cut").dataset()  # Filled areas have no noise.
    pictures = pictures.shard(step, 0).take(config.max_pictures)
    side = config.max_side
    return [_middle(data.to_unit(picture).numpy(), side) for picture in pictures]


def _middle(picture: np.ndarray, side: int) -> np.ndarray:
    top, left = (max(0, (size - side) // 2) for size in picture.shape[:2])
    return picture[top : top + side, left : left + side]


def _truth(config: config_dict.ConfigDict, channels: int) -> dict[str, Any]:
    """Returns the curves of the true noise, if there are references."""
    if not config.reference:
        return {}
    sources = [
        data.open_source(**{**config.noisy, "spec": spec}, channels=channels)
        for spec in (config.noisy.spec, config.reference)
    ]
    sources[1].verify()  # The noisy pictures have been read.
    pairs = data.paired_images(*sources, cut=True).take(config.max_pictures)
    return {"true": curves_of_pairs(pairs.as_numpy_iterator())}


def _write_curves(
    model: NoiseModel, curves: dict[str, NoiseCurves], directory: Path
) -> None:
    plain = {name: _plain(dataclasses.asdict(c)) for name, c in curves.items()}
    levels = np.exp(model.log_levels.numpy())
    plain["learned"]["level_quantiles"] = np.quantile(levels, DECILES).tolist()
    text = files.json_text(plain)
    files.replace(directory / "noise.json", lambda path: path.write_text(text))
    files.replace(directory / "noise.png", lambda path: plot_curves(path, curves))


def _plain(arrays: dict[str, np.ndarray]) -> dict[str, list]:
    """Returns lists in place of arrays, with None in place of unknown values."""
    return {
        name: np.where(np.isfinite(array), np.float64(array), None).tolist()
        for name, array in arrays.items()
    }
