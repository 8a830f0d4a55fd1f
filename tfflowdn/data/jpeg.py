"""JPEG compression: of pictures in memory, and how strong that of a file was."""

from collections.abc import Sequence

import tensorflow as tf

__all__ = ["compress_jpeg", "quality_of_table"]

_SUM_AT_50 = 3688  # Of the luminance table in annex K of the JPEG standard.


def compress_jpeg(images: tf.Tensor, quality: int) -> tf.Tensor:
    """Returns pictures as they come back from a JPEG file.

    Args:
      images: [batch, H, W, C] in [0, 1] units, C 1 or 3; they are clipped.
      quality: 1 to 100, on the scale of the IJG library; colours are halved in size.
    """

    def compress(image):
        levels = tf.cast(tf.round(255 * tf.clip_by_value(image, 0, 1)), tf.uint8)
        file = tf.io.encode_jpeg(levels, quality=quality)
        channels = image.shape[-1]
        levels = tf.io.decode_jpeg(file, channels, dct_method="INTEGER_ACCURATE")
        return tf.cast(levels, image.dtype) / 255

    compressed = tf.map_fn(compress, tf.convert_to_tensor(images))
    return tf.ensure_shape(compressed, images.shape)


def quality_of_table(luminance: Sequence[int]) -> int:
    """Returns the quality, 1 to 100, whose table has the mean step of this one.

    Below 25 the steps are cut off at 255, and it is less than that.

    Args:
      luminance: The quantization table of the luminance, 64 numbers.
    """
    percent = 100 * sum(luminance) / _SUM_AT_50
    quality = (200 - percent) / 2 if percent <= 100 else 5000 / percent
    return min(100, max(1, round(quality)))
