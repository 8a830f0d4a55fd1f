"""Generic noise of random kind and level, for training."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfflowdn.noise.jpeg import compress_jpeg

__all__ = ["GenericNoise"]


class GenericNoise:
    """Noise of random kind and level, for training without knowledge of the noise.

    Each picture of a batch gets x + sqrt(gain * max(x, 0) + read_sigma^2) * n with

    * read_sigma uniform in [0, max_sigma];
    * gain = gain_sigma^2, gain_sigma (its sigma where x = 1) uniform in [0, max_sigma]
      with `gain_probability`, else 0;
    * n standard normal: white, or with `correlated_probability` blurred by a Gaussian
      of blur_sigma uniform in `blur_range` and scaled back to unit variance;
    * in colour, n of each channel on its own, or with `shared_probability` with a
      correlation uniform in [0, 1] between the channels, as cameras leave it;

    and with `jpeg_probability` is then quantised as JPEG files are, at a quality
    uniform in `jpeg_quality_range`.

    Args:
      max_sigma: Largest read and gain sigma, in the units of the image.
      gain_probability: Share of pictures whose noise depends on the signal.
      correlated_probability: Share of pictures with spatially correlated noise.
      blur_range: Smallest and largest blur_sigma, pixels.
      shared_probability: Share of colour pictures whose channels have noise in common.
      jpeg_probability: Share of pictures that are compressed, see `compress_jpeg`.
      jpeg_quality_range: Smallest and largest quality, within 1 to 100.

    Raises:
      ValueError: A parameter is out of its range.
    """

    def __init__(
        self,
        *,
        max_sigma: float = 50 / 255,
        gain_probability: float = 0.5,
        correlated_probability: float = 0.25,
        blur_range: tuple[float, float] = (0.3, 1.5),
        shared_probability: float = 0.5,
        jpeg_probability: float = 0.0,
        jpeg_quality_range: tuple[float, float] = (60, 98),
    ):
        if max_sigma <= 0:
            raise ValueError(f"max_sigma must be positive. Received: {max_sigma=}.")
        probabilities = {
            "gain_probability": gain_probability,
            "correlated_probability": correlated_probability,
            "shared_probability": shared_probability,
            "jpeg_probability": jpeg_probability,
        }
        for name, probability in probabilities.items():
            if not 0 <= probability <= 1:
                raise ValueError(
                    f"{name} must be in [0, 1]. Received: {name}={probability}."
                )
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
        self.jpeg_probability = jpeg_probability
        self.jpeg_quality_range = tuple(jpeg_quality_range)

    def __call__(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Adds noise, a function of the arguments alone.

        Args:
          images: float32 [B, H, W, C], units of [0, 1]; any dimension may be dynamic.
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
        if self.jpeg_probability:
            noisy = self._compress(noisy, tf.random.fold_in(seed, 2))
        return tf.ensure_shape(noisy, images.shape)

    def _compress(self, images, seed):
        uniform = tf.random.stateless_uniform([2, tf.shape(images)[0]], seed)
        low, high = self.jpeg_quality_range
        compressed = compress_jpeg(images, low + (high - low) * uniform[0])
        is_file = tf.reshape(uniform[1] < self.jpeg_probability, [-1, 1, 1, 1])
        return tf.where(is_file, compressed, images)

    def _unit_field(
        self, images: tf.Tensor, blur_sigma: tf.Tensor, seed: tf.Tensor
    ) -> tf.Tensor:
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
        """Returns a field [B, C, H, W] whose channels have some of a common one."""
        batch, _, height, width = tf.unstack(tf.shape(field))
        level_seed, common_seed = tf.unstack(tf.random.split(seed, 2))
        uniform = tf.random.stateless_uniform([2, batch, 1, 1, 1], level_seed)
        has_common = tf.cast(uniform[0] < self.shared_probability, tf.float32)
        correlation = has_common * uniform[1]
        common = tf.random.stateless_normal([batch, 1, height, width], common_seed)
        return tf.sqrt(1 - correlation) * field + tf.sqrt(correlation) * common


def _blur_matrix(size: tf.Tensor, radius: int, blur_sigma: tf.Tensor) -> tf.Tensor:
    # Rows of unit norm: white noise of unit variance keeps it. Sigma 0 is a copy.
    offset = tf.range(size + 2 * radius) - tf.range(size)[:, tf.newaxis] - radius
    distance = tf.cast(offset, tf.float32) / tf.maximum(
        blur_sigma[:, tf.newaxis, tf.newaxis, tf.newaxis], 1e-2
    )
    matrix = tf.exp(-0.5 * distance**2)  # [B, 1, size, size + 2 radius]
    return tf.math.l2_normalize(matrix, axis=-1)
