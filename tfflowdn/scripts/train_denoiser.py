"""Trains a denoiser on noisy pictures and unrelated clean ones (stage 2).

    train_denoiser --config configs/denoiser_resnet.py --config.noisy.spec=NOISY \
        --config.clean.spec=CLEAN --config.prior=PRIOR/best.keras --workdir WORKDIR

The configuration has a section for each stage that runs:

  start: the network learns to remove generic synthetic noise from the clean pictures;
  objective: it learns on the noisy pictures under the prior, and rehearses the start;
  distill: it learns to remove the noise of `--config.noise`, which `train_noise` has
    learned, from the clean pictures.

`--config.denoiser=DENOISER.keras` continues with the weights of a trained denoiser.

    train_denoiser --config configs/denoiser_resnet.py:distill \
        --config.clean.spec=CLEAN --config.denoiser=WORKDIR/denoiser.keras \
        --config.noise=NOISE/noise.keras --workdir DISTILLED

WORKDIR/denoiser.keras is the trained network; start/, objective/ and distill/ hold
checkpoints, history.csv and logs/. SIGTERM has it write a checkpoint and end with code
143: give the same command again.
"""

from __future__ import annotations

from absl import flags

from tfflowdn import devices
from tfflowdn.scripts import command
from tfflowdn.stages.denoiser import train_denoiser

__all__ = ["main"]

FLAGS = flags.FLAGS


def _main(argv):
    del argv
    command.make_deterministic(FLAGS.config, FLAGS.seed)
    num_shards = devices.share_cores()
    train_denoiser(
        FLAGS.config,
        FLAGS.workdir,
        num_shards=num_shards,
        strategy=devices.make_strategy(FLAGS.strategy),
        stop=command.sigterm_flag(),
    )


def main():
    """Runs the script."""
    command.define_training_flags("train_denoiser")
    command.define_strategy_flag()
    command.run(_main)


if __name__ == "__main__":
    main()
