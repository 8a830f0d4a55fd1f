"""Trains a denoiser on noisy pictures and unrelated clean ones.

    train_denoiser --config NAME[:VARIANT] --config.noisy.spec=NOISY \
        --config.clean.spec=CLEAN --config.prior=PRIOR --workdir WORKDIR

The configuration has a section for each stage that runs, in this order:

  start: the network learns to remove generic synthetic noise from the clean pictures;
  objective: it learns on the noisy pictures under the prior, and rehearses the start;
  distill: it learns to remove the noise of --config.noise, which `train_noise` has
    learned, from the clean pictures.

--config.denoiser=DENOISER continues with the weights of a trained denoiser.

WORKDIR/denoiser.keras is the trained network, and report.html is a page with pictures
and curves. start/, objective/ and distill/ hold checkpoints, history.csv and logs/ for
TensorBoard, with pictures after each epoch. After SIGTERM the command writes a
checkpoint and exits with code 143; the same command continues the training.

Example:
    train_denoiser --config denoiser_resnet --config.noisy.spec=noisy \
        --config.clean.spec=clean --config.prior=prior_gray --workdir runs/denoiser
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
    tfflowdn.stages.train_denoiser(
        FLAGS.config,
        FLAGS.workdir,
        num_shards=num_shards,
        strategy=tfflowdn.devices.make_strategy(FLAGS.strategy),
        stop=command.sigterm_flag(),
        commands=[configuration.command_line(sys.argv)],
    )


def main() -> None:
    """Runs the command."""
    command.define_training_flags("train_denoiser")
    command.define_strategy_flag()
    command.run(_main)


if __name__ == "__main__":
    main()
