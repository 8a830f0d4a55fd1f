"""Learns how large the errors of a denoiser are, for `denoise --std`.

    train_uncertainty --config uncertainty --config.denoiser=DENOISER \
        --config.noise=NOISE --config.clean.spec=CLEAN --workdir WORKDIR

adds the noise of `train_noise` to clean pictures, denoises them, and trains a small
network to predict the standard deviation of the error of each pixel. Without
--config.noise it adds generic noise of many kinds. --config.validation.spec=HELD_OUT
names clean pictures on which the shares of pixels within 1 and 2 standard deviations
are measured after each epoch (68 and 95 % are right).

WORKDIR/uncertainty.keras is the trained network. Copy it next to DENOISER, so that
`denoise --std` finds it. After SIGTERM the command writes a checkpoint and exits with
code 143; the same command continues the training.

Example:
    train_uncertainty --config uncertainty --config.denoiser=runs/denoiser.keras \
        --config.noise=runs/noise/noise.keras --config.clean.spec=clean \
        --workdir runs/uncertainty
"""

from __future__ import annotations

from absl import flags

import tfflowdn
from tfflowdn.scripts import command

__all__ = ["main"]

FLAGS = flags.FLAGS


def _main(argv):
    del argv
    command.make_deterministic(FLAGS.config, FLAGS.seed)
    tfflowdn.stages.train_uncertainty(
        FLAGS.config,
        FLAGS.workdir,
        strategy=tfflowdn.devices.make_strategy(FLAGS.strategy),
        stop=command.sigterm_flag(),
    )


def main() -> None:
    """Runs the command."""
    command.define_training_flags("train_uncertainty")
    command.define_strategy_flag()
    command.run(_main)


if __name__ == "__main__":
    main()
