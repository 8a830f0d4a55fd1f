"""Padding by mirrored pixels, for any amount and any size."""

from __future__ import annotations

import tensorflow as tf
from keras import ops

__all__ = ["mirror_pad"]


def mirror_pad(
    images: tf.Tensor, axis: int, before: int | tf.Tensor, after: int | tf.Tensor
) -> tf.Tensor:
    """Pads one axis by its mirror image, the edge pixel included.

    The mirror image is mirrored on as often as needed, so that the amount may exceed
    the image's size.

    Args:
      images: Tensor [batch, H, W, C].
      axis: The axis to pad.
      before: Number of pixels to add at the axis' start, a number or a scalar tensor;
        a negative one takes pixels away.
      after: Number of pixels to add at its end, likewise.

    Returns:
      The padded tensor.
    """
    size = ops.shape(images)[axis]
    index = ops.arange(-before, size + after)
    index = ops.maximum(index, -1 - index)  # ONNX has another modulo below 0.
    index = ops.mod(index, 2 * size)
    index = ops.minimum(index, 2 * size - 1 - index)
    return ops.take(images, index, axis=axis)
