"""DenoisingNetwork, the base class of the networks that can be trained."""

from __future__ import annotations

import abc
from typing import Any

from tfflowdn.data import check_range
from tfflowdn.saving import Versioned

__all__ = ["DenoisingNetwork"]


class DenoisingNetwork(Versioned, abc.ABC):
    """A network from noisy pictures [batch, H, W, channels] to denoised ones.

    A subclass takes these arguments by keyword, calls this constructor with them, adds
    its own arguments to `get_config`, and defines `call` and `receptive_radius`. It is
    registered with `keras.saving.register_keras_serializable` and listed in
    `models.NETWORKS`. Any other Keras model can be used in `Denoiser`, but cannot be
    trained by `train_denoiser`.

    Args:
      channels: Channels of the pictures.
      scale: The product of the network's strides. Pictures are denoised in tiles whose
        positions are multiples of it.
      precision: Keras dtype policy of the training, "float32" or "mixed_bfloat16". The
        weights and the output are float32 in both.
      pixel_range: The pixel values of the training pictures that became 0 and 1, see
        `data.check_range`. The network itself takes pictures in these units.
      **kwargs: Arguments of `keras.Model`.

    Attributes:
      num_shards: Parts of a batch that run in parallel on a CPU, see FlowPrior. A
        network may ignore it.

    Raises:
      ValueError: If `pixel_range` is not valid.
    """

    def __init__(
        self,
        channels: int = 1,
        *,
        scale: int = 1,
        precision: str = "float32",
        pixel_range: str = "dtype",
        **kwargs: Any,
    ):
        # The precision is an argument; Keras' global policy does not change a network.
        super().__init__(**{"dtype": "float32", **kwargs})
        self.channels = channels
        self.scale = scale
        self.precision = precision
        self.pixel_range = check_range(pixel_range)
        self.num_shards = 1

    @property
    @abc.abstractmethod
    def receptive_radius(self) -> int:
        """Largest distance in pixels from which an output pixel is influenced."""

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Returns the input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = {
            "channels": self.channels,
            "scale": self.scale,
            "precision": self.precision,
            "pixel_range": self.pixel_range,
        }
        return {**super().get_config(), **config}
