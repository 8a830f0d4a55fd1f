"""Input pipelines: random training crops, validation grids and whole images."""

import math

import tensorflow as tf
from absl import logging

from tfflowdn.data.image_source import ImageSource

__all__ = [
    "image_batches",
    "random_crops",
    "to_unit",
]

_UNKNOWN_LENGTH_BUFFER = 1024


def random_crops(
    source: ImageSource,
    *,
    crop_size: int,
    batch_size: int,
    crops_per_image: int = 8,
    augment: bool = True,
    shuffle_buffer: int = 1024,
    seed: int = 0,
) -> tf.data.Dataset:
    """Endless batches of random training crops.

    Pictures are decoded once and cached in memory, visited in a new random order each
    epoch, and give `crops_per_image` crops a visit. Two datasets built with the same
    arguments yield the same batches (as long as `tf.random.set_seed` is the same).

    Args:
      source: The pictures; those smaller than a crop are skipped with a warning.
      crop_size: Height and width of a crop, pixels.
      batch_size: Crops a batch.
      crops_per_image: Crops taken at each visit of a picture.
      augment: Whether crops are flipped and rotated by multiples of 90 degrees.
      shuffle_buffer: Crops among which the next one is drawn.
      seed: Of the order, positions and augmentation.

    Returns:
      Infinite dataset of float32 [batch_size, crop_size, crop_size, C], with the
      integer types scaled to [0, 1].

    Raises:
      ValueError: No picture is large enough, or a number is below 1.
    """
    _check_positive(
        crop_size=crop_size,
        batch_size=batch_size,
        crops_per_image=crops_per_image,
        shuffle_buffer=shuffle_buffer,
    )

    def crops(counter: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
        key = tf.stack([tf.constant(seed, tf.int64), counter])
        return _crop_and_turn(image, crop_size, crops_per_image, augment, key)

    pictures = _large_enough(source, crop_size).cache()
    pictures = pictures.shuffle(len(source), seed=seed).repeat().enumerate()
    batches = (
        pictures.map(crops, num_parallel_calls=tf.data.AUTOTUNE)
        .unbatch()
        .shuffle(shuffle_buffer, seed=seed)
        .batch(batch_size, drop_remainder=True)
    )
    return batches.map(to_unit).prefetch(tf.data.AUTOTUNE)


def image_batches(
    source: ImageSource,
    *,
    crop_size: int,
    batch_size: int,
    drop_remainder: bool = False,
) -> tf.data.Dataset:
    """One pass over fixed crops, for validation.

    Each picture gives the crops of the largest grid without overlap, centred.

    Args:
      source: The pictures; those smaller than a crop are skipped with a warning.
      crop_size: Height and width of a crop, pixels.
      batch_size: Crops a batch.
      drop_remainder: Whether a last, smaller batch is left out.

    Returns:
      Finite dataset of float32 [batch_size, crop_size, crop_size, C], in order.

    Raises:
      ValueError: No picture is large enough, there is no whole batch though the rest
        is left out, or a number is below 1.
    """
    _check_positive(crop_size=crop_size, batch_size=batch_size)

    def grid(image: tf.Tensor) -> tf.Tensor:
        rows, cols = tf.shape(image)[0] // crop_size, tf.shape(image)[1] // crop_size
        top = (tf.shape(image)[0] - rows * crop_size) // 2
        left = (tf.shape(image)[1] - cols * crop_size) // 2
        image = image[top : top + rows * crop_size, left : left + cols * crop_size]
        tiles = tf.reshape(image, [rows, crop_size, cols, crop_size, source.channels])
        tiles = tf.transpose(tiles, [0, 2, 1, 3, 4])
        return tf.reshape(tiles, [-1, crop_size, crop_size, source.channels])

    crops = _large_enough(source, crop_size).map(grid).unbatch()
    batches = crops.batch(batch_size, drop_remainder=drop_remainder)
    if source.sizes is not None:  # Keras warns of a dataset without a length.
        num_crops = sum((h // crop_size) * (w // crop_size) for h, w in source.sizes)
        num_batches = num_crops / batch_size
        num_batches = int(num_batches) if drop_remainder else math.ceil(num_batches)
        if num_batches == 0:
            raise ValueError(
                "The pictures must give a whole batch of crops. "
                f"Received: {num_crops=}, {batch_size=}."
            )
        batches = batches.apply(tf.data.experimental.assert_cardinality(num_batches))
    return batches.map(to_unit).prefetch(tf.data.AUTOTUNE)


def to_unit(image: tf.Tensor) -> tf.Tensor:
    """Scales a picture to float32, integers from [0, max] to [0, 1]."""
    scale = image.dtype.max if image.dtype.is_integer else 1
    return tf.cast(image, tf.float32) / scale


def _check_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1. Received: {name}={number}.")


def _large_enough(source: ImageSource, crop_size: int) -> tf.data.Dataset:
    def is_large(image: tf.Tensor) -> tf.Tensor:
        return tf.reduce_min(tf.shape(image)[:2]) >= crop_size

    pictures = source.dataset()
    if source.sizes is None:
        pictures = pictures.filter(is_large)
        num_large = sum(1 for _ in pictures.take(1))
    else:
        num_large = sum(min(size) >= crop_size for size in source.sizes)
        if num_large < len(source):
            logging.warning(
                "%d of %d pictures are smaller than crop_size=%d and are skipped.",
                len(source) - num_large,
                len(source),
                crop_size,
            )
            pictures = pictures.filter(is_large)
    if not num_large:
        raise ValueError(
            f"A picture must be at least crop_size high and wide, and none of the "
            f"{len(source)} is. Received: {crop_size=}."
        )
    return pictures


def _crop_and_turn(
    image: tf.Tensor, size: int, count: int, augment: bool, key: tf.Tensor
) -> tf.Tensor:
    # One gather of flat pixel numbers crops, flips and transposes at once.
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    uniform = tf.random.stateless_uniform([5, count, 1], key)
    top = _below(uniform[0], height - size + 1)
    left = _below(uniform[1], width - size + 1)
    rows = cols = tf.range(size)[tf.newaxis]  # [1, size]
    if augment:
        rows = tf.where(uniform[2] < 0.5, rows, size - 1 - rows)  # [count, size]
        cols = tf.where(uniform[3] < 0.5, cols, size - 1 - cols)
    rows, cols = (top + rows) * width, left + cols
    index = rows[:, :, tf.newaxis] + cols[:, tf.newaxis, :]
    if augment:
        turned = tf.transpose(index, [0, 2, 1])
        index = tf.where(uniform[4][..., tf.newaxis] < 0.5, index, turned)
    pixels = tf.reshape(image, [height * width, image.shape[-1]])
    return tf.gather(pixels, index)


def _below(uniform: tf.Tensor, limit: tf.Tensor) -> tf.Tensor:
    number = tf.cast(uniform * tf.cast(limit, uniform.dtype), tf.int32)
    return tf.minimum(number, limit - 1)
