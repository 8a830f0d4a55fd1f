"""Base of the layers whose weights are the parameters of a map of the channels."""

from __future__ import annotations

import abc

import keras
import tensorflow as tf

__all__ = ["Parameters"]


class Parameters(keras.layers.Layer, abc.ABC):
    """Owns weights and returns tensors derived from them, independent of the images.

    Subclasses write `derive`. It takes leading dimensions, so that a `WeightStack`
    calls it once for all of its copies.
    """

    @abc.abstractmethod
    def derive(self, **weights: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Returns tensors from the weights, given by name, with leading dimensions."""

    def call(self, images: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Returns the derived tensors; the images do not matter."""
        del images
        return self.derive(**{variable.name: variable for variable in self.variables})
