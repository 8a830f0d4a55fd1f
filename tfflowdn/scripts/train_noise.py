"""Learns the noise of noisy pictures, without pairs (stage 3).

    train_noise --config configs/noise.py --config.noisy.spec=NOISY \
        --config.clean.spec=CLEAN --config.denoiser=DENOISER.keras --workdir WORKDIR

fits a conditional flow to what the denoiser takes away from the noisy pictures, and
corrects it by what the same denoiser takes away from clean ones with noise of the model
(see tfflowdn.noise_estimation). Where a denoiser misses much of the noise, as that of a
camera, which reaches over many pixels, or where no clean pictures resemble the noisy,

    train_noise --config configs/noise.py --config.noisy.spec=NOISY \
        --config.evidence=calm --workdir WORKDIR

fits it to the calmest places of the noisy pictures, and needs nothing else. WORKDIR
gets noise.keras, for the stage `distill` of `train_denoiser`, and noise.png and
noise.json: the standard deviation and the skewness against brightness and the
autocorrelation, with `--config.reference=CLEAN_SIDES` (pictures of the names of noisy
ones) next to those of the true noise. It takes minutes; a run that was killed begins
again.
"""

from __future__ import annotations

from absl import flags

from tfflowdn.scripts import command
from tfflowdn.stages.noise import train_noise

__all__ = ["main"]

FLAGS = flags.FLAGS


def _main(argv):
    del argv
    command.make_deterministic(FLAGS.config, FLAGS.seed)
    train_noise(FLAGS.config, FLAGS.workdir)


def main():
    """Runs the script."""
    command.define_training_flags("train_noise")
    command.run(_main)


if __name__ == "__main__":
    main()
