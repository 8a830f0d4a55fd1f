"""Trains a flow prior on clean pictures (stage 1).

    train_prior --config configs/prior_glow.py:gray --config.clean.spec=CLEAN \
        --config.validation.spec=HELD_OUT --workdir WORKDIR

writes WORKDIR/best.keras (the prior with the lowest validation bits/dim),
checkpoint.npz (to go on from), samples/, history.csv and logs/ for TensorBoard.
SIGTERM has it write a checkpoint and end with code 143: give the same command again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf
from absl import flags, logging
from ml_collections import config_dict

from tfflowdn import checkpoint, data, distribution, training
from tfflowdn.models import FlowPrior
from tfflowdn.scripts import command

__all__ = ["main", "train_prior"]

FLAGS = flags.FLAGS


def train_prior(
    config: config_dict.ConfigDict,
    workdir: str,
    num_shards: int = 1,
    precision: str | None = None,
    patch_gradients: bool = False,
    strategy: tf.distribute.Strategy | None = None,
    stop: Callable[[], bool] | None = None,
) -> Path:
    """Trains the prior of a configuration; each section is a function's arguments.

    Args:
      config: `prior` (FlowPrior), `clean` and `validation` (data.open_source, both
        in the range of the former, which the prior keeps), `crops`
        (data.RandomCrops), `training` (training.fit).
      workdir: Where the outputs go; a run that was killed goes on there.
      num_shards: Parts of a batch that run side by side, see FlowPrior.
      precision: Keras dtype policy of the conditioners in this training, where the
        configuration names none; the trained prior is saved without it. A run goes on
        in the one that it began in.
      patch_gradients: The flow's option in this training, where the configuration
        says neither; the trained prior is saved without it, since stage 2, which
        needs the gradient of pictures alone, is faster without.
      strategy: The devices; by default `distribution.make_strategy()`.
      stop: Asked after each step whether to stop there, see `training.fit`.

    Returns:
      The path of the trained prior, `best.keras`.

    Raises:
      ValueError: For bad pictures, sizes or a work directory of another run.
      PreemptionError: If `stop` has said so.
    """
    strategy = strategy or distribution.make_strategy()
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
    validation = data.image_batches(
        held_out,
        crop_size=crop_size,
        batch_size=config.crops.batch_size,
        # No replica may have an empty batch.
        drop_remainder=strategy.num_replicas_in_sync > 1,
    )
    crops = data.RandomCrops(clean, **config.crops, crop_size=crop_size)
    arguments = config.prior.to_dict()
    options = arguments.pop("flow_options")
    chosen = options.pop("patch_gradients", None)
    patch_gradients = patch_gradients if chosen is None else chosen
    precision = options["precision"] or _first_precision(workdir, precision)
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
    if distribution.is_chief(strategy):
        # A run may go on on another device, with the option or without.
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
        **config.training,
    )
    best = directory / "best.keras"
    logging.info("The prior is in %s", best)
    return best


def _first_precision(workdir, precision):
    """Returns the precision that the run in `workdir` began in, or a new one's."""
    path = Path(workdir) / "precision.json"
    return json.loads(path.read_text()) if path.exists() else precision


def _keep_precision(directory, precision):
    checkpoint.replace(
        directory / "precision.json",
        lambda path: path.write_text(json.dumps(precision)),
    )


def _main(argv):
    del argv
    command.make_deterministic(FLAGS.config, FLAGS.seed)
    num_shards = command.share_cores()
    strategy = distribution.make_strategy(FLAGS.strategy)
    same_everywhere = FLAGS.seed is None and distribution.is_single_worker(strategy)
    train_prior(
        FLAGS.config,
        FLAGS.workdir,
        num_shards=num_shards,
        precision=command.faster_precision() if same_everywhere else None,
        patch_gradients=command.patches_pay(),
        strategy=strategy,
        stop=command.sigterm_flag(),
    )


def main():
    """Runs the script."""
    command.define_training_flags("train_prior")
    command.define_strategy_flag()
    command.run(_main)


if __name__ == "__main__":
    main()
