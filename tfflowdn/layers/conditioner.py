"""Conditioners: the networks inside of the couplings."""

from __future__ import annotations

import keras
from keras import ops

from tfflowdn.channels import split_channels
from tfflowdn.layers.conv2d import Conv2D
from tfflowdn.layers.gated_block import GatedBlock
from tfflowdn.layers.pointwise import Pointwise
from tfflowdn.layers.residual_block import ResidualBlock

__all__ = ["Conditioner"]


@keras.saving.register_keras_serializable("tfflowdn")
class Conditioner(keras.layers.Layer):
    """Convolutional network that gives a coupling its shift and log-scale.

    Called with images [batch, H, W, C], returns `shift` [batch, H, W, out_channels]
    and `log_scale` of the same shape, within +-`log_scale_bound` (a tanh), or None
    where `affine` is False. The last convolution starts at zero, so that the coupling
    starts as the identity.

    Args:
      out_channels: Channels of shift and of log_scale.
      hidden_channels: Width of the hidden layers.
      num_residual_blocks: Number of residual blocks between the first and the last
        convolution (RealNVP). 0: one 1x1 convolution (Glow); None: nothing, one
        convolution from input to output.
      gated: Whether these blocks are gated ones (Flow++).
      affine: Whether there is a log-scale.
      log_scale_bound: Largest magnitude of the log-scale, nats.
      patch_gradients: Whether the first convolution and the gradients of it and of the
        last one are products with patches, see `conv2d`; results and weights are the
        same.
      seed: Seed of the weights.
    """

    def __init__(
        self,
        out_channels: int,
        hidden_channels: int = 64,
        num_residual_blocks: int | None = 0,
        gated: bool = False,
        affine: bool = True,
        log_scale_bound: float = 2.0,
        patch_gradients: bool = False,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.out_channels = out_channels
        self.hidden_channels = hidden_channels
        self.num_residual_blocks = num_residual_blocks
        self.gated = gated
        self.affine = affine
        self.log_scale_bound = log_scale_bound
        self.patch_gradients = patch_gradients
        self.seed = seed
        self.hidden_layers = self._hidden_layers()
        self.last = Conv2D(
            out_channels * (2 if affine else 1),
            3,
            patch_gradients=patch_gradients,
            kernel_initializer="zeros",
            dtype=self.dtype_policy,
            name="last",
        )

    def build(self, input_shape):
        """Builds every convolution for images [batch, H, W, C]."""
        shape = tuple(input_shape)
        for layer in [*self.hidden_layers, self.last]:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(self, images):
        """Returns (shift, log_scale or None)."""
        return self._shift_and_log_scale(self._features(images))

    def get_config(self):
        """Returns the constructor's arguments."""
        config = {
            "out_channels": self.out_channels,
            "hidden_channels": self.hidden_channels,
            "num_residual_blocks": self.num_residual_blocks,
            "gated": self.gated,
            "affine": self.affine,
            "log_scale_bound": self.log_scale_bound,
            "patch_gradients": self.patch_gradients,
            "seed": self.seed,
        }
        return {**super().get_config(), **config}

    def _features(self, images):
        hidden = images
        for layer in self.hidden_layers:
            hidden = layer(hidden)
        return hidden

    def _shift_and_log_scale(self, hidden):
        out = ops.cast(self.last(hidden), self.variable_dtype)
        if not self.affine:
            return out, None
        shift, log_scale = split_channels(out, 2)
        return shift, self._bounded(log_scale)

    def _bounded(self, values):
        bound = self.log_scale_bound
        return bound * ops.tanh(values / bound)

    def _hidden_layers(self):
        if self.num_residual_blocks is None:
            return []
        first = self._convolution(3, self.seed, "first")
        if self.num_residual_blocks == 0:
            return [first, self._pointwise(self.seed + 1, "middle")]
        return [first, *map(self._block, range(self.num_residual_blocks))]

    def _block(self, index):
        arguments = {"dtype": self.dtype_policy, "name": f"block_{index}"}
        if self.gated:
            return GatedBlock(self.hidden_channels, **arguments)
        return ResidualBlock(
            self.hidden_channels,
            preactivated=True,
            seed=self.seed + index,
            **arguments,
        )

    def _pointwise(self, seed, name):
        return Pointwise(
            self.hidden_channels,
            activation="relu",
            kernel_initializer=keras.initializers.HeNormal(seed),
            dtype=self.dtype_policy,
            name=name,
        )

    def _convolution(self, size, seed, name):
        return Conv2D(
            self.hidden_channels,
            size,
            patch_gradients=self.patch_gradients,
            activation="relu",
            kernel_initializer=keras.initializers.HeNormal(seed),
            dtype=self.dtype_policy,
            name=name,
        )
