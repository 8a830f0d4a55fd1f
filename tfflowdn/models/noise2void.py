"""Noise2Void: trains a network on noisy pictures only, by blind spots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfflowdn.checks import check_choice
from tfflowdn.metrics import PSNR
from tfflowdn.models.dequantization import step_seed
from tfflowdn.models.guarded_model import GuardedModel, only_if
from tfflowdn.models.losses import estimate_noise_sigma

__all__ = ["REPLACEMENTS", "Noise2Void", "blind_spots"]

REPLACEMENTS = ("median", "neighbor")
"""The kinds of replacement of a hidden pixel, see `blind_spots`."""


@keras.saving.register_keras_serializable("tfflowdn")
class Noise2Void(GuardedModel):
    """Trains a network to predict noisy pixels that it does not see.

    Each step hides pixels of the noisy pictures N (`blind_spots`) and minimizes

        mean over hidden pixels of (D - N)^2

    where D is the network's output for the pictures with replaced pixels (Krull et al.
    2019, arXiv 1811.10980). The noise of a pixel cannot be predicted from the pixels
    around it if it is independent from pixel to pixel and has mean 0; then D tends to
    the clean picture. Correlated noise and stripes can be predicted, and stay.

    `fit` takes batches of noisy pictures [batch, H, W, C] in [0, 1] units. Validation
    data are noisy pictures or (noisy, clean); the latter add `psnr`, where the network
    sees all pixels.

    Args:
      network: Any Keras model from noisy pictures to denoised ones.
      spacing: See `blind_spots`.
      radius: See `blind_spots`.
      replacement: See `blind_spots`.
      noise_floor: In [0, 1] units, above 0: each picture is weighted by
        1 / (sigma^2 + noise_floor^2), with sigma estimated from the picture, so that
        pictures with strong noise do not decide. None for equal weights.
      seed: Seed of the hidden pixels.
      **kwargs: Arguments of `keras.Model`.

    Raises:
      ValueError: If an argument is not valid.
    """

    def __init__(
        self,
        network: keras.Model,
        *,
        spacing: int = 4,
        radius: int = 2,
        replacement: str = "median",
        noise_floor: float | None = None,
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_choice("replacement", replacement, REPLACEMENTS)
        _check_at_least_one("spacing", spacing)
        _check_at_least_one("radius", radius)
        _check_noise_floor(noise_floor)
        self.network = network
        self.spacing = spacing
        self.radius = radius
        self.replacement = replacement
        self.noise_floor = noise_floor
        self.seed = seed
        self.loss_tracker = keras.metrics.Mean("loss")
        self.psnr_tracker = PSNR(data_range=1.0, name="psnr")
        self.built = True

    def call(self, noisy: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns the denoised pictures, in the shape of the noisy ones."""
        return self.network(noisy, training=training)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Takes one step; references of the noisy pictures are ignored."""
        noisy, _, weight = keras.utils.unpack_x_y_sample_weight(data)
        noisy, weight = self.to_pictures(noisy), self.to_weights(weight)
        variables = self.network.trainable_variables
        seed = step_seed(self.seed, self.optimizer)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in variables])
            loss = self._loss(noisy, seed, weight, training=True)
            # Gradients are summed over the replicas.
            num_replicas = tf.distribute.get_strategy().num_replicas_in_sync
            scaled_loss = self.scale() * loss / num_replicas
        finite = self.take_step(tape.gradient(scaled_loss, variables), variables)
        self._update_loss(loss, weight, finite)
        return {"loss": self.loss_tracker.result(), "skipped": self.skipped()}

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Updates the loss and, if data is (noisy, clean), psnr."""
        noisy, clean, weight = keras.utils.unpack_x_y_sample_weight(data)
        noisy, weight = self.to_pictures(noisy), self.to_weights(weight)
        self._update_loss(self._loss(noisy, (self.seed, -1), weight), weight)
        logs = {"loss": self.loss_tracker.result()}
        if clean is not None and clean.shape.rank == 4:
            denoised = self._denoise(noisy)
            self.psnr_tracker.update_state(self.to_pictures(clean), denoised, weight)
            logs["psnr"] = self.psnr_tracker.result()
        return logs

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, with the serialized network."""
        network = keras.saving.serialize_keras_object(self.network)
        config = {
            "network": {**network, "compile_config": None},
            "spacing": self.spacing,
            "radius": self.radius,
            "replacement": self.replacement,
            "noise_floor": self.noise_floor,
            "seed": self.seed,
        }
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Noise2Void:
        """Builds the model from `get_config()`."""
        network = keras.saving.deserialize_keras_object(config["network"])
        return cls(**{**config, "network": network})

    def _update_loss(
        self, loss: tf.Tensor, weight: tf.Tensor, finite: tf.Tensor | bool = True
    ) -> None:
        """Updates the log of the loss, a weighted mean over the pictures."""
        total = tf.reduce_mean(weight)
        mean = tf.math.divide_no_nan(loss, total)
        self.loss_tracker.update_state(*only_if(finite, mean, total))

    def _denoise(self, noisy: tf.Tensor, training: bool = False) -> tf.Tensor:
        return tf.cast(self(noisy, training=training), self.variable_dtype)

    def _loss(
        self,
        noisy: tf.Tensor,
        seed: Sequence[int],
        sample_weight: tf.Tensor,
        training: bool = False,
    ) -> tf.Tensor:
        """Returns the weighted mean squared error of the hidden pixels."""
        hidden, mask = blind_spots(
            noisy,
            seed,
            spacing=self.spacing,
            radius=self.radius,
            replacement=self.replacement,
        )
        errors = mask * (self._denoise(hidden, training) - noisy) ** 2
        num_hidden = tf.reduce_sum(mask) * tf.cast(noisy.shape[-1], mask.dtype)
        sums = tf.reduce_sum(errors, axis=(1, 2, 3))
        weights = sample_weight * self._weights(noisy)
        return tf.reduce_sum(weights * sums) / tf.maximum(num_hidden, 1)

    def _weights(self, noisy: tf.Tensor) -> tf.Tensor | float:
        """Returns the weights of the pictures, [batch], with mean 1."""
        if self.noise_floor is None:
            return 1.0
        weights = 1 / (estimate_noise_sigma(noisy) ** 2 + self.noise_floor**2)
        return weights / tf.reduce_mean(weights)


def blind_spots(
    noisy: tf.Tensor,
    seed: Sequence[int] | tf.Tensor,
    *,
    spacing: int = 4,
    radius: int = 2,
    replacement: str = "median",
) -> tuple[tf.Tensor, tf.Tensor]:
    """Hides one random pixel in each cell of the pictures.

    The replacement is computed from the pixels around the hidden one, never from the
    pixel itself. All channels of a pixel are hidden together. Near a border, the
    neighbors are the pixels of the square that is moved into the picture.

    Args:
      noisy: [batch, H, W, C], H and W at least `2 * radius + 1`.
      seed: Two integers; equal seeds hide equal pixels.
      spacing: Side of a cell in pixels. In cells that a border cuts, the chosen pixel
        may lie outside of the picture, and none is hidden.
      radius: Distance in pixels up to which neighbors are used, in rows and in columns.
      replacement: "median" for the median of all neighbors (Noise2Void 2, Hoeck et al.
        2022, arXiv 2211.08512), "neighbor" for a random one of them (Noise2Void, Krull
        et al. 2019, arXiv 1811.10980, without the pixel itself).

    Returns:
      The pictures with replaced pixels, and a mask [batch, H, W, 1] that is 1 where a
      pixel was hidden and 0 elsewhere.

    Raises:
      ValueError: If `replacement` is unknown, `spacing` or `radius` is below 1, or the
        pictures are too small.
    """
    check_choice("replacement", replacement, REPLACEMENTS)
    _check_at_least_one("spacing", spacing)
    _check_at_least_one("radius", radius)
    noisy = tf.convert_to_tensor(noisy)
    with tf.control_dependencies(_check_size(noisy, radius)):
        noisy = tf.identity(noisy)
    spot_seed, neighbor_seed = tf.unstack(
        tf.random.experimental.stateless_split(tf.cast(seed, tf.int32), 2)
    )
    spots, inside = _spots(tf.shape(noisy), spot_seed, spacing)
    # XLA needs draws of a known number: for all cells, also without a hidden pixel.
    chosen = tf.random.stateless_uniform(
        tf.shape(spots)[:1], neighbor_seed, maxval=_num_neighbors(radius), dtype="int32"
    )
    spots, chosen = (tf.boolean_mask(one, inside) for one in (spots, chosen))
    around = _neighbors(noisy, spots, radius)
    if replacement == "median":
        values = _median(around)
    else:
        values = tf.gather(around, chosen, axis=1, batch_dims=1)
    hidden = tf.tensor_scatter_nd_update(noisy, spots, values)
    ones = tf.ones_like(values[:, :1])
    mask = tf.scatter_nd(spots, ones, tf.shape(noisy[..., :1]))
    return tf.ensure_shape(hidden, noisy.shape), mask


def _num_neighbors(radius: int) -> int:
    return (2 * radius + 1) ** 2 - 1


def _spots(
    shape: tf.Tensor, seed: tf.Tensor, spacing: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns one random pixel per cell, and whether it lies in the picture.

    Returns:
      (picture, row, column), [cells, 3], and a bool [cells].
    """
    cells = -(-shape[1:3] // spacing)
    count = tf.concat([shape[:1], cells], 0)
    offset = tf.random.stateless_uniform(count, seed, maxval=spacing**2, dtype=tf.int32)
    corners = tf.cast(tf.where(tf.ones(count, tf.bool)), tf.int32)
    picture, row, column = tf.unstack(corners, axis=1)
    offset = tf.reshape(offset, [-1])
    row = spacing * row + offset // spacing
    column = spacing * column + offset % spacing
    height, width = tf.unstack(shape[1:3])
    inside = (row < height) & (column < width)
    return tf.stack([picture, row, column], 1), inside


def _neighbors(images: tf.Tensor, spots: tf.Tensor, radius: int) -> tf.Tensor:
    """Returns the pixels around each spot, without itself, [spots, neighbors, C]."""
    width = 2 * radius + 1
    picture, *position = tf.unstack(spots, axis=1)
    sizes = tf.unstack(tf.shape(images)[1:3])
    corner = [
        tf.clip_by_value(at - radius, 0, size - width)
        for at, size in zip(position, sizes, strict=True)
    ]
    row, column = (at - first for at, first in zip(position, corner, strict=True))
    own = (row * width + column)[:, tf.newaxis]
    index = tf.range(_num_neighbors(radius))[tf.newaxis]
    index += tf.cast(index >= own, tf.int32)  # Leaves out the spot.
    around = [
        picture[:, tf.newaxis] + tf.zeros_like(index),
        corner[0][:, tf.newaxis] + index // width,
        corner[1][:, tf.newaxis] + index % width,
    ]
    return tf.gather_nd(images, tf.stack(around, axis=-1))


def _median(around: tf.Tensor) -> tf.Tensor:
    """Returns the mean of the two middle values of an even number, [spots, C]."""
    half = around.shape[1] // 2
    highest = tf.math.top_k(tf.transpose(around, [0, 2, 1]), half + 1).values
    return (highest[..., -1] + highest[..., -2]) / 2


def _check_size(noisy: tf.Tensor, radius: int) -> list[tf.Operation]:
    """Checks known sizes at once, and returns the checks of others in the graph."""
    width = 2 * radius + 1
    rule = f"noisy must be [batch, H, W, C], H and W at least 2 * radius + 1 = {width}."
    known = [size for size in noisy.shape[1:3] if size is not None]
    if min(known, default=width) < width:
        raise ValueError(f"{rule} Received: noisy.shape={tuple(noisy.shape)}.")
    if len(known) == 2:
        return []
    check = tf.debugging.assert_greater_equal
    return [check(tf.shape(noisy)[1:3], width, message=rule)]


def _check_at_least_one(name: str, value: Any) -> None:
    if not (type(value) is int and value >= 1):
        raise ValueError(
            f"{name} must be an integer of 1 or more. Received: {name}={value!r}."
        )


def _check_noise_floor(noise_floor: Any) -> None:
    is_number = type(noise_floor) in (int, float) and 0 < noise_floor <= 1
    if not (noise_floor is None or is_number):
        raise ValueError(
            "noise_floor must be above 0 and at most 1, or None. "
            f"Received: noise_floor={noise_floor!r}."
        )
