"""Trains a denoiser on noisy pictures and unrelated clean ones (stage 2).

    train_denoiser --config configs/denoiser_resnet.py:gray --config.noisy.spec=NOISY \
        --config.clean.spec=CLEAN --config.prior=PRIOR/best.keras --workdir WORKDIR

First the start: the network learns to remove generic synthetic noise, of random kind
and level, from the clean pictures. Then the objective: it learns on the noisy pictures
alone, under the prior. `--config.start.training.num_steps=0` leaves out the first,
`--config.objective.training.num_steps=0` the second. WORKDIR/denoiser.keras is the
trained network; start/ and objective/ hold checkpoints, history.csv and logs/.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import tensorflow as tf
from absl import flags, logging
from ml_collections import config_dict

from tfflowdn import data, inference, metrics, training
from tfflowdn.models import ResNetDenoiser, UnpairedDenoiser
from tfflowdn.scripts import command

__all__ = ["main", "train_denoiser"]

FLAGS = flags.FLAGS


def train_denoiser(config: config_dict.ConfigDict, workdir: str) -> Path:
    """Trains the denoiser of a configuration; each section is a function's arguments.

    Args:
      config: `prior` (path of a FlowPrior), `noisy` and `clean` (data.open_source, the
        network keeps the range of the former), `validation` (data.pair_sources, in
        the same range; empty for none), `network` (ResNetDenoiser),
        `start` and `objective`, each with `crops` (data.random_crops) and `training`
        (training.fit), the former with `noise` (data.GenericNoise), the latter with
        `loss` (UnpairedDenoiser).
      workdir: Where the outputs go; a run that was killed goes on there.

    Returns:
      The path of the trained network, `denoiser.keras`.

    Raises:
      ValueError: For bad pictures, a prior that does not fit them, or a work
        directory of another run.
    """
    with training.default_strategy().scope():
        return _train(config, workdir)


def _train(config, workdir):
    prior = inference.load_prior(config.prior)
    network = ResNetDenoiser(
        prior.channels, **config.network, pixel_range=config.noisy.pixel_range
    )
    denoiser = UnpairedDenoiser(network, prior, **config.objective.loss)
    _check_crop_size(config.objective.crops.crop_size, prior)
    for part in (config.start.training, config.objective.training):
        training.check_steps(part.num_steps, part.steps_per_epoch)
    validation = _validation(config, prior)
    generic_pairs = _generic_pairs(config, prior.channels)
    noisy_crops = _noisy_crops(config, prior.channels)
    identity = {"network": config.network.to_dict(), "channels": prior.channels}
    directory = training.prepare_workdir(workdir, identity)
    if noisy_crops:
        digest = hashlib.sha256(Path(config.prior).read_bytes()).hexdigest()
        training.prepare_workdir(directory / "objective", {"prior": digest})
    if generic_pairs:
        logging.info("Start: generic synthetic noise on the clean pictures")
        training.fit(
            network,
            generic_pairs,
            directory=directory / "start",
            validation=validation,
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
            **config.objective.training,
        )
    path = directory / "denoiser.keras"
    training.save_copy(network, path, precision="float32")
    logging.info("The denoiser is in %s", path)
    return path


def _generic_pairs(config, channels):
    """Returns a function from the first step to (noisy, clean) batches, or None."""
    options = config.start
    if not options.training.num_steps:
        return None
    add_noise = data.GenericNoise(**options.noise)
    crops = _checked_crops(config.clean, channels, options.crops)

    def batches(step):
        def pair(index, images):
            seed = tf.stack([tf.constant(options.crops.seed, tf.int64), step + index])
            return add_noise(images, seed), images

        pairs = crops(step).enumerate().map(pair, tf.data.AUTOTUNE)
        return pairs.prefetch(tf.data.AUTOTUNE)

    return batches


def _noisy_crops(config, channels):
    """Returns a function from the first step to batches of noisy crops, or None."""
    if not config.objective.training.num_steps:
        return None
    return _checked_crops(config.noisy, channels, config.objective.crops)


def _checked_crops(pool, channels, options):
    """Returns a function from the first step to crops of a pool that can be read."""
    source = data.open_source(**pool, channels=channels)
    source.verify()

    def crops(step):
        return data.random_crops(source, **{**options, "seed": options.seed + step})

    crops(0)  # Says what is wrong with the sizes now, not after another part.
    return crops


def _check_crop_size(crop_size, prior):
    if crop_size % prior.size_multiple:
        raise ValueError(
            f"objective.crops.crop_size must be divisible by {prior.size_multiple}, "
            f"the prior's 2**num_levels. Received: crop_size={crop_size}."
        )


def _validation(config, prior):
    """Returns batches of one (noisy, clean), cut to a size that the prior takes.

    Each replica gets the same picture: none may be left with an empty batch.
    """
    specs, pixel_range = config.validation, config.noisy.pixel_range
    if not specs.noisy:
        return None
    sources = (
        data.open_source(spec, channels=prior.channels, pixel_range=pixel_range)
        for spec in (specs.noisy, specs.clean)
    )

    num_replicas = tf.distribute.get_strategy().num_replicas_in_sync

    def cut_and_repeat(*images):
        multiple = prior.size_multiple
        size = tf.shape(images[0])[:2] // multiple * multiple
        cut = (image[tf.newaxis, : size[0], : size[1]] for image in images)
        return tuple(tf.repeat(image, num_replicas, axis=0) for image in cut)

    return data.paired_images(*sources).map(cut_and_repeat)


def _main(argv):
    del argv
    train_denoiser(FLAGS.config, FLAGS.workdir)


def main():
    """Runs the script."""
    command.define_training_flags("train_denoiser")
    command.run(_main)


if __name__ == "__main__":
    main()
