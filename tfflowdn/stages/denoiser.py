"""Trains a denoiser on noisy pictures and unrelated clean ones (stage 2)."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf
from absl import logging
from ml_collections import config_dict

from tfflowdn import data, devices, inference, metrics, training
from tfflowdn.models import ResNetDenoiser, UnpairedDenoiser
from tfflowdn.noise import GenericNoise

__all__ = [
    "STAGES",
    "make_network",
    "noisy_pairs",
    "train_denoiser",
    "weighted_pairs",
    "with_pairs",
]

STAGES = ("unpaired", "distill")


REHEARSAL_SEED = 1000  # Added to that of the objective's crops.


def train_denoiser(
    config: config_dict.ConfigDict,
    workdir: str,
    stage: str = "unpaired",
    num_shards: int = 1,
    strategy: tf.distribute.Strategy | None = None,
    stop: Callable[[], bool] | None = None,
) -> Path:
    """Trains the denoiser of a configuration; each section is a function's arguments.

    Args:
      config: `prior` (path of a FlowPrior), `denoiser` (path of the network to begin
        with; empty for a new one), `noise` (path of a NoiseModel), `noisy` and `clean`
        (data.open_source; the network keeps the range of the former), `validation`
        (data.pair_sources, in the same range; empty for none), `network`
        (ResNetDenoiser), `start`, `objective` and `distill`, each with `crops`
        (data.RandomCrops), `training` (training.fit) and `loss` (`weighted_pairs`; that
        of the second part UnpairedDenoiser, whose rehearsal has `start.noise`), the
        first with `noise` (GenericNoise), the last with `noise` (NoiseModel.call).
      workdir: Where the outputs go; a run that was killed goes on there.
      stage: "unpaired" (start and objective) or "distill".
      num_shards: Parts of a batch that run side by side, see FlowPrior.
      strategy: The devices; by default `devices.make_strategy()`.
      stop: Asked after each step whether to stop there, see `training.fit`.

    Returns:
      The path of the trained network, `denoiser.keras`.

    Raises:
      ValueError: For bad pictures, a model that does not fit them, or a work
        directory of another run.
      PreemptionError: If `stop` has said so.
    """
    strategy = strategy or devices.make_strategy()
    run = _Run(config, Path(workdir), num_shards, strategy, stop)
    network = (_train_unpaired if stage == "unpaired" else _distill)(run)
    path = run.directory / "denoiser.keras"
    if run.chief:
        training.save_copy(network, path, precision="float32")
        logging.info("The denoiser is in %s", path)
    return path


@dataclasses.dataclass(frozen=True)
class _Run:
    config: config_dict.ConfigDict
    directory: Path
    num_shards: int
    strategy: tf.distribute.Strategy
    stop: Callable[[], bool] | None

    @property
    def chief(self):
        return devices.is_chief(self.strategy)

    def prepare(self, name, identity):
        if self.chief:
            training.prepare_workdir(self.directory / name, identity)

    def fit(self, model, batches, part, crops, validation, **arguments):
        training.fit(
            model,
            batches,
            directory=self.directory / part,
            validation=validation,
            batch_names=crops.names,
            stop=self.stop,
            **self.config[part].training,
            **arguments,
        )

    def fit_pairs(self, network, part, crops, noise, validation):
        """Fits to pairs of clean pictures without and with `noise(images, seed)`."""
        settings = self.config[part]
        batches = noisy_pairs(crops, noise, settings.crops.seed)
        batches = weighted_pairs(batches, **settings.loss)
        with self.strategy.scope():
            scores = {"loss": "mse", "metrics": [metrics.PSNR(data_range=1.0)]}
        self.fit(network, batches, part, crops, validation, **scores)


def _train_unpaired(run):
    config = run.config
    for part in (config.start.training, config.objective.training):
        training.check_steps(part.num_steps, part.steps_per_epoch)
    _check_noise_floor(config.start.loss.noise_floor)
    _check_rehearsal(config)
    with run.strategy.scope():
        prior = denoiser = None
        if config.prior or config.objective.training.num_steps:
            prior = inference.load_prior(config.prior)
            prior.num_shards = run.num_shards
        network = make_network(
            config, prior and prior.channels, pixel_range=config.noisy.pixel_range
        )
        network.num_shards = run.num_shards
        if prior is not None:
            denoiser = UnpairedDenoiser(network, prior, **config.objective.loss)
            _check_crop_size(config.objective.crops.crop_size, prior)
    channels, multiple = network.channels, prior.size_multiple if prior else 1
    validation = _validation(run, network, multiple)
    clean_crops = _crops(config.clean, channels, config.start)
    noisy_crops = _crops(config.noisy, channels, config.objective)
    rehearsed = _rehearsed_pairs(config, channels)
    begun_with = {"denoiser": _digest(config.denoiser)} if config.denoiser else {}
    identity = {"network": config.network.to_dict(), "channels": channels}
    run.prepare("", {**identity, **begun_with})
    if noisy_crops:
        run.prepare("objective", {"prior": _digest(config.prior)})
    if clean_crops:
        logging.info("Start: generic synthetic noise on the clean pictures")
        noise = GenericNoise(**config.start.noise)
        run.fit_pairs(network, "start", clean_crops, noise, validation)
    if noisy_crops:
        logging.info("Objective: the noisy pictures under the prior")
        batches = with_pairs(noisy_crops, rehearsed) if rehearsed else noisy_crops
        run.fit(denoiser, batches, "objective", noisy_crops, validation)
    return network


def _distill(run):
    config = run.config
    part = config.distill.training
    training.check_steps(part.num_steps, part.steps_per_epoch)
    _check_noise_floor(config.distill.loss.noise_floor)
    noise = inference.load_noise(config.noise)
    generate = functools.partial(noise, **config.distill.noise)
    with run.strategy.scope():
        network = make_network(config, noise.channels)
        network.num_shards = run.num_shards
    validation = _validation(run, network, multiple=1)
    crops = _crops(config.clean, noise.channels, config.distill)
    # Without a trained denoiser a new one learns the noise from the beginning.
    start = _digest(config.denoiser) if config.denoiser else config.network.to_dict()
    run.prepare("", {"denoiser": start, "noise": _digest(config.noise)})
    if crops:
        logging.info("Distillation: the learned noise on the clean pictures")
        run.fit_pairs(network, "distill", crops, generate, validation)
    return network


def make_network(
    config: config_dict.ConfigDict, channels: int | None = None, **overrides
) -> ResNetDenoiser:
    """Returns a new network, or a trained one in the precision of `config.network`.

    Args:
      config: As for `train_denoiser`; `denoiser` names the trained one.
      channels: What it must have; None for what the trained one or the clean pictures
        have.
      **overrides: Arguments of ResNetDenoiser beside those of `config.network`.

    Raises:
      ValueError: If `denoiser` holds something else, or other channels.
    """
    if not config.denoiser:
        if channels is None:
            channels = data.open_source(**config.clean, channels=None).channels
        return ResNetDenoiser(channels, **config.network, **overrides)
    trained = inference.load_denoiser(config.denoiser)
    if not isinstance(trained, ResNetDenoiser):
        raise ValueError(
            "denoiser must hold a ResNetDenoiser. "
            f"Received: {config.denoiser!r}, a {type(trained).__name__}."
        )
    if channels not in (None, trained.channels):
        raise ValueError(
            f"denoiser must be one for {channels} channel(s), as the other model is. "
            f"Received: {config.denoiser!r}, for {trained.channels}."
        )
    overrides["precision"] = config.network.precision
    arguments = {**trained.get_config(), **overrides}
    network = ResNetDenoiser.from_config(arguments)
    network.set_weights(trained.get_weights())
    return network


def _digest(model):
    path = Path(inference.find_model(model))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _crops(pool, channels, part, **changes):
    """Returns the crops of a part's pictures, which can all be read, or None."""
    if not part.training.num_steps:
        return None
    source = data.open_source(**pool, channels=channels)
    source.verify()
    return data.RandomCrops(source, **{**part.crops, **changes})


def _rehearses(config):
    part = config.objective
    return part.training.num_steps > 0 and part.loss.rehearsal_weight > 0


def _check_noise_floor(noise_floor):
    if noise_floor is not None and not 0 < noise_floor <= 1:
        raise ValueError(
            "loss.noise_floor must be above 0 and at most 1, or None. "
            f"Received: noise_floor={noise_floor}."
        )


def _check_rehearsal(config):
    if _rehearses(config) and not config.clean.spec:
        raise ValueError(
            "clean.spec must name clean pictures where objective.loss.rehearsal_weight "
            "is above 0; without any, the weight must be 0. Received: "
            f"rehearsal_weight={config.objective.loss.rehearsal_weight}, "
            f"clean.spec={config.clean.spec!r}."
        )


def _rehearsed_pairs(config, channels):
    """Returns the (noisy, clean) batches that go beside the objective, or None."""
    if not _rehearses(config):
        return None
    seed = config.objective.crops.seed + REHEARSAL_SEED
    as_in_the_start = {
        name: config.start.crops[name] for name in ("zoom_range", "contrast_range")
    }
    crops = _crops(
        config.clean, channels, config.objective, seed=seed, **as_in_the_start
    )
    return noisy_pairs(crops, GenericNoise(**config.start.noise), seed)


def noisy_pairs(crops, noise, noise_seed):
    """Returns a function from the first step to (noisy, clean) batches."""

    def batches(first_step):
        def pair(index, images):
            step = first_step + index
            seed = tf.stack([tf.constant(noise_seed, tf.int64), step])
            return noise(images, seed=seed), images

        pairs = crops(first_step).enumerate().map(pair, tf.data.AUTOTUNE)
        return pairs.prefetch(tf.data.AUTOTUNE)

    return batches


def weighted_pairs(pairs, noise_floor):
    """Returns a function from the first step to (noisy, clean, weight) batches.

    The weights [batch, 1, 1], of mean 1, are as 1 / (m + noise_floor^2) with m the mean
    squared difference of the two pictures. What counts is then the share of the noise
    that is left: without weights the strongest decides, and PSNR is a mean over
    pictures in decibels.

    Args:
      pairs: The same to (noisy, clean) ones, as those of `noisy_pairs`.
      noise_floor: In [0, 1] units, above 0; None for the pairs without weights.
    """
    if noise_floor is None:
        return pairs

    def weigh(noisy, clean):
        mse = tf.reduce_mean((noisy - clean) ** 2, axis=(1, 2, 3))
        weights = 1 / (mse + noise_floor**2)
        weights /= tf.reduce_mean(weights)
        return noisy, clean, weights[:, tf.newaxis, tf.newaxis]

    return lambda first_step: pairs(first_step).map(weigh, tf.data.AUTOTUNE)


def with_pairs(noisy_crops, pairs):
    """Returns a function from the first step to ((noisy, synthetic), clean) batches.

    Args:
      noisy_crops: The same to those of noisy pictures.
      pairs: The same to (synthetic, clean) ones, as those of `noisy_pairs`.
    """

    def batches(first_step):
        both = tf.data.Dataset.zip(noisy_crops(first_step), pairs(first_step))
        return both.map(lambda noisy, pair: ((noisy, pair[0]), pair[1]))

    return batches


def _check_crop_size(crop_size, prior):
    if crop_size % prior.size_multiple:
        raise ValueError(
            f"objective.crops.crop_size must be divisible by {prior.size_multiple}, "
            f"the prior's 2**num_levels. Received: crop_size={crop_size}."
        )


def _validation(run, network, multiple):
    """Returns batches of one (noisy, clean), of sizes that `multiple` divides.

    Each replica gets the same picture: none may be left with an empty batch.
    """
    specs, num_replicas = run.config.validation, run.strategy.num_replicas_in_sync
    if not specs.noisy:
        return None
    sources = (
        data.open_source(
            spec, channels=network.channels, pixel_range=network.pixel_range
        )
        for spec in (specs.noisy, specs.clean)
    )

    def cut_and_repeat(*images):
        size = tf.shape(images[0])[:2] // multiple * multiple
        cut = (image[tf.newaxis, : size[0], : size[1]] for image in images)
        return tuple(tf.repeat(image, num_replicas, axis=0) for image in cut)

    return data.paired_images(*sources).map(cut_and_repeat)
