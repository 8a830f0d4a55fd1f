"""Weights of the invertible 1x1 convolution."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from tensorflow import linalg

from tfflowdn.layers.parameters import Parameters

__all__ = ["PLUParameters"]


@keras.saving.register_keras_serializable("tfflowdn")
class PLUParameters(Parameters):
    """Owns the factors of a C x C matrix P L U (Kingma and Dhariwal 2018, eq. 10).

    Called with images [batch, H, W, C], returns the matrix [C, C], its inverse, by two
    triangular solves, and the logarithm of its determinant's magnitude [], a sum over
    the diagonal of U (no `slogdet`, XLA has none). Permutation and signs are fixed.

    Args:
      log_scale_bound: Largest magnitude of the logs of U's diagonal, nats.
      seed: Seed of the random rotation that the product starts as.
    """

    def __init__(self, log_scale_bound: float = 8.0, seed: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.log_scale_bound = log_scale_bound
        self.seed = seed

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the weights for images [batch, H, W, C]."""
        size = input_shape[-1]
        packed, rows = linalg.lu(_random_rotation(size, self.seed))
        lower = upper = packed.numpy()
        permutation = np.eye(size)[rows.numpy()].T
        diagonal = np.diag(upper)
        self.permutation = self._constant("permutation", permutation)
        self.sign = self._constant("sign", np.sign(diagonal))
        self.lower = self._variable("lower", np.tril(lower, -1))
        self.upper = self._variable("upper", np.triu(upper, 1))
        self.log_diagonal = self._variable("log_diagonal", np.log(np.abs(diagonal)))

    def derive(
        self,
        *,
        permutation: tf.Tensor,
        sign: tf.Tensor,
        lower: tf.Tensor,
        upper: tf.Tensor,
        log_diagonal: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        """Returns matrix, inverse [..., C, C] and log |det| [...]."""
        permutation, sign = map(ops.convert_to_tensor, (permutation, sign))
        log_diagonal = ops.clip(
            log_diagonal, -self.log_scale_bound, self.log_scale_bound
        )
        diagonal = sign * ops.exp(log_diagonal)
        lower = linalg.set_diag(ops.tril(lower, -1), ops.ones_like(sign))
        upper = linalg.set_diag(ops.triu(upper, 1), diagonal)
        inverse = linalg.triangular_solve(lower, linalg.matrix_transpose(permutation))
        inverse = linalg.triangular_solve(upper, inverse, lower=False)
        return permutation @ lower @ upper, inverse, ops.sum(log_diagonal, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = {"log_scale_bound": self.log_scale_bound, "seed": self.seed}
        return {**super().get_config(), **config}

    def _variable(self, name, value, trainable=True):
        return self.add_weight(
            shape=value.shape,
            initializer=lambda shape, dtype: ops.reshape(
                ops.convert_to_tensor(value, dtype), shape
            ),
            trainable=trainable,
            name=name,
        )

    def _constant(self, name, value):
        return self._variable(name, value, trainable=False)


def _random_rotation(size, seed):
    """Returns a random orthogonal matrix [size, size]."""
    normal = np.random.default_rng(seed).normal(size=(size, size))
    return np.linalg.qr(normal)[0]
