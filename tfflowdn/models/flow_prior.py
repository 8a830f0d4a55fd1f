"""FlowPrior: a normalizing flow as a Keras model."""

from __future__ import annotations

import functools
import inspect
import math

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfflowdn import flows
from tfflowdn.data import check_range
from tfflowdn.devices import map_shards
from tfflowdn.layers import VariationalDequantizer
from tfflowdn.metrics import bits_per_dim
from tfflowdn.models import likelihood

__all__ = ["FLOWS", "FlowPrior", "step_seed"]

FLOWS = {"nice": flows.nice, "real_nvp": flows.real_nvp, "glow": flows.glow}
DEQUANTIZATIONS = ("uniform", "variational", "gaussian", None)


@keras.saving.register_keras_serializable("tfflowdn")
class FlowPrior(keras.Model):
    """The density of clean pictures, learned by maximum likelihood (stage 1).

    A Keras model around one of the flows of `tfflowdn.flows`: `compile`, `fit` on
    images [batch, H, W, C] with pixels in [0, 1], `save` to `.keras` and load. The
    flow is convolutional: images of any size have a density, whatever the size it was
    trained on, an exact one where `size_multiple` divides height and width.

    In training and in validation the pixels are dequantised: a flow on discrete
    values would put infinite density on them (Theis et al. 2016). `log_prob` adds no
    noise: it is the density at the very pixels that it is given.

    On a CPU, small images are faster when the cores share the batch and not each
    operation: set `num_shards` to the number of cores, and have TensorFlow use one
    thread an operation (`tf.config.threading.set_intra_op_parallelism_threads(1)`).
    It is a setting of this process, which is not saved.

    Args:
      flow: "nice", "real_nvp" or "glow".
      image_shape: (H, W, C) of the training crops and, by default, of samples.
      flow_options: Further keyword arguments of the flow's function.
      dequantization: "uniform" (8-bit pixels, each spread over its own 1/255),
        "variational" (the same, spread by a flow that is learned along; loss and
        bits_per_dim are then bounds, see `VariationalDequantizer`), "gaussian" (noise
        of `dequantization_sigma`) or None (continuous data).
      dequantization_sigma: Standard deviation of the Gaussian noise, in [0, 1] units.
      pixel_range: The values of the pictures it learned from that became 0 and 1, see
        `data.check_range`; the prior itself takes images in units of them.
      seed: Seed of the initial weights and of the dequantisation noise.
      trainable: False freezes all of the flow, as does setting it later.

    Raises:
      ValueError: For an unknown flow, dequantization or range, or a shape that the
        flow's squeezes do not divide.
    """

    def __init__(
        self,
        flow: str = "glow",
        image_shape: tuple[int, int, int] = (32, 32, 1),
        *,
        flow_options: dict | None = None,
        dequantization: str | None = "uniform",
        dequantization_sigma: float = 5 / 255,
        pixel_range: str = "dtype",
        seed: int = 0,
        trainable: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        _check_choice("flow", flow, tuple(FLOWS))
        _check_choice("dequantization", dequantization, DEQUANTIZATIONS)
        self.flow = flow
        self.image_shape = tuple(image_shape)
        self.flow_options = dict(flow_options or {})
        self.dequantization = dequantization
        self.dequantization_sigma = dequantization_sigma
        self.pixel_range = check_range(pixel_range)
        self.seed = seed
        self.num_shards = 1
        self.distribution = FLOWS[flow](
            self.image_shape,
            seed=seed,
            dtype=self.variable_dtype,
            **self.flow_options,
        )
        self.flow_layers = flows.layers_of(self.distribution.bijector)
        self.dequantizer = None
        if dequantization == "variational":
            self.dequantizer = VariationalDequantizer(
                seed=seed, dtype=self.variable_dtype
            )
            self.dequantizer.build((None, *self.image_shape))
        self.loss_tracker = keras.metrics.Mean("loss")
        self.bits_per_dim_tracker = keras.metrics.Mean("bits_per_dim")
        self.gradient_norm_tracker = keras.metrics.Mean("gradient_norm")
        self._shard_log_prob = tf.function(
            lambda _, images: self._log_prob(images), reduce_retracing=True
        )
        self._shard_forward = tf.function(
            lambda _, latents: self.distribution.bijector.forward(latents),
            reduce_retracing=True,
        )
        self._traced_log_prob = tf.function(
            lambda _, images: self._sharded_log_prob(images), reduce_retracing=True
        )
        self._traced_latents = tf.function(self._latents, reduce_retracing=True)
        self._traced_forward = tf.function(
            lambda _, latents: self._map_shards(self._shard_forward, latents),
            reduce_retracing=True,
        )
        self.built = True
        self.trainable = trainable  # Last: it reaches the layers made above.

    @property
    def channels(self) -> int:
        """Number of channels of the images."""
        return self.image_shape[-1]

    @property
    def size_multiple(self) -> int:
        """The least height and width; multiples of it have an exact density."""
        default = inspect.signature(FLOWS[self.flow]).parameters["num_levels"].default
        return 2 ** self.flow_options.get("num_levels", default)

    @property
    def initialized(self) -> bool:
        """Whether every ActNorm was set from data."""
        flags = [w for w in self.weights if w.name.endswith("initialized")]
        return all(np.all(flag) for flag in flags)

    def initialize(self, images) -> None:
        """Sets every ActNorm from a batch of images [batch, H, W, C], dequantised.

        `fit` does so with its first batch; a reload keeps it.
        """
        images = tf.convert_to_tensor(images, self.compute_dtype)
        self.check_images(images, divisible=True)
        images = self.dequantize(images, seed=[self.seed, -1])
        flows.initialize_from_data(self.distribution.bijector, images)

    def log_prob(self, images) -> tf.Tensor:
        """Returns the log-density of each image, in nats, [batch].

        Exact where `size_multiple` divides H and W; elsewhere the mean over the largest
        such windows in the corners, scaled to the image's number of dimensions, see
        `likelihood.log_prob_of_any_size`.

        Args:
          images: [batch, H, W, C] with pixels in [0, 1]; H and W at least
            `size_multiple`.

        Raises:
          ValueError: If rank or channels do not fit, or images are smaller.
        """
        images = tf.convert_to_tensor(images, self.compute_dtype)
        self.check_images(images)
        multiple = self.size_multiple
        # Several windows share one trace; one alone is part of the caller's graph.
        alone = likelihood.is_divisible(images.shape, multiple)
        if alone and not tf.executing_eagerly():
            log_prob = self._sharded_log_prob
        else:
            # A trace knows its shards, and whether it owes a gradient to the weights.
            log_prob = functools.partial(
                self._traced_log_prob, (self.num_shards, self.trainable)
            )
        return likelihood.log_prob_of_any_size(log_prob, images, multiple)

    def bits_per_dim(self, images) -> tf.Tensor:
        """Returns the bits/dim, as 8-bit data, of images [batch, H, W, C], [batch]."""
        images = tf.convert_to_tensor(images, self.compute_dtype)
        return bits_per_dim(self.log_prob(images), _num_dims(images))

    def likelihood_map(self, image, **options) -> np.ndarray:
        """Returns the bits/dim around every pixel, see `likelihood.likelihood_map`."""
        return likelihood.likelihood_map(self, image, **options)

    def sample(
        self,
        num_samples: int,
        temperature: float = 1.0,
        seed: int | None = None,
        image_shape: tuple[int, int, int] | None = None,
    ) -> tf.Tensor:
        """Draws images.

        Args:
          num_samples: Number of images.
          temperature: Factor on the latents' standard deviation.
          seed: Seed of the latents; None draws anew.
          image_shape: (H, W, C) of the images; by default that of the training.

        Returns:
          Images [num_samples, H, W, C], not clipped to [0, 1].
        """
        image_shape = tuple(image_shape or self.image_shape)
        self.check_images(tf.TensorSpec((None, *image_shape)), divisible=True)
        seed = None if seed is None else tf.constant([seed, 0])
        temperature = tf.cast(temperature, self.compute_dtype)
        num_samples = tf.convert_to_tensor(num_samples)
        latents = self._traced_latents(num_samples, image_shape, temperature, seed)
        return self._traced_forward(self.num_shards, latents)

    def call(self, images, training=None):
        """Returns `log_prob(images)`, [batch]."""
        del training
        return self.log_prob(images)

    def fit(self, x=None, y=None, **kwargs):
        """Trains on images or on a dataset of batches, see `keras.Model.fit`."""
        if x is not None and not self.initialized:
            self.initialize(_first_batch(x, kwargs.get("batch_size") or 32))
        if self.compiled:
            # Slots made inside of the step would have it traced twice.
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)
        return super().fit(x, y, **kwargs)

    def train_step(self, data):
        """One step of maximum likelihood: minimises nats per dimension."""
        images = keras.utils.unpack_x_y_sample_weight(data)[0]
        seed = step_seed(self.seed, self.optimizer)
        variables = self.trainable_variables
        with tf.GradientTape() as tape:
            log_prob = self._dequantized_log_prob(images, seed)
            loss = -tf.reduce_mean(log_prob) / _num_dims(images, log_prob.dtype)
            # Gradients are summed over the replicas.
            num_replicas = tf.distribute.get_strategy().num_replicas_in_sync
            replica_loss = loss / num_replicas
        gradients = tape.gradient(replica_loss, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        self.gradient_norm_tracker.update_state(
            tf.linalg.global_norm(gradients) * num_replicas
        )
        return self._update_likelihood(images, log_prob)

    def test_step(self, data):
        """Updates loss and bits_per_dim, with dequantisation noise of a fixed seed."""
        images = keras.utils.unpack_x_y_sample_weight(data)[0]
        log_prob = self._dequantized_log_prob(images, [self.seed, -1])
        logs = self._update_likelihood(images, log_prob)
        return {name: logs[name] for name in ("loss", "bits_per_dim")}

    def dequantize(self, images, seed) -> tf.Tensor:
        """Adds dequantisation noise to images [batch, H, W, C]; `seed` is two ints."""
        return self._dequantize(images, seed)[0]

    def check_images(self, images, divisible: bool = False) -> None:
        """Raises ValueError unless images are [batch, H, W, C] that the flow takes.

        With `divisible`, `size_multiple` must divide H and W; else it is the least.
        """
        shape, multiple = tuple(images.shape), self.size_multiple
        if len(shape) != 4 or shape[-1] != self.channels:
            raise ValueError(
                f"images must be [batch, H, W, {self.channels}] for this prior. "
                f"Received: images.shape={shape}."
            )
        if any(size is not None and size < multiple for size in shape[1:3]):
            raise ValueError(
                f"The height and width of images must be at least {multiple} for this "
                f"prior. Received: images.shape={shape}."
            )
        if divisible and any(
            size is not None and size % multiple for size in shape[1:3]
        ):
            raise ValueError(
                f"The height and width of images must be divisible by {multiple} here. "
                f"Received: images.shape={shape}."
            )

    def get_config(self):
        """Returns the constructor's arguments."""
        config = {
            "flow": self.flow,
            "image_shape": self.image_shape,
            "flow_options": self.flow_options,
            "dequantization": self.dequantization,
            "dequantization_sigma": self.dequantization_sigma,
            "pixel_range": self.pixel_range,
            "seed": self.seed,
        }
        return {**super().get_config(), **config}

    def _latents(self, num_samples, image_shape, temperature, seed):
        return temperature * self._base(image_shape).sample(num_samples, seed)

    def _log_prob(self, images):
        images = tf.identity(images)  # A new tensor: TFP's cache must not answer.
        shape = images.shape[1:]
        if not shape.is_fully_defined():
            shape = tf.shape(images)[1:]
        base = self._base(shape)
        return tfd.TransformedDistribution(
            base, self.distribution.bijector, name="density"
        ).log_prob(images)

    def _sharded_log_prob(self, images):
        if self.num_shards == 1:
            return self._log_prob(images)
        return self._map_shards(self._shard_log_prob, images)

    def _map_shards(self, function, batch):
        function = functools.partial(function, self.trainable)
        return map_shards(function, batch, self.num_shards)

    def _base(self, image_shape):
        base = flows.BASES[self.flow_options.get("base", "normal")]
        return base(image_shape, self.compute_dtype)

    def _dequantized_log_prob(self, images, seed):
        """Returns log p(x + u) - log q(u | x), [batch], with q = 1 for fixed noise."""
        images, log_q = self._dequantize(images, seed)
        return self.log_prob(images) - log_q

    def _dequantize(self, images, seed):
        """Returns images with noise, and the noise's learned log-density or 0."""
        images = tf.cast(images, self.compute_dtype)
        shape, log_q = tf.shape(images), tf.zeros([], images.dtype)
        if self.dequantization is None:
            return images, log_q
        if self.dequantization == "gaussian":
            noise = tf.random.stateless_normal(shape, seed, dtype=images.dtype)
            noise = tf.ensure_shape(noise, images.shape)
            return images + self.dequantization_sigma * noise, log_q
        noise = tf.random.stateless_uniform(shape, seed, -0.5, 0.5, images.dtype)
        noise = tf.ensure_shape(noise, images.shape)
        if self.dequantizer is not None:
            # Stage 2 moves the pixels, not the noise that is drawn for them.
            noise, log_det = self.dequantizer(tf.stop_gradient(images), noise)
            log_q = -log_det
        return images + noise / 255, log_q

    def _update_likelihood(self, images, log_prob):
        bits = bits_per_dim(log_prob, _num_dims(images, log_prob.dtype))
        self.bits_per_dim_tracker.update_state(bits)
        self.loss_tracker.update_state((bits - 8) * math.log(2))
        return {metric.name: metric.result() for metric in self.metrics}


def step_seed(seed: int, optimizer: keras.optimizers.Optimizer) -> list:
    """Returns two ints, a stateless seed of its own for each step and each replica."""
    context = tf.distribute.get_replica_context()
    replica = tf.cast(context.replica_id_in_sync_group, tf.int32)
    return [seed + replica, tf.cast(optimizer.iterations, tf.int32)]


def _num_dims(images, dtype=tf.float32):
    return tf.cast(tf.reduce_prod(tf.shape(images)[1:]), dtype)


def _first_batch(x, batch_size):
    if isinstance(x, tf.data.Dataset | tf.distribute.DistributedDataset):
        x = next(iter(x))
    elif hasattr(x, "shape"):
        x = x[:batch_size]
    else:
        x = x[0]
    return x[0] if isinstance(x, tuple | list) else x


def _check_choice(name, value, choices):
    if value not in choices:
        raise ValueError(
            f"{name} must be one of {choices}. Received: {name}={value!r}."
        )
