"""Variational dequantisation: learned noise within the 8-bit step of a pixel."""

from __future__ import annotations

import keras
from keras import ops

from tfflowdn.layers.conditioner import Conditioner
from tfflowdn.layers.pixel_shuffle import depth_to_space, space_to_depth

__all__ = ["VariationalDequantizer"]


@keras.saving.register_keras_serializable("tfflowdn")
class VariationalDequantizer(keras.layers.Layer):
    """Conditional flow of the dequantisation noise (Ho et al. 2019, 1902.00275, 3.1).

    Called with 8-bit images [batch, H, W, C] in [0, 1], H and W even, and with uniform
    noise in (-1/2, 1/2) of the same shape, returns noise in (-1/2, 1/2), units of the
    8-bit step, and the log-det [batch] of the map from the one to the other. So the
    log-density of the returned noise is minus that log-det. The map: logit, affine
    couplings over the channels of the squeezed noise, conditioned on the image, and
    sigmoid. It starts as the identity, that is as uniform dequantisation.

    Args:
      num_couplings: Number of couplings.
      hidden_channels: Width of their conditioners.
      log_scale_bound: Largest magnitude of a coupling's log-scale, nats.
      seed: Seed of the weights.
    """

    def __init__(
        self,
        num_couplings: int = 4,
        hidden_channels: int = 32,
        log_scale_bound: float = 2.0,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_couplings = num_couplings
        self.hidden_channels = hidden_channels
        self.log_scale_bound = log_scale_bound
        self.seed = seed

    def build(self, input_shape):
        """Makes and builds the conditioners for images [batch, H, W, C]."""
        *sizes, channels = input_shape
        self.conditioners = [
            Conditioner(
                2 * channels,
                self.hidden_channels,
                log_scale_bound=self.log_scale_bound,
                seed=self.seed + 101 * i,
                dtype=self.dtype_policy,
                name=f"conditioner_{i}",
            )
            for i in range(self.num_couplings)
        ]
        for conditioner in self.conditioners:
            conditioner.build((*sizes, (2 + 8) * channels))

    def call(self, images, noise):
        """Returns (noise, log_det)."""
        uniform_logits = _logit(noise + 0.5)
        a, b = ops.split(space_to_depth(uniform_logits, 2), 2, axis=-1)
        context = _context(images)
        log_det = -_sum(_log_sigmoid_slope(uniform_logits))
        for conditioner in self.conditioners:
            inputs = ops.concatenate([a, context], axis=-1)
            shift, log_scale = conditioner(inputs)
            a, b = b * ops.exp(log_scale) + shift, a
            log_det += _sum(log_scale)
        if self.num_couplings % 2:
            a, b = b, a
        logits = depth_to_space(ops.concatenate([a, b], axis=-1), 2)
        log_det += _sum(_log_sigmoid_slope(logits))
        return ops.sigmoid(logits) - 0.5, log_det

    def get_config(self):
        """Returns the constructor's arguments."""
        config = {
            "num_couplings": self.num_couplings,
            "hidden_channels": self.hidden_channels,
            "log_scale_bound": self.log_scale_bound,
            "seed": self.seed,
        }
        return {**super().get_config(), **config}


def _context(images):
    """Returns pixels and, magnified, what tells them from their neighbours' mean."""
    mean = ops.average_pool(images, 3, strides=1, padding="same")
    details = ops.tanh(32 * (images - mean))  # Linear up to some 8-bit steps.
    return space_to_depth(ops.concatenate([images - 0.5, details], axis=-1), 2)


def _logit(probability):
    probability = ops.clip(probability, 1e-6, 1 - 1e-6)
    return ops.log(probability) - ops.log1p(-probability)


def _log_sigmoid_slope(logits):
    return -ops.softplus(logits) - ops.softplus(-logits)


def _sum(values):
    return ops.sum(values, axis=[1, 2, 3])
