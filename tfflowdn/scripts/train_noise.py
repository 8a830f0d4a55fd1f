"""Learns the noise of noisy pictures, without pairs.

    train_noise --config noise --config.noisy.spec=NOISY --config.clean.spec=CLEAN \
        --config.denoiser=DENOISER --workdir WORKDIR

fits a conditional flow to the residuals of the denoiser on the noisy pictures. The
bias of that fit is measured by denoising clean pictures with noise of the model, and it
is subtracted.

    train_noise --config noise --config.noisy.spec=NOISY --config.evidence=calm \
        --workdir WORKDIR

fits it to the calmest places of the noisy pictures, and needs nothing else. Use this
form if a denoiser leaves much of the noise, for example for a camera whose noise is
correlated over many pixels, or if you have no clean pictures of a similar kind.

WORKDIR gets noise.keras, for the stage `distill` of `train_denoiser`, and report.html,
a page with curves and pictures of the noise. noise.png and noise.json have the standard
deviation and the skewness against brightness, and the autocorrelation.
--config.reference=CLEAN_SIDES adds the curves of the true noise. The fit takes minutes;
a run that was killed begins again.

Example:
    train_noise --config noise --config.noisy.spec=noisy --config.clean.spec=clean \
        --config.denoiser=general --workdir runs/noise
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
    commands = [configuration.command_line(sys.argv)]
    tfflowdn.stages.train_noise(FLAGS.config, FLAGS.workdir, commands=commands)


def main() -> None:
    """Runs the command."""
    command.define_training_flags("train_noise")
    command.run(_main)


if __name__ == "__main__":
    main()
