"""ResNetDenoiser, the default network."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfflowdn.devices import map_shards
from tfflowdn.layers import ResidualBlock, depth_to_space, mirror_pad, space_to_depth
from tfflowdn.layers.local_noise import REACH, bound_change
from tfflowdn.models.network import DenoisingNetwork

__all__ = ["ResNetDenoiser"]


@keras.saving.register_keras_serializable("tfflowdn")
class ResNetDenoiser(DenoisingNetwork):
    """A residual network without normalization: noisy pictures plus a correction.

    It maps pictures [batch, H, W, channels] of any size to the same shape. The
    correction is zero before training. With `residual=False` the output is the
    correction only, as blind-spot training needs it: a path around the network would
    carry the noise of a pixel to the output (Hoeck et al. 2022, arXiv 2211.08512).

    Without biases the network is homogeneous, f(a x) = a f(x), and generalizes to noise
    levels that it was not trained on (Mohan et al. 2020, arXiv 1906.05478).

    Except in training, the change of a pixel is bounded by the local level of the
    noise, see `layers.bound_change`, so that constant areas stay as they are.

    On a CPU it trains faster in `num_shards` parts of each batch, see FlowPrior.

    Args:
      channels: Channels of the pictures.
      num_blocks: Number of residual blocks, with two 3x3 convolutions each.
      hidden_channels: Width of the blocks.
      scale: Factor by which pictures are squeezed (space to depth) before the blocks.
        Sizes that it does not divide are padded by mirroring and cropped afterwards.
      use_bias: Whether the convolutions have biases.
      residual: Whether the noisy pictures are added to the output.
      precision: Keras dtype policy of the blocks, "float32" or "mixed_bfloat16". The
        weights and the output are float32 in both.
      pixel_range: The pixel values of the training pictures that became 0 and 1, see
        DenoisingNetwork.
      seed: Seed of the weights.
      **kwargs: Arguments of `keras.Model`.

    Raises:
      ValueError: If `pixel_range` is not valid.
    """

    def __init__(
        self,
        channels: int = 1,
        *,
        num_blocks: int = 5,
        hidden_channels: int = 64,
        scale: int = 2,
        use_bias: bool = False,
        residual: bool = True,
        precision: str = "float32",
        pixel_range: str = "dtype",
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(
            channels,
            scale=scale,
            precision=precision,
            pixel_range=pixel_range,
            **kwargs,
        )
        self.num_blocks = num_blocks
        self.hidden_channels = hidden_channels
        self.use_bias = use_bias
        self.residual = residual
        self.seed = seed
        self.head = keras.layers.Conv2D(
            hidden_channels,
            3,
            padding="same",
            data_format="channels_last",
            use_bias=use_bias,
            kernel_initializer=keras.initializers.HeNormal(seed),
            dtype=precision,
            name="head",
        )
        self.blocks = [
            ResidualBlock(
                hidden_channels,
                use_bias=use_bias,
                seed=seed + 1 + i,
                dtype=precision,
                name=f"block_{i}",
            )
            for i in range(num_blocks)
        ]
        self.tail = keras.layers.Conv2D(
            channels * scale**2,
            3,
            padding="same",
            data_format="channels_last",
            use_bias=use_bias,
            kernel_initializer="zeros",
            dtype="float32",
            name="tail",
        )
        self.build((None, None, None, channels))

    @property
    def receptive_radius(self) -> int:
        """See DenoisingNetwork."""
        radius = self.scale * (2 * self.num_blocks + 2) + self.scale - 1
        return max(radius, REACH)

    def build(self, input_shape: tuple) -> None:
        """Builds every convolution."""
        *sizes, channels = input_shape
        hidden_shape = (*sizes, self.hidden_channels)
        self.head.build((*sizes, channels * self.scale**2))
        for block in self.blocks:
            block.build(hidden_shape)
        self.tail.build(hidden_shape)
        self.built = True

    def call(self, noisy: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns the denoised pictures.

        Raises:
          ValueError: If `noisy` has another number of channels than the network.
        """
        if noisy.shape[-1] != self.channels:
            raise ValueError(
                f"noisy must be [batch, H, W, {self.channels}] for this network. "
                f"Received: noisy.shape={tuple(noisy.shape)}."
            )
        denoised = map_shards(self._denoise, noisy, self.num_shards)
        return denoised if training else bound_change(noisy, denoised)

    def _denoise(self, noisy: tf.Tensor) -> tf.Tensor:
        _, height, width, _ = ops.shape(noisy)
        padded = self._pad(self._pad(noisy, 1), 2)
        hidden = self.head(space_to_depth(padded, self.scale))
        for block in self.blocks:
            hidden = block(hidden)
        correction = depth_to_space(self.tail(hidden), self.scale)
        correction = correction[:, :height, :width]
        return noisy + correction if self.residual else correction

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = {
            "num_blocks": self.num_blocks,
            "hidden_channels": self.hidden_channels,
            "use_bias": self.use_bias,
            "residual": self.residual,
            "seed": self.seed,
        }
        return {**super().get_config(), **config}

    def _pad(self, noisy: tf.Tensor, axis: int) -> tf.Tensor:
        size = noisy.shape[axis]
        if size is not None and size % self.scale == 0:
            return noisy
        # Equal to -size % scale; ONNX truncates the division of negative numbers.
        missing = (self.scale - 1) - (ops.shape(noisy)[axis] - 1) % self.scale
        return mirror_pad(noisy, axis, 0, missing)
