"""Conditioners: the networks inside of the couplings."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfflowdn.channels import split_channels
from tfflowdn.layers.conv2d import Conv2D
from tfflowdn.layers.pointwise import Pointwise
from tfflowdn.layers.residual_block import ResidualBlock

__all__ = ["Conditioner", "PlainConditioner", "ResidualConditioner"]


@keras.saving.register_keras_serializable("tfflowdn")
class Conditioner(keras.layers.Layer):
    """One convolution that gives a coupling its shift and log-scale.

    Called with images [batch, H, W, C], returns `shift` [batch, H, W, out_channels]
    and `log_scale` of the same shape, within +-`log_scale_bound` (a tanh), or None
    if `affine` is False. The last convolution starts at zero, so that the coupling
    starts as the identity. Subclasses add hidden layers: they override
    `make_hidden_layers`.

    Args:
      out_channels: Channels of shift and of log_scale.
      hidden_channels: Width of the hidden layers.
      affine: Whether there is a log-scale.
      log_scale_bound: Largest magnitude of the log-scale, nats.
      patch_gradients: Whether the first and the last convolution compute their
        gradients as products with patches, see `conv2d`. The results are the same.
      seed: Seed of the weights.
      **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(
        self,
        out_channels: int,
        *,
        hidden_channels: int = 64,
        affine: bool = True,
        log_scale_bound: float = 2.0,
        patch_gradients: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.out_channels = out_channels
        self.hidden_channels = hidden_channels
        self.affine = affine
        self.log_scale_bound = log_scale_bound
        self.patch_gradients = patch_gradients
        self.seed = seed
        self.hidden_layers = self.make_hidden_layers()
        self.last = Conv2D(
            out_channels * (2 if affine else 1),
            3,
            patch_gradients=patch_gradients,
            kernel_initializer="zeros",
            dtype=self.dtype_policy,
            name="last",
        )

    def make_hidden_layers(self) -> list[keras.layers.Layer]:
        """Returns the layers before the last convolution, in order."""
        return []

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Builds every layer for images [batch, H, W, C]."""
        shape = tuple(input_shape)
        for layer in [*self.hidden_layers, self.last]:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Returns (shift, log_scale or None)."""
        hidden = images
        for layer in self.hidden_layers:
            hidden = layer(hidden)
        out = ops.cast(self.last(hidden), self.variable_dtype)
        if not self.affine:
            return out, None
        shift, log_scale = split_channels(out, 2)
        bound = self.log_scale_bound
        return shift, bound * ops.tanh(log_scale / bound)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = {
            "out_channels": self.out_channels,
            "hidden_channels": self.hidden_channels,
            "affine": self.affine,
            "log_scale_bound": self.log_scale_bound,
            "patch_gradients": self.patch_gradients,
            "seed": self.seed,
        }
        return {**super().get_config(), **config}

    def _first_convolution(self):
        return Conv2D(
            self.hidden_channels,
            3,
            patch_gradients=self.patch_gradients,
            activation="relu",
            kernel_initializer=keras.initializers.HeNormal(self.seed),
            dtype=self.dtype_policy,
            name="first",
        )


@keras.saving.register_keras_serializable("tfflowdn")
class PlainConditioner(Conditioner):
    """Conditioner of Glow: a 3x3, a 1x1 and a 3x3 convolution."""

    def make_hidden_layers(self) -> list[keras.layers.Layer]:
        """Returns the first two convolutions."""
        middle = Pointwise(
            self.hidden_channels,
            activation="relu",
            kernel_initializer=keras.initializers.HeNormal(self.seed + 1),
            dtype=self.dtype_policy,
            name="middle",
        )
        return [self._first_convolution(), middle]


@keras.saving.register_keras_serializable("tfflowdn")
class ResidualConditioner(Conditioner):
    """Conditioner of RealNVP: residual blocks between two 3x3 convolutions.

    Args:
      out_channels: Channels of shift and of log_scale.
      num_residual_blocks: Number of blocks of two 3x3 convolutions.
      **kwargs: Further arguments of `Conditioner`.
    """

    def __init__(
        self, out_channels: int, *, num_residual_blocks: int = 1, **kwargs: Any
    ) -> None:
        self.num_residual_blocks = num_residual_blocks  # The base makes the layers.
        super().__init__(out_channels, **kwargs)

    def make_hidden_layers(self) -> list[keras.layers.Layer]:
        """Returns the first convolution and the blocks."""
        blocks = [
            ResidualBlock(
                self.hidden_channels,
                preactivated=True,
                seed=self.seed + index,
                dtype=self.dtype_policy,
                name=f"block_{index}",
            )
            for index in range(self.num_residual_blocks)
        ]
        return [self._first_convolution(), *blocks]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = {"num_residual_blocks": self.num_residual_blocks}
        return {**super().get_config(), **config}
