"""The uncertainty of a denoised pixel, predicted by a small network."""

from __future__ import annotations

import hashlib
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfflowdn.layers import depth_to_space, mirror_pad, space_to_depth
from tfflowdn.saving import Versioned

__all__ = [
    "COVERAGES",
    "UncertaintyNetwork",
    "WithUncertainty",
    "coverage_loss",
    "fingerprint",
]

COVERAGES = {1.0: 0.6827, 2.0: 0.9545}
"""Shares of a normal distribution within so many standard deviations."""

SMALLEST_STD = 0.1 / 255
SMALLEST_ERROR = 0.02 / 255  # Smaller errors do not count; a logarithm needs a limit.


@keras.saving.register_keras_serializable("tfflowdn")
class UncertaintyNetwork(Versioned):
    """Predicts the standard deviation of the error of each denoised pixel.

    It sees the denoised picture D and the difference N - D of the noisy picture. Its
    convolutions have no biases, and its output is the root mean square of some
    features. So pictures and noise of twice the contrast have twice the deviation.

    Args:
      channels: Channels of the pictures.
      hidden_channels: Width of the convolutions.
      num_layers: Number of hidden 3x3 convolutions.
      num_features: Features whose root mean square is the standard deviation.
      scale: Factor by which pictures are squeezed (space to depth).
      seed: Seed of the weights.
      denoiser: The `fingerprint` of the denoiser whose errors it predicts; None if this
        is not known.
      **kwargs: Arguments of `keras.Model`.
    """

    def __init__(
        self,
        channels: int = 1,
        *,
        hidden_channels: int = 32,
        num_layers: int = 4,
        num_features: int = 2,
        scale: int = 2,
        seed: int = 0,
        denoiser: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.channels = channels
        self.denoiser = denoiser
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.num_features = num_features
        self.scale = scale
        self.seed = seed
        self.hidden = [self._conv(hidden_channels, i) for i in range(num_layers)]
        self.tail = self._conv(num_features * channels * scale**2, num_layers)
        shape = (None, None, None, channels)
        self.build([shape, shape])

    def _conv(self, filters: int, index: int) -> keras.layers.Layer:
        is_tail = index == self.num_layers
        return keras.layers.Conv2D(
            filters,
            3,
            padding="same",
            data_format="channels_last",
            use_bias=False,
            activation=None if is_tail else "relu",
            kernel_initializer=keras.initializers.HeNormal(self.seed + index),
            dtype="float32",
            name="tail" if is_tail else f"hidden_{index}",
        )

    @property
    def receptive_radius(self) -> int:
        """Largest distance in pixels from which an output pixel is influenced."""
        return self.scale * (self.num_layers + 1) + self.scale - 1

    def build(self, input_shape: Any) -> None:
        """Builds every convolution."""
        *sizes, channels = input_shape[0]
        width = 2 * channels * self.scale**2
        for layer in (*self.hidden, self.tail):
            layer.build((*sizes, width))
            width = self.hidden_channels
        self.built = True

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """Returns the standard deviations, in the shape of one input.

        Args:
          inputs: (denoised, noisy), each [batch, H, W, channels] in [0, 1] units.
        """
        denoised, noisy = inputs
        _, height, width, channels = ops.shape(noisy)
        both = ops.concatenate([denoised, noisy - denoised], axis=-1)
        hidden = space_to_depth(self._pad(self._pad(both, 1), 2), self.scale)
        for layer in self.hidden:
            hidden = layer(hidden)
        features = depth_to_space(self.tail(hidden), self.scale)[:, :height, :width]
        squares = sum(
            ops.square(part) for part in ops.split(features, self.num_features, axis=-1)
        )
        return ops.sqrt(squares / self.num_features + SMALLEST_STD**2)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the shape of one input."""
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = {
            "channels": self.channels,
            "hidden_channels": self.hidden_channels,
            "num_layers": self.num_layers,
            "num_features": self.num_features,
            "scale": self.scale,
            "seed": self.seed,
            "denoiser": self.denoiser,
        }
        return {**super().get_config(), **config}

    def belongs_to(self, denoiser: keras.Model) -> bool:
        """Returns whether it was trained on the errors of a denoiser, if known."""
        known = fingerprint(denoiser)
        return self.denoiser is None or known is None or self.denoiser == known

    def _pad(self, images: tf.Tensor, axis: int) -> tf.Tensor:
        missing = (self.scale - 1) - (ops.shape(images)[axis] - 1) % self.scale
        return mirror_pad(images, axis, 0, missing)


class WithUncertainty(keras.Model):
    """A frozen denoiser and an UncertaintyNetwork, with the output of both.

    The output [batch, H, W, channels, 2] has the denoised pictures and their standard
    deviations. Training changes the weights of the UncertaintyNetwork only.

    Args:
      denoiser: A network from noisy pictures to denoised ones.
      uncertainty: An UncertaintyNetwork for as many channels.
      **kwargs: Arguments of `keras.Model`.

    Attributes:
      channels: Channels of the pictures.

    Raises:
      ValueError: If the denoiser has another number of channels.
    """

    def __init__(
        self, denoiser: keras.Model, uncertainty: UncertaintyNetwork, **kwargs: Any
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.channels = uncertainty.channels
        channels = getattr(denoiser, "channels", self.channels)
        if channels != self.channels:
            raise ValueError(
                "uncertainty must have the channels of the denoiser. Received: "
                f"denoiser.channels={channels}, {uncertainty.channels=}."
            )
        denoiser.trainable = False
        self.denoiser = denoiser
        self.uncertainty = uncertainty
        self.built = True

    def call(self, noisy: tf.Tensor) -> tf.Tensor:
        """Returns denoised pictures and standard deviations in one tensor."""
        denoised = ops.cast(self.denoiser(noisy, training=False), noisy.dtype)
        std = self.uncertainty((denoised, noisy))
        return ops.stack([denoised, std], axis=-1)


def fingerprint(network: keras.Model) -> str | None:
    """Returns a short hash of the weights of a network; None if it has none."""
    weights = network.get_weights()
    if not weights:
        return None
    digest = hashlib.sha256()
    for weight in weights:
        digest.update(weight.astype("float32").tobytes())
    return digest.hexdigest()[:16]


def coverage_loss(clean: tf.Tensor, predicted: tf.Tensor) -> tf.Tensor:
    """Is least where the standard deviations cover the errors as a normal would.

    It is the sum, over `COVERAGES`, of the quantile loss (Koenker and Bassett 1978) of
    the logarithm of the error. In the logarithm, weak and strong noise count alike.

    Args:
      clean: [batch, H, W, C].
      predicted: The output of WithUncertainty, [batch, H, W, C, 2].

    Returns:
      The loss of each pixel, [batch, H, W].
    """
    denoised, std = predicted[..., 0], predicted[..., 1]
    error = ops.log(ops.maximum(ops.abs(clean - denoised), SMALLEST_ERROR))
    loss = 0.0
    for factor, coverage in COVERAGES.items():
        over = error - ops.log(factor * std)
        loss += ops.maximum(coverage * over, (coverage - 1) * over)
    return ops.mean(loss, axis=-1)
