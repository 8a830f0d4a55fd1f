"""Base of all bijectors of images."""

from __future__ import annotations

import keras
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

__all__ = ["ImageBijector"]


class ImageBijector(tfb.Bijector):
    """Names the layers that own its weights, and initializes them from images.

    A bijector with weights keeps their owner in `layer`. A bijector of bijectors
    overrides `layers` and `initialize`.
    """

    layer: keras.layers.Layer  # Only of a bijector with weights.

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """The Keras layers that own the weights, in order from image to latent."""
        return [self.layer] if hasattr(self, "layer") else []

    def initialize(self, y: tf.Tensor) -> tf.Tensor:
        """Sets the weights that depend on data from a batch of images.

        Args:
          y: Images [batch, H, W, C], a concrete (eager) tensor.

        Returns:
          `inverse(y)`, computed with the new weights.
        """
        return self.inverse(y)
