"""Weights of an ActNorm and of the invertible 1x1 convolution after it."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfflowdn.layers.act_norm import ActNormParameters
from tfflowdn.layers.parameters import Parameters
from tfflowdn.layers.plu import PLUParameters

__all__ = ["NormalizedPLUParameters"]


@keras.saving.register_keras_serializable("tfflowdn")
class NormalizedPLUParameters(Parameters):
    """Owns the weights of an ActNorm and of the 1x1 convolution after it.

    They begin a step of Glow (Kingma and Dhariwal 2018, section 3), and are one layer
    so that a `WeightStack` folds all steps at once. Called with images [batch,
    H, W, C], returns both as one map: the matrix `M = diag(scale) P L U` [C, C], the
    offset `shift M` [C], the inverse of M, `shift` [C] and log |det M| [].

    Args:
      seed: Seed of the random rotation that P L U starts as.
    """

    def __init__(self, seed: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.seed = seed
        self.act_norm = ActNormParameters(dtype=self.dtype_policy)
        self.plu = PLUParameters(seed=seed, dtype=self.dtype_policy)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the weights for images [batch, H, W, C]."""
        self.act_norm.build(input_shape)
        self.plu.build(input_shape)

    def derive(
        self,
        *,
        shift: tf.Tensor,
        log_scale: tf.Tensor,
        initialized: tf.Tensor,
        **plu: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        """Returns matrix, offset, inverse, shift and log |det|, [..., of each]."""
        shift, scale, norm_log_det = self.act_norm.derive(
            shift=shift, log_scale=log_scale, initialized=initialized
        )
        rotation, inverse, log_det = self.plu.derive(**plu)
        matrix = scale[..., None] * rotation
        offset = ops.sum(shift[..., None] * matrix, axis=-2)
        inverse = inverse / scale[..., None, :]
        return matrix, offset, inverse, shift, norm_log_det + log_det

    def initialize(self, images: tf.Tensor) -> None:
        """Sets the ActNorm so that its output is standardized."""
        self.act_norm.initialize(images)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "seed": self.seed}
