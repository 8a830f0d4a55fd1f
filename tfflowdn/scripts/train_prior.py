"""Trains a flow prior on clean pictures (stage 1).

    train_prior --config configs/prior_glow.py:gray --config.clean.spec=CLEAN \
        --config.validation.spec=HELD_OUT --workdir WORKDIR

writes WORKDIR/best.keras (the prior with the lowest validation bits/dim),
checkpoint.npz (to go on from), samples/, history.csv and logs/ for TensorBoard.
SIGTERM has it write a checkpoint and end with code 143: give the same command again.
"""

from __future__ import annotations

from absl import flags

from tfflowdn import devices
from tfflowdn.scripts import command
from tfflowdn.stages.prior import train_prior

__all__ = ["main"]

FLAGS = flags.FLAGS


def _main(argv):
    del argv
    command.make_deterministic(FLAGS.config, FLAGS.seed)
    num_shards = devices.share_cores()
    strategy = devices.make_strategy(FLAGS.strategy)
    same_everywhere = FLAGS.seed is None and devices.is_single_worker(strategy)
    train_prior(
        FLAGS.config,
        FLAGS.workdir,
        num_shards=num_shards,
        precision=devices.faster_precision() if same_everywhere else None,
        patch_gradients=devices.patches_pay(),
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
