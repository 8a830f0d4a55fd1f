"""The parts that the stages of one training share."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from ml_collections import config_dict

from tfflowdn import data, devices, inference, metrics, models
from tfflowdn.models import DenoisingNetwork, FlowPrior
from tfflowdn.noise import NoiseModel
from tfflowdn.stages.pairs import Batches, noisy_pairs, weighted_pairs
from tfflowdn.stages.pictures import check_given, open_pictures

__all__ = ["Run", "Work"]


@dataclasses.dataclass(frozen=True)
class Work:
    """The work of a stage: the model that it trains, and the batches.

    Attributes:
      model: A Keras model that trains the run's network, or the network itself.
      batches: Gives the endless dataset that begins at a step.
      names: Gives the names of the pictures in the batch of a step.
      identity: The files that a run must not exchange when it continues, as JSON types.
      compile_options: `loss` and `metrics`, for a model without a `train_step`.
    """

    model: keras.Model
    batches: Batches
    names: Callable[[int], Sequence[str]]
    identity: dict[str, Any] = dataclasses.field(default_factory=dict)
    compile_options: dict[str, Any] = dataclasses.field(default_factory=dict)


class Run:
    """The network, the models and the pictures of a training, each opened once.

    Args:
      config: The configuration, see `train_denoiser`.
      num_shards: Parts of a batch that run in parallel, see FlowPrior.
      strategy: The devices; by default the current strategy.
    """

    def __init__(
        self,
        config: config_dict.ConfigDict,
        num_shards: int = 1,
        strategy: tf.distribute.Strategy | None = None,
    ):
        self.config = config
        self.num_shards = num_shards
        self.strategy = strategy or tf.distribute.get_strategy()
        self._pools = {}

    @functools.cached_property
    def prior(self) -> FlowPrior:
        """The prior that `config.prior` names."""
        reason = "the objective needs a prior"
        check_given("prior", self.config.prior, "PRIOR.keras", reason)
        with self.strategy.scope():
            prior = inference.load_prior(self.config.prior)
        prior.num_shards = self.num_shards
        return prior

    @functools.cached_property
    def noise(self) -> NoiseModel:
        """The learned noise that `config.noise` names."""
        reason = "the stage needs a noise model"
        check_given("noise", self.config.noise, "NOISE.keras", reason)
        return inference.load_noise(self.config.noise)

    @functools.cached_property
    def network(self) -> DenoisingNetwork:
        """The network to train, from `config.denoiser` or new.

        It keeps the pixel range of the noisy pictures. A trained network keeps its own
        range when the configuration says nothing about noisy pictures.
        """
        options = {"pixel_range": self._pixel_range}
        trained = self._trained
        with self.strategy.scope():
            if trained is None:
                network = models.make_network(
                    self.channels, **self.config.network, **options
                )
            else:
                options["precision"] = self.config.network.precision
                network = type(trained).from_config({**trained.get_config(), **options})
                network.set_weights(trained.get_weights())
        network.num_shards = self.num_shards
        return network

    @property
    def is_new(self) -> bool:
        """Whether the network starts with random weights."""
        return self._trained is None

    @functools.cached_property
    def channels(self) -> int:
        """Channels of the network and of all pictures, 1 or 3.

        The prior, the noise model and the trained denoiser must agree. If none of them
        is given, the clean pictures decide, and without these the noisy ones.

        Raises:
          ValueError: If the models do not agree.
        """
        config = self.config
        known = [self.prior.channels] if config.prior else []
        known += [self.noise.channels] if config.noise else []
        if self._trained is not None:
            channels = self._trained.channels
            if known and channels != known[0]:
                raise ValueError(
                    f"denoiser must be one for {known[0]} channel(s), like the other "
                    f"model. Received: {config.denoiser!r}, for {channels}."
                )
            known.append(channels)
        if len(set(known)) > 1:
            raise ValueError(
                "prior and noise must have the same number of channels. "
                f"Received: {config.prior!r}, {config.noise!r}, for {known}."
            )
        if known:
            return known[0]
        only_noisy = config.noisy.spec and not config.clean.spec
        return self._open("noisy" if only_noisy else "clean", None).channels

    @functools.cached_property
    def validation(self) -> tf.data.Dataset | None:
        """Batches of one (noisy, clean), or None if there are no validation pictures.

        Their sizes are multiples of the prior's `size_multiple`. Each replica gets the
        same picture, because no replica may have an empty batch.
        """
        specs, num_replicas = self.config.validation, self.strategy.num_replicas_in_sync
        if not specs.noisy:
            return None
        multiple = self.prior.size_multiple if self.config.prior else 1
        network = self.network
        check_given(
            "validation.clean", specs.clean, "PICTURES", "validation.noisy is given"
        )
        sources = [
            data.open_source(
                specs[name],
                channels=network.channels,
                pixel_range=network.pixel_range,
                axes=self.config[name].axes,
                percentiles_by=self.config[name].percentiles_by,
            )
            for name in ("noisy", "clean")
        ]
        for source in sources:
            source.verify()

        def cut_and_repeat(*images: tf.Tensor) -> tuple[tf.Tensor, ...]:
            size = tf.shape(images[0])[:2] // multiple * multiple
            cut = (image[tf.newaxis, : size[0], : size[1]] for image in images)
            return tuple(tf.repeat(image, num_replicas, axis=0) for image in cut)

        return data.paired_images(*sources, cut=True).map(cut_and_repeat)

    @property
    def identity(self) -> dict[str, Any]:
        """The values that make this run another run, as JSON types."""
        identity = {
            "network": self.config.network.to_dict(),
            "channels": self.channels,
        }
        if self.config.denoiser:
            identity["denoiser"] = self.digest("denoiser")
        return identity

    def pictures(self, name: str) -> data.PicturePool:
        """Returns the decoded pictures of `config.clean` or `config.noisy`.

        They are opened, checked and decoded at the first call only.
        """
        pool = self._open(name, self.channels)
        pool.verify()
        return pool

    def opened(self, name: str) -> data.PicturePool | None:
        """Returns the pictures that `pictures` has opened; None if no stage did."""
        return self._pools.get(name)

    def digest(self, key: str) -> str:
        """Returns the hash of the file of a model that `config[key]` names."""
        path = Path(inference.find_model(self.config[key]))
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def pair_work(
        self,
        section: config_dict.ConfigDict,
        noise: Callable[..., tf.Tensor],
        identity: dict[str, Any] | None = None,
    ) -> Work:
        """Returns the work of training on clean pictures with noise added.

        Args:
          section: The stage's section, with `crops` and `loss` (`weighted_pairs`).
          noise: `noise(images, seed=seed)` returns the noisy pictures.
          identity: See `Work`.
        """
        crops = data.RandomCrops(self.pictures("clean"), **section.crops)
        pairs = noisy_pairs(crops, noise, section.crops.seed)
        pairs = weighted_pairs(pairs, **section.loss)
        with self.strategy.scope():
            scores = {"loss": "mse", "metrics": [metrics.PSNR(data_range=1.0)]}
        return Work(self.network, pairs, crops.names, identity or {}, scores)

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the outputs."""
        return devices.is_chief(self.strategy)

    @functools.cached_property
    def _trained(self) -> DenoisingNetwork | None:
        if not self.config.denoiser:
            return None
        with self.strategy.scope():
            trained = inference.load_denoiser(self.config.denoiser)
        if not isinstance(trained, DenoisingNetwork):
            raise ValueError(
                "denoiser must hold a DenoisingNetwork. "
                f"Received: {self.config.denoiser!r}, a {type(trained).__name__}."
            )
        return trained

    @property
    def _pixel_range(self) -> str:
        noisy = self.config.noisy
        says_nothing = not noisy.spec and noisy.pixel_range == "dtype"
        if self._trained is not None and says_nothing:
            return self._trained.pixel_range
        return noisy.pixel_range

    def _open(self, name: str, channels: int | None) -> data.PicturePool:
        if name not in self._pools:
            source = open_pictures(self.config, name, channels)
            self._pools[name] = data.PicturePool(source)
        return self._pools[name]
