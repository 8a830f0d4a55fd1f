"""Space to depth and back, on any Keras backend."""

from __future__ import annotations

import tensorflow as tf
from keras import ops

__all__ = ["depth_to_space", "space_to_depth"]


def space_to_depth(images: tf.Tensor, factor: int) -> tf.Tensor:
    """Turns [batch, H f, W f, C] into [batch, H, W, f f C]."""
    if factor == 1:
        return images
    _, height, width, channels = ops.shape(images)
    height, width = height // factor, width // factor
    blocks = ops.reshape(images, (-1, height, factor, width, factor, channels))
    blocks = ops.transpose(blocks, (0, 1, 3, 2, 4, 5))
    return ops.reshape(blocks, (-1, height, width, factor * factor * channels))


def depth_to_space(features: tf.Tensor, factor: int) -> tf.Tensor:
    """Turns [batch, H, W, f f C] into [batch, H f, W f, C]."""
    if factor == 1:
        return features
    _, height, width, channels = ops.shape(features)
    channels = channels // factor**2
    blocks = ops.reshape(features, (-1, height, width, factor, factor, channels))
    blocks = ops.transpose(blocks, (0, 1, 3, 2, 4, 5))
    return ops.reshape(blocks, (-1, height * factor, width * factor, channels))
