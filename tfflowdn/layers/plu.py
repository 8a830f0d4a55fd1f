"""Weights of the invertible 1x1 convolution."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

__all__ = ["PLUParameters"]


@keras.saving.register_keras_serializable("tfflowdn")
class PLUParameters(keras.layers.Layer):
    """Owns the factors of a C x C matrix P L U (Kingma and Dhariwal 2018, eq. 10).

    Called with images [batch, H, W, C], returns `permutation`, `lower` with ones on
    its diagonal, `upper` [C, C], and the logarithm of the magnitude of `upper`'s
    diagonal [C], within +-`log_scale_bound`. Permutation and signs are fixed; the
    product starts as a random rotation.

    Args:
      log_scale_bound: Largest magnitude of the log of the diagonal, nats.
      seed: Seed of the rotation.
    """

    def __init__(self, log_scale_bound: float = 8.0, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.log_scale_bound = log_scale_bound
        self.seed = seed

    def build(self, input_shape):
        """Creates the weights for images [batch, H, W, C]."""
        permutation, lower, upper = _random_rotation(input_shape[-1], self.seed)
        diagonal = np.diag(upper)
        self.permutation = self._constant("permutation", permutation)
        self.sign = self._constant("sign", np.sign(diagonal))
        self.lower = self._variable("lower", np.tril(lower, -1))
        self.upper = self._variable("upper", np.triu(upper, 1))
        self.log_diagonal = self._variable("log_diagonal", np.log(np.abs(diagonal)))

    def call(self, images):
        """Returns permutation, lower, upper [C, C] and log_diagonal [C]."""
        del images
        bound = self.log_scale_bound
        log_diagonal = ops.clip(self.log_diagonal, -bound, bound)
        identity = ops.eye(self.lower.shape[0], dtype=self.compute_dtype)
        lower = ops.tril(self.lower, -1) + identity
        diagonal = identity * (self.sign * ops.exp(log_diagonal))
        upper = ops.triu(self.upper, 1) + diagonal
        return ops.convert_to_tensor(self.permutation), lower, upper, log_diagonal

    def get_config(self):
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
    """Returns P, L, U [size, size] of a random orthogonal matrix."""
    normal = np.random.default_rng(seed).normal(size=(size, size))
    rotation, _ = np.linalg.qr(normal)
    return _plu(rotation)


def _plu(matrix):
    """LU factors with partial pivoting, matrix = P L U."""
    size = len(matrix)
    rows, upper, lower = np.arange(size), matrix.copy(), np.zeros((size, size))
    for k in range(size):
        pivot = k + np.argmax(np.abs(upper[k:, k]))
        for array in (rows, upper, lower):
            array[[k, pivot]] = array[[pivot, k]]
        lower[k + 1 :, k] = upper[k + 1 :, k] / upper[k, k]
        upper[k + 1 :] -= np.outer(lower[k + 1 :, k], upper[k])
    return np.eye(size)[rows].T, lower + np.eye(size), upper
