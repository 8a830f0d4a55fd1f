"""A collection of pictures that is decoded once and kept in memory."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfflowdn.data.image_source import ImageSource
from tfflowdn.data.memory import check_fits, is_large
from tfflowdn.data.sources import FileSource

__all__ = ["PicturePool"]


class PicturePool(ImageSource):
    """The pictures of another source, decoded at most once, for several `RandomCrops`.

    Files that are large for the memory stay on disk, and only their crops are read.

    Attributes:
      stays_on_disk: Whether the files stay on disk.

    Args:
      source: The pictures.

    Raises:
      ValueError: If the pictures do not fit into memory.
    """

    def __init__(self, source: ImageSource) -> None:
        self.source = source
        self.channels = source.channels
        self.pixel_range = source.pixel_range
        self.names = source.names
        self.sizes = source.sizes
        self._pixels = None
        self.stays_on_disk = _stays_on_disk(source)

    def read_crop(
        self, index: int, rows: np.ndarray, columns: np.ndarray
    ) -> np.ndarray:
        """See `ImageSource.read_crop`."""
        return self.source.read_crop(index, rows, columns)

    def dataset(self) -> tf.data.Dataset:
        """See `ImageSource.dataset`; this decodes the pictures again."""
        return self.source.dataset()

    def with_gaps(self, gaps: str) -> ImageSource:
        """See `ImageSource.with_gaps`; this source is not kept in memory."""
        return self.source.with_gaps(gaps)

    def pixels(self) -> tf.data.Dataset:
        """Returns one element, which is computed once: all pictures in one tensor.

        Returns:
          A dataset of one (sizes, starts, pixels). `sizes` [pictures, 2] are heights
          and widths. `starts` [pictures] are the rows of `pixels` [all pixels, C] at
          which the pictures begin. Wide gaps of missing pixels are NaN.
        """
        if self._pixels is None:
            self._pixels = _pixels(self.source.with_gaps("mark")).cache()
        return self._pixels

    def verify(self) -> None:
        """See `ImageSource.verify`; decoded pictures that fit into memory are kept."""
        if self.stays_on_disk:
            self.source.verify()
            return
        try:
            for _ in self.pixels():
                pass
        except tf.errors.InvalidArgumentError:
            self.source.verify()  # Raises the error with the name of the file.
            raise


def _stays_on_disk(source: ImageSource) -> bool:
    if not isinstance(source, FileSource):
        return False
    num_pixels = sum(height * width for height, width in source.sizes)
    return is_large(num_pixels * source.channels * np.dtype(source.dtype).itemsize)


def _pixels(source: ImageSource) -> tf.data.Dataset:
    def flatten(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.shape(image)[:2], tf.reshape(image, [-1, source.channels])

    def join(sizes: tf.Tensor, pixels: tf.Tensor) -> tuple[tf.Tensor, ...]:
        if isinstance(pixels, tf.RaggedTensor):  # The pictures' sizes differ.
            pixels = pixels.values
        counts = tf.reduce_prod(tf.cast(sizes, tf.int64), axis=1)
        pixels = tf.reshape(pixels, [-1, source.channels])
        return sizes, tf.cumsum(counts, exclusive=True), pixels

    pictures = source.dataset()
    if source.sizes is not None:
        num_pixels = sum(height * width for height, width in source.sizes)
        dtype = pictures.element_spec.dtype.as_numpy_dtype
        what = "all pictures of a source"
        check_fits((num_pixels, source.channels), dtype, what=what)
    pixels = pictures.map(flatten).ragged_batch(len(source)).map(join)
    return pixels.apply(tf.data.experimental.assert_cardinality(1))
