"""Evaluates a flow on images of any size, in parts that run in parallel."""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfflowdn.bijectors import ImageBijector
from tfflowdn.devices import map_shards
from tfflowdn.models import likelihood

__all__ = ["FlowDensity", "check_images"]


class FlowDensity:
    """The density and the samples of a flow.

    The methods take `num_shards`, the parts of a batch, and `trainable`. Both are fixed
    in a traced function: the number of its parts, and whether the weights need a
    gradient.

    Args:
      distribution: A TransformedDistribution of images with an ImageBijector.
      image_shape: (H, W, C) of the images that the flow was made for.

    Raises:
      ValueError: If the bijector is of another kind, or its squeezes do not divide
        `image_shape`.
    """

    def __init__(
        self,
        distribution: tfd.TransformedDistribution,
        image_shape: tuple[int, int, int],
    ) -> None:
        self._distribution = distribution
        self.size_multiple = _size_multiple(distribution, image_shape)
        traced = functools.partial(tf.function, reduce_retracing=True)
        self._shard_log_prob = traced(lambda _, images: self._log_prob(images))
        self._shard_forward = traced(
            lambda _, latents: self._distribution.bijector.forward(latents)
        )
        self._traced_log_prob = traced(self._sharded_log_prob)
        self._traced_latents = traced(self._latents)
        self._traced_forward = traced(self._sharded_forward)

    def log_prob(
        self, images: tf.Tensor, *, num_shards: int = 1, trainable: bool = True
    ) -> tf.Tensor:
        """Returns the log-density of images [batch, H, W, C], in nats, [batch].

        See `likelihood.log_prob_of_any_size` for sizes that `size_multiple` does not
        divide.
        """
        multiple = self.size_multiple
        # Several windows share one trace; one window is part of the caller's graph.
        is_one = likelihood.is_divisible(images.shape, multiple)
        if is_one and not tf.executing_eagerly():
            function = self._sharded_log_prob
        else:
            function = self._traced_log_prob
        log_prob = functools.partial(function, (num_shards, trainable))
        return likelihood.log_prob_of_any_size(log_prob, images, multiple)

    def sample(
        self,
        num_samples: tf.Tensor,
        image_shape: tuple[int, int, int],
        *,
        temperature: tf.Tensor,
        seed: tf.Tensor | None = None,
        num_shards: int = 1,
        trainable: bool = True,
    ) -> tf.Tensor:
        """Draws images, [num_samples, *image_shape].

        Args:
          num_samples: Number of images, 0 or more.
          image_shape: (H, W, C) of the images; `size_multiple` divides H and W.
          temperature: Factor on the standard deviation of the latents.
          seed: Two ints, or None to draw anew.
          num_shards: Parts of the batch.
          trainable: Whether the weights of the flow are trainable.
        """
        # Some operations give an empty batch another shape.
        count = tf.maximum(num_samples, 1)
        latents = self._traced_latents(count, image_shape, temperature, seed)
        return self._traced_forward((num_shards, trainable), latents)[:num_samples]

    def _latents(self, num_samples, image_shape, temperature, seed):
        return temperature * self._base(image_shape).sample(num_samples, seed)

    def _log_prob(self, images):
        images = tf.identity(images)  # A new tensor: TFP's cache must not answer.
        shape = images.shape[1:]
        if not shape.is_fully_defined():
            shape = tf.shape(images)[1:]
        base = self._base(shape)
        return tfd.TransformedDistribution(
            base, self._distribution.bijector, name="density"
        ).log_prob(images)

    def _sharded_log_prob(self, settings, images):
        num_shards, trainable = settings
        if num_shards == 1:
            return self._log_prob(images)
        function = functools.partial(self._shard_log_prob, trainable)
        return map_shards(function, images, num_shards)

    def _sharded_forward(self, settings, latents):
        num_shards, trainable = settings
        function = functools.partial(self._shard_forward, trainable)
        return map_shards(function, latents, num_shards)

    def _base(self, image_shape):
        """Returns the base distribution of latents of another size."""
        base = self._distribution.distribution
        pixels = base.distribution
        zeros = tf.zeros(image_shape, pixels.dtype)
        return base.copy(distribution=pixels.copy(loc=zeros))


def check_images(
    images: Any, channels: int, multiple: int, divisible: bool = False
) -> None:
    """Checks that images are [batch, H, W, channels] of at least `multiple` pixels.

    Args:
      images: A tensor, an array or a tf.TensorSpec.
      channels: Number of channels.
      multiple: The least height and width.
      divisible: Whether `multiple` must divide height and width.

    Raises:
      ValueError: If they are not.
    """
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[-1] != channels:
        raise ValueError(
            f"images must be [batch, H, W, {channels}] for this prior. "
            f"Received: images.shape={shape}."
        )
    if any(size is not None and size < multiple for size in shape[1:3]):
        raise ValueError(
            f"The height and width of images must be at least {multiple} for this "
            f"prior. Received: images.shape={shape}."
        )
    if divisible and any(size is not None and size % multiple for size in shape[1:3]):
        raise ValueError(
            f"The height and width of images must be divisible by {multiple} here. "
            f"Received: images.shape={shape}."
        )


def _size_multiple(distribution, image_shape):
    """Returns the least power of two that may be the height and width of an image."""
    bijector, channels = distribution.bijector, image_shape[-1]
    if not isinstance(bijector, ImageBijector):
        raise ValueError(
            "The bijector of a flow must be an ImageBijector, such as bijectors.Chain. "
            f"Received: bijector={bijector!r}."
        )
    size = 1
    while size <= max(image_shape):
        try:
            bijector.inverse_event_shape((size, size, channels))
        except ValueError:  # A squeeze refuses an odd size.
            size *= 2
        else:
            return size
    raise ValueError(
        f"The flow must take images of image_shape. Received: {image_shape=}."
    )
