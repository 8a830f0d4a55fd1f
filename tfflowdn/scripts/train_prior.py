"""Trains a flow prior on clean pictures (stage 1).

    train_prior --config configs/prior_glow.py:gray --config.clean.spec=CLEAN \
        --config.validation.spec=HELD_OUT --workdir WORKDIR

writes WORKDIR/best.keras (the prior with the lowest validation bits/dim),
last.weights.h5 (to go on from), samples/, history.csv and logs/ for TensorBoard.
"""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf
from absl import flags, logging
from ml_collections import config_dict

from tfflowdn import data, training
from tfflowdn.models import FlowPrior
from tfflowdn.scripts import command

__all__ = ["main", "train_prior"]

FLAGS = flags.FLAGS


def train_prior(
    config: config_dict.ConfigDict,
    workdir: str,
    num_shards: int = 1,
    precision: str | None = None,
) -> Path:
    """Trains the prior of a configuration; each section is a function's arguments.

    Args:
      config: `prior` (FlowPrior), `clean` and `validation` (data.open_source, both
        in the range of the former, which the prior keeps), `crops`
        (data.random_crops), `training` (training.fit).
      workdir: Where the outputs go; a run that was killed goes on there.
      num_shards: Parts of a batch that run side by side, see FlowPrior.
      precision: Keras dtype policy of the conditioners in this training, where the
        configuration names none; the trained prior is saved without it.

    Returns:
      The path of the trained prior, `best.keras`.

    Raises:
      ValueError: For bad pictures, sizes or a work directory of another run.
    """
    with training.default_strategy().scope():
        return _train(config, workdir, num_shards, precision)


def _train(config, workdir, num_shards, precision):
    crop_size, _, channels = config.prior.image_shape
    clean, held_out = (
        data.open_source(
            **{**config[name], "pixel_range": config.clean.pixel_range},
            channels=channels,
        )
        for name in ("clean", "validation")
    )
    clean.verify()
    held_out.verify()
    num_replicas = tf.distribute.get_strategy().num_replicas_in_sync
    validation = data.image_batches(
        held_out,
        crop_size=crop_size,
        batch_size=config.crops.batch_size,
        drop_remainder=num_replicas > 1,  # No replica may have an empty batch.
    )
    crops = {**config.crops, "crop_size": crop_size}

    def batches(step):
        return data.random_crops(clean, **{**crops, "seed": config.crops.seed + step})

    arguments = config.prior.to_dict()
    options = arguments.pop("flow_options")
    precision = options["precision"] or precision
    prior = FlowPrior(
        **arguments,
        flow_options={**options, "precision": precision},
        pixel_range=config.clean.pixel_range,
    )
    prior.num_shards = num_shards
    directory = training.prepare_workdir(workdir, config.prior.to_dict())
    training.fit(
        prior,
        batches,
        directory=directory,
        validation=validation,
        monitor="val_bits_per_dim",
        save_best=lambda path: training.save_copy(prior, path, flow_options=options),
        callbacks=[training.SampleGrid(directory)],
        **config.training,
    )
    best = directory / "best.keras"
    logging.info("The prior is in %s", best)
    return best


def _main(argv):
    del argv
    train_prior(
        FLAGS.config,
        FLAGS.workdir,
        num_shards=command.share_cores(),
        precision=command.faster_precision(),
    )


def main():
    """Runs the script."""
    command.define_training_flags("train_prior")
    command.run(_main)


if __name__ == "__main__":
    main()
