"""JPEG compression of pictures in memory, with TensorFlow operations."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

__all__ = ["compress_jpeg"]

_BLOCK = 8
# Quantization steps at quality 50: Annex K of the JPEG standard (ITU-T T.81).
_LUMA_STEPS = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
)
_CHROMA_STEPS = np.full([_BLOCK, _BLOCK], 99, np.float32)
_CHROMA_STEPS[:4, :4] = [
    [17, 18, 24, 47],
    [18, 21, 26, 66],
    [24, 26, 56, 99],
    [47, 66, 99, 99],
]
# ITU-R BT.601; the rows are Y, Cb and Cr.
_YCC_OF_RGB = np.array(
    [
        [0.299, 0.587, 0.114],
        [-0.299 / 1.772, -0.587 / 1.772, 0.5],
        [0.5, -0.587 / 1.402, -0.114 / 1.402],
    ]
)


def compress_jpeg(images: tf.Tensor, quality: tf.Tensor | float) -> tf.Tensor:
    """Quantizes pictures as a JPEG file does, with chroma at half size (4:2:0).

    Unlike in a file, values are neither clipped to [0, 1] nor rounded to 8 bits:
    clipping would change the mean of noisy pictures. Without clipping, a file differs
    only by the rounding.

    Args:
      images: Floats [B, H, W, C] in units of [0, 1], C 1 or 3; H and W may be dynamic.
      quality: 1 to 100 on the scale of the IJG library, a number or [B].

    Returns:
      Images of the same shape and dtype.

    Raises:
      ValueError: If C is neither 1 nor 3.
    """
    images = tf.convert_to_tensor(images)
    channels = images.shape[-1]
    if channels not in (1, 3):
        raise ValueError(f"Pictures must have 1 or 3 channels. Received: {channels=}.")
    levels = 255 * images - 128  # Mid-gray is level 0.
    if channels == 1:
        levels = _quantize(levels, _steps(_LUMA_STEPS, quality, images.dtype))
    else:
        levels = _quantize_colors(levels, quality)
    return tf.ensure_shape((levels + 128) / 255, images.shape)


def _quantize_colors(levels, quality):
    dtype, size = levels.dtype, tf.shape(levels)[1:3]
    ycc = tf.tensordot(levels, tf.constant(_YCC_OF_RGB.T, dtype), 1)
    luma = _quantize(ycc[..., :1], _steps(_LUMA_STEPS, quality, dtype))
    chroma = _pad_to_multiple(ycc[..., 1:], 2)
    halved = tf.nn.avg_pool2d(chroma, 2, 2, "VALID")
    halved = _quantize(halved, _steps(_CHROMA_STEPS, quality, dtype))
    chroma = tf.cast(tf.image.resize(halved, tf.shape(chroma)[1:3]), dtype)
    ycc = tf.concat([luma, chroma[:, : size[0], : size[1]]], axis=-1)
    return tf.tensordot(ycc, tf.constant(np.linalg.inv(_YCC_OF_RGB).T, dtype), 1)


def _steps(table, quality, dtype):
    """Returns the quantization steps of a quality, [1 or B, 1, 1, 1, 8, 8]."""
    quality = tf.reshape(tf.cast(quality, dtype), [-1, 1, 1])
    percent = tf.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    steps = tf.floor((percent * tf.constant(table, dtype) + 50) / 100)
    steps = tf.clip_by_value(steps, 1, 255)
    return steps[:, tf.newaxis, tf.newaxis, tf.newaxis]


def _quantize(levels, steps):
    """Rounds the cosine transform of the blocks of [B, H, W, C] to the steps."""
    size, channels = tf.shape(levels)[1:3], levels.shape[-1]
    padded = _pad_to_multiple(levels, _BLOCK)
    shape = tf.shape(padded)
    rows, cols = shape[1] // _BLOCK, shape[2] // _BLOCK
    blocks = tf.reshape(padded, [-1, rows, _BLOCK, cols, _BLOCK, channels])
    cosines = tf.constant(_cosines(), levels.dtype)
    spectrum = tf.einsum("brycxk,vy,ux->brckvu", blocks, cosines, cosines)
    spectrum = steps * tf.round(spectrum / steps)
    blocks = tf.einsum("brckvu,vy,ux->brycxk", spectrum, cosines, cosines)
    return tf.reshape(blocks, shape)[:, : size[0], : size[1]]


def _pad_to_multiple(images, multiple):
    """Repeats the last row and column until `multiple` divides the size."""
    for axis in (1, 2):
        size = tf.shape(images)[axis]
        index = tf.range(-(-size // multiple) * multiple)
        images = tf.gather(images, tf.minimum(index, size - 1), axis=axis)
    return images


def _cosines():
    """Returns the matrix of the orthonormal cosine transform, [frequency, pixel]."""
    frequency, pixel = np.mgrid[:_BLOCK, :_BLOCK]
    matrix = np.cos(np.pi * (2 * pixel + 1) * frequency / (2 * _BLOCK))
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
