"""Input pipelines: random training crops, validation grids and whole images."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from absl import logging

from tfflowdn.data.image_source import ImageSource
from tfflowdn.data.picture_pool import PicturePool
from tfflowdn.data.pixel_range import to_unit

__all__ = [
    "RandomCrops",
    "image_batches",
]

_MOST_DRAWS = 64  # Of a crop without missing pixels.


class RandomCrops:
    """Endless batches of random training crops, each a function of seed and step.

    Pictures are decoded once and kept in memory; of files that are large for it, only
    the crops are read, from disk. Each pass takes one crop of every
    picture, in a new random order. Batch `step` is computed from the arguments and
    `step` only, so a training that is resumed at a step sees the same batches as one
    that was not interrupted, and no earlier batch is computed again.

    A crop with missing pixels is replaced by another crop of its picture, or else by
    one of the batch; single missing pixels are filled.

    Args:
      source: The pictures, such as a `PicturePool` that several RandomCrops share;
        those smaller than a crop are skipped with a warning.
      crop_size: Height and width of a crop, pixels.
      batch_size: Crops per batch.
      augment: Whether crops are flipped and rotated by multiples of 90 degrees.
      seed: Determines order, positions and augmentation.
      zoom_range: Smallest and largest factor, uniform between them, by which the middle
        of a crop is enlarged (bicubic); 1 leaves it unchanged.
      contrast_range: Smallest and largest contrast of a crop, uniform between them;
        1 leaves it unchanged, 0 leaves only the mean of each channel.

    Raises:
      ValueError: If no picture is large enough, the pictures do not fit into memory,
        or a number is out of its range.
    """

    def __init__(
        self,
        source: ImageSource,
        *,
        crop_size: int,
        batch_size: int,
        augment: bool = True,
        seed: int = 0,
        zoom_range: tuple[float, float] = (1.0, 1.0),
        contrast_range: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        _check_positive(crop_size=crop_size, batch_size=batch_size)
        if not 1 <= zoom_range[0] <= zoom_range[1]:
            raise ValueError(
                f"zoom_range must be 1 <= a <= b. Received: {zoom_range=}."
            )
        if not 0 <= contrast_range[0] <= contrast_range[1] <= 1:
            raise ValueError(
                f"contrast_range must be 0 <= a <= b <= 1. Received: {contrast_range=}."
            )
        self._names = source.names
        self._crop_size = crop_size
        self._batch_size = batch_size
        self._augment = augment
        self._seed = seed
        self._zoom_range = tuple(zoom_range)
        self._contrast_range = tuple(contrast_range)
        pool = source if isinstance(source, PicturePool) else PicturePool(source)
        self._read_crop = pool.read_crop if pool.stays_on_disk else None
        self._pool = _large_pictures(pool, crop_size)

    def __call__(self, first_step: int = 0) -> tf.data.Dataset:
        """Returns the batches from `first_step` (0 is the first) on.

        Returns:
          Infinite dataset of float32 [batch_size, crop_size, crop_size, C], with the
          integer types scaled to [0, 1].
        """
        steps = tf.data.Dataset.counter(first_step)
        batches = tf.data.Dataset.zip(steps, self._pool.repeat())
        batches = batches.map(self._batch, num_parallel_calls=tf.data.AUTOTUNE)
        return _shard_by_batch(batches).prefetch(tf.data.AUTOTUNE)

    def names(self, step: int) -> list[str]:
        """Returns the names of the pictures that batch `step` has crops of."""
        numbers = next(iter(self._pool))[0]
        picked = self._pick(tf.constant(step, tf.int64), tf.shape(numbers)[0])
        return sorted({self._names[i] for i in tf.gather(numbers, picked).numpy()})

    def _batch(self, step: tf.Tensor, pool: tuple[tf.Tensor, ...]) -> tf.Tensor:
        numbers, sizes, starts, pixels = pool
        picked = self._pick(step, tf.shape(sizes)[0])
        key = tf.stack([tf.constant(self._seed, tf.int64), step])
        chosen = [tf.gather(part, picked) for part in (numbers, sizes, starts)]
        draw = functools.partial(self._draw, *chosen, pixels)
        crops = draw(key)
        if pixels.dtype == tf.float32:
            crops = _without_gaps(crops, draw, key)
        crops = to_unit(crops)
        if self._zoom_range != (1, 1):
            zoom = self._uniform(self._zoom_range, tf.random.fold_in(key, 2))
            crops = _enlarge_middle(crops, zoom)
        if self._contrast_range != (1, 1):
            contrast = self._uniform(self._contrast_range, tf.random.fold_in(key, 1))
            mean = tf.reduce_mean(crops, axis=(1, 2), keepdims=True)
            crops = mean + contrast * (crops - mean)
        return crops

    def _draw(
        self,
        numbers: tf.Tensor,
        sizes: tf.Tensor,
        starts: tf.Tensor,
        pixels: tf.Tensor,
        key: tf.Tensor,
    ) -> tf.Tensor:
        """Returns a crop of each picture, as it is stored."""
        index = _crop_and_turn(sizes, self._crop_size, self._augment, key)
        if self._read_crop is None:
            index = tf.cast(index, tf.int64) + starts[:, tf.newaxis, tf.newaxis]
            return tf.gather(pixels, index)
        parts = [numbers, sizes[:, 1], index]
        crops = tf.numpy_function(self._from_disk, parts, pixels.dtype)
        shape = [self._batch_size, *[self._crop_size] * 2, pixels.shape[-1]]
        return tf.ensure_shape(crops, shape)

    def _from_disk(
        self, numbers: np.ndarray, widths: np.ndarray, index: np.ndarray
    ) -> np.ndarray:
        """Returns crops [batch, size, size, C] of pictures that stay on disk."""
        crops = [
            self._read_crop(int(number), *np.divmod(flat, width))
            for number, width, flat in zip(numbers, widths, index, strict=True)
        ]
        return np.stack(crops)

    def _uniform(self, limits: tuple[float, float], seed: tf.Tensor) -> tf.Tensor:
        shape = [self._batch_size, 1, 1, 1]
        return tf.random.stateless_uniform(shape, seed, *limits)

    def _pick(self, step: tf.Tensor, num_pictures: tf.Tensor) -> tf.Tensor:
        """Returns the pictures of a batch, positions in the pool, [batch_size]."""
        num_pictures = tf.cast(num_pictures, tf.int64)
        crop = step * self._batch_size + tf.range(self._batch_size, dtype=tf.int64)
        passes = crop // num_pictures
        # The public index_shuffle takes one seed only, and no more than 4 rounds,
        # which leave the orders of two passes correlated.
        return tf.raw_ops.RandomIndexShuffle(
            index=crop % num_pictures,
            seed=tf.stack(
                [tf.fill([self._batch_size], tf.constant(self._seed, tf.int64))]
                + [tf.zeros_like(passes), passes],
                axis=1,
            ),
            max_index=tf.fill([self._batch_size], num_pictures - 1),
            rounds=8,
        )


def image_batches(
    source: ImageSource,
    *,
    crop_size: int,
    batch_size: int,
    drop_remainder: bool = False,
) -> tf.data.Dataset:
    """Returns one pass over fixed crops, for validation.

    Each picture gives the crops of the largest grid without overlap, centred. Crops
    with missing pixels are left out; single missing pixels are filled.

    Args:
      source: The pictures; those smaller than a crop are skipped with a warning.
      crop_size: Height and width of a crop, pixels.
      batch_size: Crops per batch.
      drop_remainder: Whether a last, smaller batch is left out.

    Returns:
      Finite dataset of float32 [batch_size, crop_size, crop_size, C], in order.

    Raises:
      ValueError: No picture is large enough, there is no whole batch though the rest
        is left out, or a number is below 1.
    """
    _check_positive(crop_size=crop_size, batch_size=batch_size)
    source = source.with_gaps("mark")

    def grid(_, image: tf.Tensor) -> tf.Tensor:
        rows, cols = tf.shape(image)[0] // crop_size, tf.shape(image)[1] // crop_size
        top = (tf.shape(image)[0] - rows * crop_size) // 2
        left = (tf.shape(image)[1] - cols * crop_size) // 2
        image = image[top : top + rows * crop_size, left : left + cols * crop_size]
        tiles = tf.reshape(image, [rows, crop_size, cols, crop_size, source.channels])
        tiles = tf.transpose(tiles, [0, 2, 1, 3, 4])
        return tf.reshape(tiles, [-1, crop_size, crop_size, source.channels])

    crops = _large_enough(source, crop_size).map(grid).unbatch()
    num_crops = None
    if source.sizes is not None:  # Keras warns of a dataset without a length.
        num_crops = sum((h // crop_size) * (w // crop_size) for h, w in source.sizes)
    if crops.element_spec.dtype == tf.float32:
        crops = crops.filter(lambda crop: ~_has_gaps(crop[tf.newaxis])[0])
        num_crops = num_crops and int(crops.reduce(0, lambda count, _: count + 1))
    batches = crops.batch(batch_size, drop_remainder=drop_remainder)
    if num_crops is not None:
        num_batches = num_crops / batch_size
        num_batches = int(num_batches) if drop_remainder else math.ceil(num_batches)
        if num_batches == 0:
            raise ValueError(
                "The pictures must give a whole batch of crops. "
                f"Received: {num_crops=}, {batch_size=}."
            )
        batches = batches.apply(tf.data.experimental.assert_cardinality(num_batches))
    return _shard_by_batch(batches.map(to_unit)).prefetch(tf.data.AUTOTUNE)


def _check_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1. Received: {name}={number}.")


def _shard_by_batch(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Lets each of several workers take its part of every batch, not of the files."""
    options = tf.data.Options()
    policy = tf.data.experimental.AutoShardPolicy.DATA
    options.experimental_distribute.auto_shard_policy = policy
    return batches.with_options(options)


def _large_pictures(pool: PicturePool, crop_size: int) -> tf.data.Dataset:
    """Returns one element: number, size [2], first pixel of each picture; all pixels.

    Pictures that are smaller than a crop have no number.
    """
    _large_enough(pool, crop_size)  # Raises an error if there is none.

    def select(
        sizes: tf.Tensor, starts: tf.Tensor, pixels: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        is_large = tf.reduce_min(sizes, axis=1) >= crop_size
        numbers = tf.where(is_large)[:, 0]
        return numbers, tf.gather(sizes, numbers), tf.gather(starts, numbers), pixels

    if pool.stays_on_disk:
        sizes = tf.constant(pool.sizes, tf.int32)
        pixels = tf.zeros([0, pool.channels], pool.source.dtype)
        starts = tf.zeros([len(pool)], tf.int64)
        return tf.data.Dataset.from_tensors((sizes, starts, pixels)).map(select)
    return pool.pixels().map(select).cache()  # Shares the tensor of the pixels.


def _large_enough(source: ImageSource, crop_size: int) -> tf.data.Dataset:
    """Returns the pictures that are no smaller than a crop, each with its number."""

    def is_large(_, image: tf.Tensor) -> tf.Tensor:
        return tf.reduce_min(tf.shape(image)[:2]) >= crop_size

    pictures = source.dataset().enumerate()
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
    sizes: tf.Tensor, size: int, augment: bool, key: tf.Tensor
) -> tf.Tensor:
    """Returns the flat pixel numbers of a crop of each picture, [batch, size, size]."""
    height, width = sizes[:, :1], sizes[:, 1:]
    uniform = tf.random.stateless_uniform([5, tf.shape(sizes)[0], 1], key)
    top = _below(uniform[0], height - size + 1)
    left = _below(uniform[1], width - size + 1)
    rows = cols = tf.range(size)[tf.newaxis]  # [1, size]
    if augment:
        rows = tf.where(uniform[2] < 0.5, rows, size - 1 - rows)  # [batch, size]
        cols = tf.where(uniform[3] < 0.5, cols, size - 1 - cols)
    rows, cols = (top + rows) * width, left + cols
    index = rows[:, :, tf.newaxis] + cols[:, tf.newaxis, :]
    if augment:
        turned = tf.transpose(index, [0, 2, 1])
        index = tf.where(uniform[4][..., tf.newaxis] < 0.5, index, turned)
    return index


def _without_gaps(
    crops: tf.Tensor, draw: Callable[[tf.Tensor], tf.Tensor], key: tf.Tensor
) -> tf.Tensor:
    """Returns crops [batch, size, size, C] without missing pixels.

    Args:
      crops: The crops that were drawn first.
      draw: Draws crops of the same pictures, given a key.
      key: The key of the first crops.
    """

    def again(count: tf.Tensor, crops: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        others = draw(tf.random.fold_in(key, 16 + count))
        return count + 1, _replaced(crops, others)

    def lacks(count: tf.Tensor, crops: tf.Tensor) -> tf.Tensor:
        return (count < _MOST_DRAWS) & tf.reduce_any(_has_gaps(crops))

    _, crops = tf.while_loop(lacks, again, (tf.constant(0), crops))
    whole = tf.where(~_has_gaps(crops))[:, 0]
    message = "Pictures must have crops of crop_size without missing pixels."
    with tf.control_dependencies(
        [tf.debugging.assert_positive(tf.size(whole), message)]
    ):
        turns = tf.range(tf.shape(crops)[0]) % tf.maximum(tf.size(whole), 1)
    return _replaced(crops, tf.gather(crops, tf.gather(whole, turns)))


def _has_gaps(crops: tf.Tensor) -> tf.Tensor:
    return tf.reduce_any(tf.math.is_nan(crops), axis=(1, 2, 3))


def _replaced(crops: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Returns crops, or the others where a crop has missing pixels."""
    return tf.where(_has_gaps(crops)[:, None, None, None], others, crops)


def _enlarge_middle(crops: tf.Tensor, zoom: tf.Tensor) -> tf.Tensor:
    """Enlarges crops [batch, size, size, C], each by a zoom of [batch, 1, 1, 1]."""
    size = crops.shape[1]
    pixel = tf.range(size, dtype=tf.float32)
    middle = (size - 1) / 2
    seen = middle + (pixel[:, tf.newaxis] - middle) / zoom
    weights = _cubic(seen - pixel)  # [batch, 1, size, size]
    # Rows sum to 1: at a border the pixels within count.
    weights /= tf.reduce_sum(weights, axis=-1, keepdims=True)
    enlarged = weights @ tf.transpose(crops, [0, 3, 1, 2])
    enlarged = tf.matmul(enlarged, weights, transpose_b=True)
    return tf.transpose(enlarged, [0, 2, 3, 1])


def _cubic(distance: tf.Tensor) -> tf.Tensor:
    """Returns the kernel of bicubic interpolation (Keys 1981, a = -1/2)."""
    distance = tf.minimum(tf.abs(distance), 2.0)
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return tf.where(distance < 1, near, far)


def _below(uniform: tf.Tensor, limit: tf.Tensor) -> tf.Tensor:
    number = tf.cast(uniform * tf.cast(limit, uniform.dtype), tf.int32)
    return tf.minimum(number, limit - 1)
