"""Generic noise of random kind and level, for training."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfflowdn.checks import check_probability
from tfflowdn.noise.jpeg import compress_jpeg

__all__ = ["GenericNoise"]


class GenericNoise:
    """Noise of random kind and level, for training without knowledge of the noise.

    Each picture of a batch becomes x + sqrt(gain * max(x, 0) + read_sigma^2) * n with

    * read_sigma uniform in [0, max_sigma];
    * gain = gain_sigma^2, where gain_sigma (the sigma of this part at x = 1) is uniform
      in [0, max_sigma] with `gain_probability`, otherwise 0;
    * n standard normal: white, or with `correlated_probability` blurred by a Gaussian
      of blur_sigma uniform in `blur_range` and scaled back to unit variance;
    * in color pictures, n independent in each channel, or with `shared_probability`
      with a correlation between the channels uniform in [0, 1], as in cameras.

    Then, in this order,

    * with `row_probability` one normal value is added to each row, and independently
      with the same probability one to each column; their sigmas are uniform in
      [0, max_sigma];
    * with `impulse_probability` a share of the pixels, uniform in
      [0, `max_impulse_share`], is set to 0 or 1;
    * with `jpeg_probability` the picture is quantized like a JPEG file, at a quality
      uniform in `jpeg_quality_range`.

    Args:
      max_sigma: Largest sigma of each component, in the units of the image.
      gain_probability: Share of pictures whose noise depends on the signal.
      correlated_probability: Share of pictures with spatially correlated noise.
      blur_range: Smallest and largest blur_sigma, in pixels.
      shared_probability: Share of color pictures whose channels have common noise.
      row_probability: Share of pictures with noise of rows, and share with noise of
        columns.
      impulse_probability: Share of pictures with impulses, as from hot and dead pixels.
      max_impulse_share: Largest share of pixels that are impulses, within [0, 1].
      jpeg_probability: Share of pictures that are compressed, see `compress_jpeg`.
      jpeg_quality_range: Smallest and largest quality, within 1 to 100.

    Raises:
      ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        *,
        max_sigma: float = 50 / 255,
        gain_probability: float = 0.5,
        correlated_probability: float = 0.25,
        blur_range: tuple[float, float] = (0.3, 1.5),
        shared_probability: float = 0.5,
        row_probability: float = 0.0,
        impulse_probability: float = 0.0,
        max_impulse_share: float = 0.02,
        jpeg_probability: float = 0.0,
        jpeg_quality_range: tuple[float, float] = (60, 98),
    ) -> None:
        if max_sigma <= 0:
            raise ValueError(f"max_sigma must be positive. Received: {max_sigma=}.")
        check_probability("gain_probability", gain_probability)
        check_probability("correlated_probability", correlated_probability)
        check_probability("shared_probability", shared_probability)
        check_probability("row_probability", row_probability)
        check_probability("impulse_probability", impulse_probability)
        check_probability("max_impulse_share", max_impulse_share)
        check_probability("jpeg_probability", jpeg_probability)
        if not 0 < blur_range[0] <= blur_range[1]:
            raise ValueError(f"blur_range must be 0 < a <= b. Received: {blur_range=}.")
        if not 1 <= jpeg_quality_range[0] <= jpeg_quality_range[1] <= 100:
            raise ValueError(
                "jpeg_quality_range must be 1 <= a <= b <= 100. "
                f"Received: {jpeg_quality_range=}."
            )
        self.max_sigma = max_sigma
        self.gain_probability = gain_probability
        self.correlated_probability = correlated_probability
        self.blur_range = tuple(blur_range)
        self.shared_probability = shared_probability
        self.row_probability = row_probability
        self.impulse_probability = impulse_probability
        self.max_impulse_share = max_impulse_share
        self.jpeg_probability = jpeg_probability
        self.jpeg_quality_range = tuple(jpeg_quality_range)

    def __call__(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Adds noise that depends only on the arguments.

        Args:
          images: float32 [B, H, W, C] in units of [0, 1]; any dimension may be dynamic.
          seed: Two integers, as for `tf.random.stateless_normal`.

        Returns:
          Noisy images, float32 [B, H, W, C], not clipped.
        """
        images = tf.convert_to_tensor(images, tf.float32)
        level_seed, field_seed = tf.unstack(tf.random.split(seed, 2))
        uniform = tf.random.stateless_uniform([5, tf.shape(images)[0]], level_seed)
        read_sigma = self.max_sigma * uniform[0]
        has_gain = tf.cast(uniform[1] < self.gain_probability, tf.float32)
        gain_sigma = has_gain * self.max_sigma * uniform[2]
        low, high = self.blur_range
        blur_sigma = low + (high - low) * uniform[3]
        blur_sigma = tf.where(uniform[4] < self.correlated_probability, blur_sigma, 0.0)
        gain, read = (tf.reshape(s**2, [-1, 1, 1, 1]) for s in (gain_sigma, read_sigma))
        scale = tf.sqrt(gain * tf.nn.relu(images) + read)
        noisy = images + scale * self._unit_field(images, blur_sigma, field_seed)
        # Each component has a seed of its own, so that the others stay as they are.
        if self.row_probability:
            noisy += self._stripes(images, 1, tf.random.fold_in(seed, 3))
            noisy += self._stripes(images, 2, tf.random.fold_in(seed, 4))
        if self.impulse_probability:
            noisy = self._with_impulses(noisy, tf.random.fold_in(seed, 5))
        if self.jpeg_probability:
            noisy = self._compress(noisy, tf.random.fold_in(seed, 2))
        return tf.ensure_shape(noisy, images.shape)

    def _stripes(self, images, axis, seed):
        """Returns one normal value for each index along `axis`, [B, H, 1, 1] for 1."""
        level_seed, value_seed = tf.unstack(tf.random.split(seed, 2))
        uniform = tf.random.stateless_uniform([2, tf.shape(images)[0]], level_seed)
        has_stripes = tf.cast(uniform[0] < self.row_probability, tf.float32)
        sigma = tf.reshape(has_stripes * self.max_sigma * uniform[1], [-1, 1, 1, 1])
        shape = [1, 1, 1, 1]
        shape[0], shape[axis] = tf.shape(images)[0], tf.shape(images)[axis]
        return sigma * tf.random.stateless_normal(shape, value_seed)

    def _with_impulses(self, images, seed):
        """Sets a share of the pixels to 0 or 1, all of their channels alike."""
        share_seed, pixel_seed = tf.unstack(tf.random.split(seed, 2))
        batch, height, width, _ = tf.unstack(tf.shape(images))
        uniform = tf.random.stateless_uniform([2, batch, 1, 1, 1], share_seed)
        has_impulses = tf.cast(uniform[0] < self.impulse_probability, tf.float32)
        share = has_impulses * self.max_impulse_share * uniform[1]
        pixel = tf.random.stateless_uniform([batch, height, width, 1], pixel_seed)
        impulse = tf.where(pixel < share / 2, 0.0, 1.0)
        return tf.where(pixel < share, impulse, images)

    def _compress(self, images, seed):
        uniform = tf.random.stateless_uniform([2, tf.shape(images)[0]], seed)
        low, high = self.jpeg_quality_range
        compressed = compress_jpeg(images, low + (high - low) * uniform[0])
        is_file = tf.reshape(uniform[1] < self.jpeg_probability, [-1, 1, 1, 1])
        return tf.where(is_file, compressed, images)

    def _unit_field(self, images, blur_sigma, seed):
        """Returns normal values of unit variance, blurred by sigmas [B]."""
        batch, height, width, channels = tf.unstack(tf.shape(images))
        radius = int(np.ceil(4 * self.blur_range[1]))
        shape = [batch, channels, height + 2 * radius, width + 2 * radius]
        field = tf.random.stateless_normal(shape, seed)
        if images.shape[-1] != 1:
            field = self._share(field, tf.random.fold_in(seed, 1))
        field = tf.matmul(_blur_matrix(height, radius, blur_sigma), field)
        blur = _blur_matrix(width, radius, blur_sigma)
        field = tf.matmul(field, blur, transpose_b=True)
        return tf.transpose(field, [0, 2, 3, 1])

    def _share(self, field, seed):
        """Adds a common part to the channels of a field [B, C, H, W] at random."""
        batch, _, height, width = tf.unstack(tf.shape(field))
        level_seed, common_seed = tf.unstack(tf.random.split(seed, 2))
        uniform = tf.random.stateless_uniform([2, batch, 1, 1, 1], level_seed)
        has_common = tf.cast(uniform[0] < self.shared_probability, tf.float32)
        correlation = has_common * uniform[1]
        common = tf.random.stateless_normal([batch, 1, height, width], common_seed)
        return tf.sqrt(1 - correlation) * field + tf.sqrt(correlation) * common


def _blur_matrix(size, radius, blur_sigma):
    """Returns matrices [B, 1, size, size + 2 radius] that blur; sigma 0 copies.

    The rows have unit norm, so that white noise keeps its variance.
    """
    offset = tf.range(size + 2 * radius) - tf.range(size)[:, tf.newaxis] - radius
    distance = tf.cast(offset, tf.float32) / tf.maximum(
        blur_sigma[:, tf.newaxis, tf.newaxis, tf.newaxis], 1e-2
    )
    return tf.math.l2_normalize(tf.exp(-0.5 * distance**2), axis=-1)
