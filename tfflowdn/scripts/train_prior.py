"""Trains a flow prior on clean pictures.

    train_prior --config NAME[:VARIANT] --config.clean.spec=CLEAN \
        --config.validation.spec=HELD_OUT --workdir WORKDIR

writes WORKDIR/best.keras (the prior with the lowest validation bits/dim),
checkpoint.npz (to continue from), samples/, history.csv, report.html and logs/ for
TensorBoard.
After SIGTERM the command writes a checkpoint and exits with code 143; the same command
continues the training.

Example:
    train_prior --config prior_glow:gray --config.clean.spec=clean \
        --config.validation.spec=held_out --workdir runs/prior
"""

from __future__ import annotations

import sys

from absl import flags

import tfflowdn
from tfflowdn.scripts import command, configuration

__all__ = ["main"]

FLAGS = flags.FLAGS


def _main(argv):
    del argv
    command.make_deterministic(FLAGS.config, FLAGS.seed)
    num_shards = tfflowdn.devices.share_cores()
    strategy = tfflowdn.devices.make_strategy(FLAGS.strategy)
    same_everywhere = FLAGS.seed is None and tfflowdn.devices.is_single_worker(strategy)
    tfflowdn.stages.train_prior(
        FLAGS.config,
        FLAGS.workdir,
        num_shards=num_shards,
        precision=tfflowdn.devices.faster_precision() if same_everywhere else None,
        patch_gradients=tfflowdn.devices.patches_pay(),
        strategy=strategy,
        stop=command.sigterm_flag(),
        commands=[configuration.command_line(sys.argv)],
    )


def main() -> None:
    """Runs the command."""
    command.define_training_flags("train_prior")
    command.define_strategy_flag()
    command.run(_main)


if __name__ == "__main__":
    main()
