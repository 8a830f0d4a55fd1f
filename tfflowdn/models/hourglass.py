"""The hourglass network with skip connections, whose shape prefers natural pictures."""

from __future__ import annotations

import keras
import tensorflow as tf

__all__ = ["hourglass"]


def hourglass(
    input_shape: tuple[int, int, int],
    channels: int,
    *,
    widths: tuple[int, ...] = (32, 64, 64, 64, 64),
    skip_channels: int = 4,
    precision: str = "float32",
    seed: int = 0,
) -> keras.Model:
    """Returns a new network from features to pictures of the same size.

    Each level halves the size by a convolution, and enlarges it again by bilinear
    interpolation (Ulyanov et al. 2018, arXiv 1711.10925). Features are normalized in
    each picture, and the output lies between 0 and 1.

    Args:
      input_shape: Height, width and channels of the input.
      channels: Channels of the output.
      widths: Channels of each level.
      skip_channels: Channels that connect the two sides of each level; 0 for no
        connection.
      precision: Keras dtype policy of the convolutions, "float32" or "mixed_bfloat16".
      seed: Seed of the weights.
    """
    layer = _Layers(precision, seed)
    features = inputs = keras.Input(input_shape, dtype="float32")
    skips, sizes = [], []
    for width in widths:
        sizes.append(features.shape[1:3])
        skips.append(layer(features, skip_channels, 1) if skip_channels else None)
        features = layer(features, width, 3, strides=2)
        features = layer(features, width, 3)
    for width, skip, (height, breadth) in zip(
        reversed(widths), reversed(skips), reversed(sizes), strict=True
    ):
        features = keras.layers.UpSampling2D(2, interpolation="bilinear")(features)
        features = features[:, :height, :breadth]
        if skip is not None:
            features = keras.layers.Concatenate()([features, skip])
        features = layer(features, width, 3)
        features = layer(features, width, 1)
    outputs = keras.layers.Conv2D(
        channels,
        1,
        activation="sigmoid",
        kernel_initializer=keras.initializers.GlorotUniform(seed),
        dtype="float32",
    )(features)
    return keras.Model(inputs, outputs, name="hourglass")


class _Layers:
    """Convolution, normalization and leaky rectifier; each has a seed of its own."""

    def __init__(self, precision: str, seed: int) -> None:
        self._precision = precision
        self._seed = seed

    def __call__(
        self, features: tf.Tensor, width: int, size: int, strides: int = 1
    ) -> tf.Tensor:
        self._seed += 1
        convolved = keras.layers.Conv2D(
            width,
            size,
            strides,
            padding="same",
            use_bias=False,
            kernel_initializer=keras.initializers.HeNormal(self._seed),
            dtype=self._precision,
        )(features)
        # One group for each channel: the statistics of a picture, as batch
        # normalization has them in a batch of one.
        normalized = keras.layers.GroupNormalization(
            groups=-1, epsilon=1e-5, dtype="float32"
        )(convolved)
        return keras.layers.LeakyReLU(0.2)(normalized)
