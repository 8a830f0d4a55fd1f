"""Residual block without normalization."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

__all__ = ["ResidualBlock"]


@keras.saving.register_keras_serializable("tfflowdn")
class ResidualBlock(keras.layers.Layer):
    """x + conv(relu(conv(x))), 3x3, without normalization.

    Features [batch, H, W, channels] to the same shape. The second convolution starts
    at zero, so that the block starts as the identity and a network of any depth
    trains without normalization (Zhang et al. 2019, Fixup).

    Args:
      channels: Channels in and out.
      use_bias: Whether the convolutions have a bias; without, the block is
        homogeneous: f(a x) = a f(x) for a > 0 (Mohan et al. 2020).
      preactivated: Whether there is also a relu before the first convolution.
      seed: Seed of the weights.
    """

    def __init__(
        self,
        channels: int,
        use_bias: bool = True,
        preactivated: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.channels = channels
        self.use_bias = use_bias
        self.preactivated = preactivated
        self.seed = seed
        self.first = keras.layers.Conv2D(
            channels,
            3,
            padding="same",
            data_format="channels_last",
            use_bias=use_bias,
            activation="relu",
            kernel_initializer=keras.initializers.HeNormal(seed),
            dtype=self.dtype_policy,
            name="first",
        )
        self.second = keras.layers.Conv2D(
            channels,
            3,
            padding="same",
            data_format="channels_last",
            use_bias=use_bias,
            kernel_initializer="zeros",
            dtype=self.dtype_policy,
            name="second",
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Builds both convolutions."""
        self.first.build(input_shape)
        self.second.build(input_shape)

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Returns the block's output, of the input's shape."""
        hidden = keras.ops.relu(features) if self.preactivated else features
        return features + self.second(self.first(hidden))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Returns the input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = {
            "channels": self.channels,
            "use_bias": self.use_bias,
            "preactivated": self.preactivated,
            "seed": self.seed,
        }
        return {**super().get_config(), **config}
