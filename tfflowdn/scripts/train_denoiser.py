"""Trains a denoiser on noisy pictures and unrelated clean ones (stage 2).

    train_denoiser --config configs/denoiser_resnet.py --config.noisy.spec=NOISY \
        --config.clean.spec=CLEAN --config.prior=PRIOR/best.keras --workdir WORKDIR

First the start: the network learns to remove generic synthetic noise, of random kind
and level, from the clean pictures. Then the objective: it learns on the noisy pictures,
under the prior, and goes on with such pairs beside them so as not to unlearn the start
(rehearsal; `--config.objective.loss.rehearsal_weight=0` for the noisy pictures alone).
`--config.start.training.num_steps=0` leaves out the first,
`--config.objective.training.num_steps=0` the second, which then needs no prior.
`--config.denoiser=DENOISER.keras` begins with the weights of a trained one.

    train_denoiser --stage distill --config configs/denoiser_resnet.py \
        --config.clean.spec=CLEAN --config.denoiser=WORKDIR/denoiser.keras \
        --config.noise=NOISE/noise.keras --workdir DISTILLED

goes on with a trained denoiser: the clean pictures and noise of a model that
`train_noise` has learned make pairs (stage 3).

WORKDIR/denoiser.keras is the trained network; start/, objective/ and distill/ hold
checkpoints, history.csv and logs/. SIGTERM has it write a checkpoint and end with code
143: give the same command again.
"""

from __future__ import annotations

from absl import flags

from tfflowdn import devices
from tfflowdn.scripts import command
from tfflowdn.stages.denoiser import STAGES, train_denoiser

__all__ = ["main"]

FLAGS = flags.FLAGS


def _main(argv):
    del argv
    command.make_deterministic(FLAGS.config, FLAGS.seed)
    num_shards = devices.share_cores()
    train_denoiser(
        FLAGS.config,
        FLAGS.workdir,
        FLAGS.stage,
        num_shards=num_shards,
        strategy=devices.make_strategy(FLAGS.strategy),
        stop=command.sigterm_flag(),
    )


def main():
    """Runs the script."""
    command.define_training_flags("train_denoiser")
    command.define_strategy_flag()
    flags.DEFINE_enum("stage", "unpaired", STAGES, "What to train, see above.")
    command.run(_main)


if __name__ == "__main__":
    main()
