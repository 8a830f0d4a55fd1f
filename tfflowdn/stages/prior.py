"""Trains a flow prior on clean pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf
from absl import logging
from ml_collections import config_dict

from tfflowdn import data, devices, files, training
from tfflowdn.models import FlowPrior
from tfflowdn.report import config_markdown
from tfflowdn.stages.pictures import open_pictures
from tfflowdn.stages.prior_report import write_prior_report

__all__ = [
    "train_prior",
]


def train_prior(
    config: config_dict.ConfigDict,
    workdir: str | Path,
    *,
    num_shards: int = 1,
    precision: str | None = None,
    patch_gradients: bool = False,
    strategy: tf.distribute.Strategy | None = None,
    stop: Callable[[], bool] | None = None,
    commands: Sequence[str] = (),
) -> Path:
    """Trains the prior of a configuration; each section is a function's arguments.

    Args:
      config: `prior` (FlowPrior; 0 channels: as many as the clean pictures),
        `clean` and `validation` (data.open_source; both have the pixel range of
        `clean`, which the prior keeps), `crops` (data.RandomCrops), `training`
        (training.fit).
      workdir: The directory of the outputs; a run that was killed continues there.
      num_shards: Parts of a batch that run in parallel, see FlowPrior.
      precision: Keras dtype policy of the conditioners in this training, unless the
        configuration names one. The trained prior is saved without it. A run that
        continues keeps its first precision.
      patch_gradients: The flow's option in this training, unless the configuration
        chooses it. The trained prior is saved without it, because the denoiser's
        training, which needs only the gradient with respect to pictures, is slower
        with it.
      strategy: The devices; by default `devices.make_strategy()`.
      stop: Called after each step; training stops when it returns True, see
        `training.fit`.
      commands: Commands that repeat the training, for the report.

    Returns:
      The path of the trained prior, `best.keras`.

    Raises:
      ValueError: For missing or bad pictures, bad sizes, or a work directory of
        another run.
      PreemptionError: If `stop` has returned True.
    """
    strategy = strategy or devices.make_strategy()
    crop_size, _, channels = config.prior.image_shape
    channels = channels or open_pictures(config, "clean", None).channels
    config = _with_channels(config, channels)
    clean, held_out = (
        open_pictures(
            config,
            name,
            channels,
            pixel_range=config.clean.pixel_range,
            axes=config[name].axes or config.clean.axes,
        )
        for name in ("clean", "validation")
    )
    clean = data.PicturePool(clean)
    clean.verify()
    held_out.verify()
    validation = data.image_batches(
        held_out,
        crop_size=crop_size,
        batch_size=config.crops.batch_size,
        # An incomplete batch could leave a replica without pictures.
        drop_remainder=strategy.num_replicas_in_sync > 1,
    )
    crops = data.RandomCrops(clean, **config.crops, crop_size=crop_size)
    arguments = config.prior.to_dict()
    options = arguments.pop("flow_options")
    chosen = options.pop("patch_gradients", None)
    patch_gradients = patch_gradients if chosen is None else chosen
    precision = options.get("precision") or _first_precision(workdir, precision)
    with strategy.scope():
        prior = FlowPrior(
            **arguments,
            flow_options={
                **options,
                "precision": precision,
                "patch_gradients": patch_gradients,
            },
            pixel_range=config.clean.pixel_range,
        )
    prior.num_shards = num_shards
    directory = Path(workdir)
    if devices.is_chief(strategy):
        # A run may continue on another device, with the option or without it.
        identity = {**config.prior.to_dict(), "flow_options": options}
        training.prepare_workdir(directory, identity)
        _keep_precision(directory, precision)
    training.fit(
        prior,
        crops,
        directory=directory,
        validation=validation,
        monitor="val_bits_per_dim",
        save_best=lambda path: training.save_copy(prior, path, flow_options=options),
        callbacks=[training.SampleGrid(directory)],
        batch_names=crops.names,
        stop=stop,
        text=config_markdown(config),
        **config.training,
    )
    best = directory / "best.keras"
    if devices.is_chief(strategy):
        write_prior_report(directory, config, commands)
    logging.info("The prior is in %s", best)
    return best


def _with_channels(
    config: config_dict.ConfigDict, channels: int
) -> config_dict.ConfigDict:
    """Returns a copy of the configuration with the channels of the pictures."""
    config = config.copy_and_resolve_references()
    config.prior.image_shape = (*config.prior.image_shape[:2], channels)
    return config


def _first_precision(workdir: str | Path, precision: str | None) -> str | None:
    """Returns the first precision of the run in `workdir`; `precision` if it is new."""
    path = Path(workdir) / "precision.json"
    return json.loads(path.read_text()) if path.exists() else precision


def _keep_precision(directory: Path, precision: str | None) -> None:
    files.replace(
        directory / "precision.json",
        lambda path: path.write_text(json.dumps(precision)),
    )
