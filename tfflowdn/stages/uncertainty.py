"""Trains a network that predicts the errors of a denoiser."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf
from absl import logging
from ml_collections import config_dict

from tfflowdn import data, devices, inference, metrics, training
from tfflowdn.models import (
    COVERAGES,
    UncertaintyNetwork,
    WithUncertainty,
    coverage_loss,
    fingerprint,
)
from tfflowdn.noise import GenericNoise
from tfflowdn.stages.pairs import noisy_pairs
from tfflowdn.stages.pictures import check_given, open_pictures

__all__ = ["train_uncertainty"]

HELD_OUT_SEED = 10_007


def train_uncertainty(
    config: config_dict.ConfigDict,
    workdir: str | Path,
    *,
    strategy: tf.distribute.Strategy | None = None,
    stop: Callable[[], bool] | None = None,
) -> Path:
    """Trains on the errors that a denoiser makes on clean pictures with noise.

    Args:
      config: `denoiser` (its path), `clean` and `validation` (data.open_source; the
        latter may be absent), `noise` (path of a NoiseModel, or None for
        `generic_noise`, the arguments of GenericNoise), `level_range` (of the
        NoiseModel), `uncertainty` (UncertaintyNetwork), `crops` (data.RandomCrops),
        `training` (training.fit).
      workdir: The directory of the outputs; a run that was killed continues there.
      strategy: The devices; by default `devices.make_strategy()`.
      stop: Called after each step; training stops when it returns True, see
        `training.fit`.

    Returns:
      The path of the trained network, `uncertainty.keras`.

    Raises:
      ValueError: For missing or bad pictures, models that do not fit them, or a work
        directory of another run.
      PreemptionError: If `stop` has returned True.
    """
    reason = "its errors are learned"
    check_given("denoiser", config.denoiser, "DENOISER.keras", reason)
    strategy = strategy or devices.make_strategy()
    with strategy.scope():
        denoiser = inference.load_denoiser(config.denoiser)
        channels = inference.num_channels(denoiser)
        options = {**config.uncertainty, "denoiser": fingerprint(denoiser)}
        network = UncertaintyNetwork(channels, **options)
        model = WithUncertainty(denoiser, network)
        scores = [metrics.Coverage(factor) for factor in COVERAGES]
    noise = _noise(config, channels)
    pool = data.PicturePool(open_pictures(config, "clean", channels))
    pool.verify()
    crops = data.RandomCrops(pool, **config.crops)
    validation = _validation(config, channels, noise)
    directory = Path(workdir)
    if devices.is_chief(strategy):
        training.prepare_workdir(directory, _identity(config))
    training.fit(
        model,
        noisy_pairs(crops, noise, config.crops.seed),
        directory=directory,
        validation=validation,
        batch_names=crops.names,
        stop=stop,
        loss=coverage_loss,
        metrics=scores,
        **config.training,
    )
    path = directory / "uncertainty.keras"
    if devices.is_chief(strategy):
        training.save_copy(network, path)
        logging.info("The uncertainty is in %s", path)
    return path


def _noise(config: config_dict.ConfigDict, channels: int) -> Callable[..., tf.Tensor]:
    if not config.noise:
        return GenericNoise(**config.generic_noise)
    noise = inference.load_noise(config.noise)
    if noise.channels != channels:
        raise ValueError(
            f"noise must be for {channels} channel(s), like the denoiser. "
            f"Received: {config.noise!r}, for {noise.channels}."
        )
    return functools.partial(noise, level_range=config.level_range)


def _validation(
    config: config_dict.ConfigDict, channels: int, noise: Callable[..., tf.Tensor]
) -> tf.data.Dataset | None:
    """Returns batches of one (noisy, clean); the noise of a picture is always equal."""
    if not config.validation.spec:
        return None
    source = open_pictures(config, "validation", channels)
    source.verify()

    def pair(index: tf.Tensor, picture: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        clean = data.to_unit(picture)[tf.newaxis]
        seed = tf.stack([tf.constant(HELD_OUT_SEED, tf.int64), index])
        return noise(clean, seed=seed), clean

    return source.dataset().enumerate().map(pair)


def _identity(config: config_dict.ConfigDict) -> dict[str, Any]:
    """Returns the values that make this run another run, as JSON types."""
    identity: dict[str, Any] = {"uncertainty": config.uncertainty.to_dict()}
    for name in ("denoiser", "noise"):
        if config[name]:
            path = Path(inference.find_model(config[name]))
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            identity[name] = digest
    return identity
