"""Trains a denoiser on noisy pictures and unrelated clean ones (stage 2).

    train_denoiser --config configs/denoiser_resnet.py:gray --config.noisy.spec=NOISY \
        --config.clean.spec=CLEAN --config.prior=PRIOR/best.keras --workdir WORKDIR

First the start: the network learns to remove generic synthetic noise, of random kind
and level, from the clean pictures. Then the objective: it learns on the noisy pictures
alone, under the prior. `--config.start.training.num_steps=0` leaves out the first,
`--config.objective.training.num_steps=0` the second. WORKDIR/denoiser.keras is the
trained network; start/ and objective/ hold checkpoints, history.csv and logs/.
SIGTERM has it write a checkpoint and end with code 143: give the same command again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf
from absl import flags, logging
from ml_collections import config_dict

from tfflowdn import data, distribution, inference, metrics, training
from tfflowdn.models import ResNetDenoiser, UnpairedDenoiser
from tfflowdn.scripts import command

__all__ = ["generic_pairs", "main", "train_denoiser"]

FLAGS = flags.FLAGS


def train_denoiser(
    config: config_dict.ConfigDict,
    workdir: str,
    strategy: tf.distribute.Strategy | None = None,
    stop: Callable[[], bool] | None = None,
) -> Path:
    """Trains the denoiser of a configuration; each section is a function's arguments.

    Args:
      config: `prior` (path of a FlowPrior), `noisy` and `clean` (data.open_source),
        `validation` (data.pair_sources; empty for none), `network` (ResNetDenoiser),
        `start` and `objective`, each with `crops` (data.RandomCrops) and `training`
        (training.fit), the former with `noise` (data.GenericNoise), the latter with
        `loss` (UnpairedDenoiser).
      workdir: Where the outputs go; a run that was killed goes on there.
      strategy: The devices; by default `distribution.make_strategy()`.
      stop: Asked after each step whether to stop there, see `training.fit`.

    Returns:
      The path of the trained network, `denoiser.keras`.

    Raises:
      ValueError: For bad pictures, a prior that does not fit them, or a work
        directory of another run.
      PreemptionError: If `stop` has said so.
    """
    strategy = strategy or distribution.make_strategy()
    with strategy.scope():
        prior = inference.load_prior(config.prior)
        network = ResNetDenoiser(prior.channels, **config.network)
        denoiser = UnpairedDenoiser(network, prior, **config.objective.loss)
    _check_crop_size(config.objective.crops.crop_size, prior)
    for part in (config.start.training, config.objective.training):
        training.check_steps(part.num_steps, part.steps_per_epoch)
    validation = _validation(config.validation, prior, strategy.num_replicas_in_sync)
    clean_crops = _crops(config.clean, prior.channels, config.start)
    noisy_crops = _crops(config.noisy, prior.channels, config.objective)
    directory, chief = Path(workdir), distribution.is_chief(strategy)
    if chief:
        identity = {"network": config.network.to_dict(), "channels": prior.channels}
        training.prepare_workdir(directory, identity)
        if noisy_crops:
            digest = hashlib.sha256(Path(config.prior).read_bytes()).hexdigest()
            training.prepare_workdir(directory / "objective", {"prior": digest})
    if clean_crops:
        logging.info("Start: generic synthetic noise on the clean pictures")
        training.fit(
            network,
            generic_pairs(clean_crops, config.start),
            directory=directory / "start",
            validation=validation,
            batch_names=clean_crops.names,
            stop=stop,
            loss="mse",
            metrics=[metrics.PSNR(data_range=1.0)],
            **config.start.training,
        )
    if noisy_crops:
        logging.info("Objective: the noisy pictures under the prior")
        training.fit(
            denoiser,
            noisy_crops,
            directory=directory / "objective",
            validation=validation,
            batch_names=noisy_crops.names,
            stop=stop,
            **config.objective.training,
        )
    path = directory / "denoiser.keras"
    if chief:
        training.save_copy(network, path, precision="float32")
        logging.info("The denoiser is in %s", path)
    return path


def _crops(pool, channels, part):
    """Returns the crops of a part's pictures, which can all be read, or None."""
    if not part.training.num_steps:
        return None
    source = data.open_source(**pool, channels=channels)
    source.verify()
    return data.RandomCrops(source, **part.crops)


def generic_pairs(crops, options):
    """Returns a function from the first step to (noisy, clean) batches."""
    add_noise = data.GenericNoise(**options.noise)

    def batches(first_step):
        def pair(index, images):
            step = first_step + index
            seed = tf.stack([tf.constant(options.crops.seed, tf.int64), step])
            return add_noise(images, seed), images

        pairs = crops(first_step).enumerate().map(pair, tf.data.AUTOTUNE)
        return pairs.prefetch(tf.data.AUTOTUNE)

    return batches


def _check_crop_size(crop_size, prior):
    if crop_size % prior.size_multiple:
        raise ValueError(
            f"objective.crops.crop_size must be divisible by {prior.size_multiple}, "
            f"the prior's 2**num_levels. Received: crop_size={crop_size}."
        )


def _validation(specs, prior, num_replicas):
    """Returns batches of one (noisy, clean), cut to a size that the prior takes.

    Each replica gets the same picture: none may be left with an empty batch.
    """
    if not specs.noisy:
        return None
    sources = (
        data.open_source(spec, channels=prior.channels)
        for spec in (specs.noisy, specs.clean)
    )

    def cut_and_repeat(*images):
        multiple = prior.size_multiple
        size = tf.shape(images[0])[:2] // multiple * multiple
        cut = (image[tf.newaxis, : size[0], : size[1]] for image in images)
        return tuple(tf.repeat(image, num_replicas, axis=0) for image in cut)

    return data.paired_images(*sources).map(cut_and_repeat)


def _main(argv):
    del argv
    command.make_deterministic(FLAGS.config, FLAGS.seed)
    strategy = distribution.make_strategy(FLAGS.strategy)
    stop = command.sigterm_flag()
    train_denoiser(FLAGS.config, FLAGS.workdir, strategy=strategy, stop=stop)


def main():
    """Runs the script."""
    command.define_training_flags("train_denoiser")
    command.run(_main)


if __name__ == "__main__":
    main()
