"""Learns the noise of noisy pictures, without pairs (stage 3)."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
from absl import logging
from ml_collections import config_dict

from tfflowdn import (
    data,
    files,
    inference,
    training,
)
from tfflowdn.noise import estimate_calm_noise, estimate_noise
from tfflowdn.noise.curves import curves_of_model, curves_of_pairs, plot_curves
from tfflowdn.stages.pictures import check_given, open_pictures

__all__ = [
    "train_noise",
]

DECILES = np.linspace(0, 1, 11)


EVIDENCE = ("residuals", "calm")


def train_noise(config: config_dict.ConfigDict, workdir: str) -> Path:
    """Learns the noise of a configuration; each section is a function's arguments.

    Args:
      config: `evidence` ("residuals" or "calm": what the noise is learned from),
        `noisy` (data.open_source), `residuals` (estimate_noise), for
        which come `denoiser` (its path) and `clean` (data.open_source), `calm`
        (estimate_calm_noise), `reference` (the clean sides of the
        noisy pictures, for comparison alone; empty for none), `max_pictures` and
        `max_side` (of each pool; larger pictures are cut in their middle), `model`
        (NoiseModel).
      workdir: Where the outputs go.

    Returns:
      The path of the trained model, `noise.keras`.

    Raises:
      ValueError: For bad pictures, unknown evidence, or a denoiser that does not fit
        the pictures.
    """
    evidence = config.evidence
    if evidence not in EVIDENCE:
        raise ValueError(f"evidence must be one of {EVIDENCE}. Received: {evidence=}.")
    prepare = {"residuals": _from_residuals, "calm": _from_calm}[evidence]
    estimate, channels = prepare(config)
    truth = _truth(config, channels)

    directory = Path(workdir)
    with files.locked(directory):
        model = estimate(model_options=config.model)
        _write_report(model, truth, directory)
        path = directory / "noise.keras"
        training.save_copy(model, path)
    logging.info("The noise is in %s", path)
    return path


def _from_residuals(config):
    """Returns the estimate, still to be made, and the channels of the pictures."""
    reason = "the noise is learned from what a denoiser removes"
    check_given("denoiser", config.denoiser, "DENOISER.keras", reason)
    denoiser = inference.Denoiser.from_pretrained(config.denoiser)

    def denoise(picture):
        return denoiser(picture, pixel_range="dtype")  # They are in [0, 1] units.

    pools = [_pictures(name, denoiser.channels, config) for name in ("noisy", "clean")]
    estimate = functools.partial(estimate_noise, denoise, *pools, **config.residuals)
    return estimate, denoiser.channels


def _from_calm(config):
    noisy = _pictures("noisy", None, config)
    estimate = functools.partial(estimate_calm_noise, noisy, **config.calm)
    return estimate, noisy[0].shape[-1]


def _pictures(name, channels, config):
    """Returns pictures spread evenly over a pool, float32 [H, W, C]."""
    source = open_pictures(config, name, channels)
    step = max(1, len(source) // config.max_pictures)
    pictures = source.dataset().shard(step, 0).take(config.max_pictures)
    side = config.max_side
    return [_middle(data.to_unit(picture).numpy(), side) for picture in pictures]


def _middle(picture, side):
    top, left = (max(0, (size - side) // 2) for size in picture.shape[:2])
    return picture[top : top + side, left : left + side]


def _truth(config, channels):
    """Returns the curves of the true noise by their name, where it is known."""
    if not config.reference:
        return {}
    sources = (
        data.open_source(spec, channels=channels, pixel_range=config.noisy.pixel_range)
        for spec in (config.noisy.spec, config.reference)
    )
    pairs = data.paired_images(*sources).take(config.max_pictures)
    return {"true": curves_of_pairs(pairs.as_numpy_iterator())}


def _write_report(model, truth, directory):
    curves = {"learned": curves_of_model(model), **truth}
    plain = {name: _plain(dataclasses.asdict(c)) for name, c in curves.items()}
    levels = np.exp(model.log_levels.numpy())
    plain["learned"]["level_quantiles"] = np.quantile(levels, DECILES).tolist()
    text = json.dumps(plain, indent=2) + "\n"
    files.replace(directory / "noise.json", lambda path: path.write_text(text))
    files.replace(directory / "noise.png", lambda path: plot_curves(path, curves))


def _plain(arrays):
    """Returns lists of arrays, as JSON has them: None where nothing is known."""
    return {
        name: np.where(np.isfinite(array), np.float64(array), None).tolist()
        for name, array in arrays.items()
    }
