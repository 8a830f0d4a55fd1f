"""FlowPrior: a normalizing flow as a Keras model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfflowdn.checks import check_choice, check_finite_result
from tfflowdn.data import check_range
from tfflowdn.flows import FLOWS, flow_name
from tfflowdn.metrics import bits_per_dim
from tfflowdn.models import likelihood
from tfflowdn.models.dequantization import DEQUANTIZATIONS, dequantize, step_seed
from tfflowdn.models.flow_density import FlowDensity, check_images
from tfflowdn.models.guarded_model import GuardedModel, only_if
from tfflowdn.models.peek import first_batch
from tfflowdn.models.units import (
    asserts_as_value_errors,
    check_floats,
    check_not_negative,
    finite_pictures,
)

__all__ = ["FLOWS", "FlowPrior"]


@keras.saving.register_keras_serializable("tfflowdn")
class FlowPrior(GuardedModel):
    """The density of clean pictures, learned by maximum likelihood (stage 1).

    A Keras model around one of the flows of `tfflowdn.flows`: `compile`, `fit` on
    images [batch, H, W, C] with pixels in [0, 1], `save` to `.keras` and load. The
    flow is convolutional, so images of any size have a density, also other sizes than
    in training. It is exact where `size_multiple` divides height and width.

    In training and in validation the pixels are dequantized: a flow on discrete
    values would put infinite density on them (Theis et al. 2016). `log_prob` adds no
    noise: it is the density at the given pixels.

    On a CPU, small images are faster when the cores share the batch and not each
    operation. Set `num_shards` to the number of cores, and let TensorFlow use one
    thread for each operation
    (`tf.config.threading.set_intra_op_parallelism_threads(1)`). These settings belong
    to the process and are not saved.

    Args:
      flow: Name in `flows.FLOWS`: "nice", "real_nvp", "glow" or your own. Or a
        function as described in `tfflowdn.flows`; to save the prior, it must be in
        `FLOWS`, also when the file is loaded.
      image_shape: (H, W, C) of the training crops and, by default, of samples.
      flow_options: Keyword arguments of the flow, for the flows of this package the
        fields of `flows.FlowOptions`.
      dequantization: "uniform" (8-bit pixels, each spread over its own 1/255),
        "gaussian" (noise of `dequantization_sigma`) or None (continuous data).
      dequantization_sigma: Standard deviation of the Gaussian noise, in [0, 1] units.
      pixel_range: The values of the pictures it learned from that became 0 and 1, see
        `data.check_range`; the prior itself takes images in units of them.
      seed: Seed of the initial weights and of the dequantization noise.
      trainable: False freezes all of the flow, as does setting it later.

    Raises:
      ValueError: For an unknown flow, dequantization or range, or a shape that the
        flow's squeezes do not divide.
    """

    def __init__(
        self,
        flow: str | Callable[..., tfd.TransformedDistribution] = "glow",
        image_shape: tuple[int, int, int] = (32, 32, 1),
        *,
        flow_options: dict | None = None,
        dequantization: str | None = "uniform",
        dequantization_sigma: float = 5 / 255,
        pixel_range: str = "dtype",
        seed: int = 0,
        trainable: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not callable(flow):
            check_choice("flow", flow, FLOWS)
        check_choice("dequantization", dequantization, DEQUANTIZATIONS)
        self.flow = flow
        self.image_shape = tuple(image_shape)
        self.flow_options = dict(flow_options or {})
        self.dequantization = dequantization
        self.dequantization_sigma = dequantization_sigma
        self.pixel_range = check_range(pixel_range)
        self.seed = seed
        self.num_shards = 1
        make_flow = flow if callable(flow) else FLOWS[flow]
        self.distribution = make_flow(
            self.image_shape,
            seed=seed,
            dtype=self.variable_dtype,
            **self.flow_options,
        )
        self._density = FlowDensity(self.distribution, self.image_shape)
        self.size_multiple = self._density.size_multiple
        self.flow_layers = self.distribution.bijector.layers
        self.loss_tracker = keras.metrics.Mean("loss")
        self.bits_per_dim_tracker = keras.metrics.Mean("bits_per_dim")
        self.gradient_norm_tracker = keras.metrics.Mean("gradient_norm")
        self.built = True
        self.trainable = trainable  # Last: it reaches the layers made above.

    @property
    def channels(self) -> int:
        """Number of channels of the images."""
        return self.image_shape[-1]

    @property
    def initialized(self) -> bool:
        """Whether every ActNorm was set from data."""
        flags = [w for w in self.weights if w.name.endswith("initialized")]
        return all(np.all(flag) for flag in flags)

    def initialize(self, images: Any) -> None:
        """Sets every ActNorm from a batch of images [batch, H, W, C], dequantized.

        `fit` does so with its first batch; a reload keeps it. Pictures with pixels that
        are not finite are left out.

        Raises:
          ValueError: If the images do not fit or are not in [0, 1] units, or none is
            finite.
        """
        with asserts_as_value_errors():
            images = self.to_pictures(images)
        self.check_images(images, divisible=True)
        images = finite_pictures(images)
        images = self.dequantize(images, seed=[self.seed, -1])
        self.distribution.bijector.initialize(images)

    def log_prob(self, images: Any) -> tf.Tensor:
        """Returns the log-density of each image, in nats, [batch].

        Exact where `size_multiple` divides H and W; elsewhere the mean over the largest
        such windows in the corners, scaled to the image's number of dimensions, see
        `likelihood.log_prob_of_any_size`.

        Args:
          images: [batch, H, W, C] with pixels in [0, 1]; H and W at least
            `size_multiple`.

        Raises:
          ValueError: If rank or channels do not fit, images are smaller or integers, or
            finite images have a density that is not finite (a graph returns it).
        """
        images = self._to_floats(images)
        self.check_images(images)
        if images.shape[0] == 0:
            return tf.zeros((0,), images.dtype)
        log_prob = self._density.log_prob(
            images, num_shards=self.num_shards, trainable=self.trainable
        )
        if tf.executing_eagerly():
            likelihood.check_finite(images, log_prob)
        return log_prob

    def bits_per_dim(self, images: Any) -> tf.Tensor:
        """Returns the bits/dim, as 8-bit data, of images [batch, H, W, C], [batch]."""
        images = self._to_floats(images)
        return bits_per_dim(self.log_prob(images), _num_dims(images))

    def likelihood_map(self, image: Any, **options: Any) -> np.ndarray:
        """Returns the bits/dim around every pixel, see `likelihood.likelihood_map`."""
        check_floats(image)
        return likelihood.likelihood_map(self, image, **options)

    def sample(
        self,
        num_samples: int,
        temperature: float = 1.0,
        seed: int | None = None,
        image_shape: tuple[int, int, int] | None = None,
        allow_nonfinite: bool = False,
    ) -> tf.Tensor:
        """Draws images.

        Args:
          num_samples: Number of images, 0 or more.
          temperature: Factor on the latents' standard deviation, 0 or more.
          seed: Seed of the latents; None draws anew.
          image_shape: (H, W, C) of the images; by default as in the training.
          allow_nonfinite: Whether pixels that are not finite are returned.

        Returns:
          Images [num_samples, H, W, C], not clipped to [0, 1].

        Raises:
          ValueError: If the shape or a number is not valid, or a pixel is not finite
            (the temperature is too high, or a weight is not finite). In a graph, the
            last two are a tf.errors.InvalidArgumentError.
        """
        num_samples = check_not_negative(
            "num_samples", tf.convert_to_tensor(num_samples)
        )
        temperature = tf.cast(temperature, self.variable_dtype)
        temperature = check_not_negative("temperature", temperature)
        image_shape = tuple(image_shape or self.image_shape)
        self.check_images(tf.TensorSpec((None, *image_shape)), divisible=True)
        seed = None if seed is None else tf.constant([seed, 0])
        images = self._density.sample(
            num_samples,
            image_shape,
            temperature=temperature,
            seed=seed,
            num_shards=self.num_shards,
            trainable=self.trainable,
        )
        return images if allow_nonfinite else _finite_samples(images)

    def call(self, images: Any, training: bool | None = None) -> tf.Tensor:
        """Returns `log_prob(images)`, [batch]."""
        del training
        return self.log_prob(images)

    def fit(
        self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any
    ) -> keras.callbacks.History:
        """Trains on images or on a dataset of batches, see `keras.Model.fit`."""
        if x is not None and not self.initialized:
            batch_size = (args[0] if args else kwargs.get("batch_size")) or 32
            images, x = first_batch(x, batch_size, self.distribute_strategy)
            self.initialize(images)
        return super().fit(x, y, *args, **kwargs)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Takes one step of maximum likelihood: minimizes nats per dimension."""
        images, _, weight = keras.utils.unpack_x_y_sample_weight(data)
        images, weight = self.to_pictures(images), self.to_weights(weight)
        seed = step_seed(self.seed, self.optimizer)
        variables = self.trainable_variables
        # Gradients are summed over the replicas.
        num_replicas = tf.distribute.get_strategy().num_replicas_in_sync
        factor = self.scale() / num_replicas
        with tf.GradientTape() as tape:
            log_prob = self._dequantized_log_prob(images, seed)
            nats = -weight * log_prob / _num_dims(images, log_prob.dtype)
            loss = factor * tf.reduce_mean(nats)
        gradients = tape.gradient(loss, variables)
        finite = self.take_step(gradients, variables)
        self.gradient_norm_tracker.update_state(
            *only_if(finite, tf.linalg.global_norm(gradients) / factor)
        )
        logs = self._update_likelihood(images, log_prob, weight, finite)
        logs["gradient_norm"] = self.gradient_norm_tracker.result()
        return {**logs, "skipped": self.skipped()}

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Updates loss and bits_per_dim, with dequantization noise of a fixed seed."""
        images, _, weight = keras.utils.unpack_x_y_sample_weight(data)
        images, weight = self.to_pictures(images), self.to_weights(weight)
        log_prob = self._dequantized_log_prob(images, [self.seed, -1])
        return self._update_likelihood(images, log_prob, weight)

    def dequantize(self, images: Any, seed: Any) -> tf.Tensor:
        """Adds dequantization noise to images [batch, H, W, C]; `seed` is two ints."""
        images = self._to_floats(images)
        sigma = self.dequantization_sigma
        return dequantize(images, seed, self.dequantization, sigma)

    def check_images(self, images: Any, divisible: bool = False) -> None:
        """Checks that images are [batch, H, W, C] with a size that the flow takes.

        With `divisible`, `size_multiple` must divide H and W; else it is the least.

        Raises:
          ValueError: If they are not.
        """
        check_images(images, self.channels, self.size_multiple, divisible)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, a flow by its name in `FLOWS`."""
        config = {
            "flow": flow_name(self.flow),
            "image_shape": self.image_shape,
            "flow_options": self.flow_options,
            "dequantization": self.dequantization,
            "dequantization_sigma": self.dequantization_sigma,
            "pixel_range": self.pixel_range,
            "seed": self.seed,
        }
        return {**super().get_config(), **config}

    def _to_floats(self, images: Any) -> tf.Tensor:
        """Returns images of floats in `variable_dtype`.

        Raises:
          ValueError: If they are integers, which are not in [0, 1] units.
        """
        return tf.cast(check_floats(images), self.variable_dtype)

    def _dequantized_log_prob(self, images, seed):
        return self.log_prob(self.dequantize(images, seed))

    def _update_likelihood(self, images, log_prob, weight, finite=True):
        bits = bits_per_dim(log_prob, _num_dims(images, log_prob.dtype))
        bits, weight = only_if(finite, bits, weight)
        self.bits_per_dim_tracker.update_state(bits, weight)
        self.loss_tracker.update_state((bits - 8) * math.log(2), weight)
        trackers = self.loss_tracker, self.bits_per_dim_tracker
        return {tracker.name: tracker.result() for tracker in trackers}


def _finite_samples(images: tf.Tensor) -> tf.Tensor:
    """Returns images; an error if a pixel is not finite, in a graph by an assertion."""
    cause = "the temperature must be low enough, and the weights of the prior finite"
    if not tf.executing_eagerly():
        return tf.debugging.check_numerics(
            images, f"The samples must be finite; {cause}"
        )
    check_finite_result("samples", cause, images)
    return images


def _num_dims(images, dtype=tf.float32):
    return tf.cast(tf.reduce_prod(tf.shape(images)[1:]), dtype)
