"""The networks of a denoiser, applied to pictures of any number of channels."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

import keras
import numpy as np

from tfflowdn.inference import tiling
from tfflowdn.inference.loading import num_channels
from tfflowdn.inference.saved_network import SavedNetwork

__all__ = ["Network", "NetworkSet", "on_luminance"]

Network = keras.Model | SavedNetwork
UNKNOWN_STRIDES = 32  # A multiple of the strides of all common networks.
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # Red, green, blue (BT.601).
LIVE_TENSORS = 6  # Each has the size of the widest output, in a residual network.


class NetworkSet:
    """Networks for different numbers of channels.

    Attributes:
      networks: The networks.
      channels: The number of channels of the first network.
      multiple: A common multiple of the products of their strides, pixels.

    Args:
      *networks: See `Denoiser`.

    Raises:
      ValueError: If one is not a built model that maps pictures to the same shape, or
        two have the same number of channels.
    """

    def __init__(self, *networks: Network) -> None:
        self.networks = networks
        self.channels = num_channels(networks[0])
        self._by_channels = _by_channels(networks)
        self.multiple = math.lcm(
            *(getattr(n, "scale", UNKNOWN_STRIDES) for n in networks)
        )

    @functools.cached_property
    def margin(self) -> int:
        """Largest distance in pixels at which a pixel affects a denoised pixel."""
        return max(map(_receptive_radius, self.networks))

    @property
    def floats_per_pixel(self) -> float:
        """Estimated number of values that a network holds for each pixel."""
        return max(map(_floats_per_pixel, self.networks))

    @property
    def all_channels(self) -> tuple[int, ...]:
        """The numbers of channels of the networks."""
        return tuple(self._by_channels)

    def has_alpha(self, channels: int) -> bool:
        """Returns whether the last of 2 or 4 channels is alpha: no network takes it."""
        return channels in (2, 4) and channels not in self._by_channels

    def run(self, noisy: np.ndarray) -> np.ndarray:
        """Denoises float32 [n, H, W, C] with the network for C channels.

        Without one, a network for gray pictures denoises each channel, and a gray
        picture is denoised as equal channels, whose results are averaged.

        Raises:
          ValueError: If no network can denoise C channels.
        """
        channels = noisy.shape[-1]
        if channels in self._by_channels:
            return _apply(self._by_channels[channels], noisy)
        if 1 in self._by_channels:
            planes = np.concatenate(np.split(noisy, channels, axis=-1))
            planes = _apply(self._by_channels[1], planes)
            return np.concatenate(np.split(planes, channels), axis=-1)
        if channels != 1:
            raise ValueError(
                "The pictures must have as many channels as the model, or 1. "
                f"Received: {channels=}, models for {list(self._by_channels)}."
            )
        network = self._by_channels[self.channels]
        gray = _apply(network, np.repeat(noisy, self.channels, -1))
        return gray.mean(-1, keepdims=True)

    def run_ensemble(self, noisy: np.ndarray) -> np.ndarray:
        """Averages over 8 flips and rotations, all aligned to the strides."""
        height, width = noisy.shape[1:3]
        missing = [(0, -size % self.multiple) for size in (height, width)]
        padded = np.pad(noisy, [(0, 0), *missing, (0, 0)], "symmetric")
        total = np.zeros_like(padded)
        for turns, flip in itertools.product(range(4), (1, -1)):
            turned = np.rot90(padded[:, :, ::flip], turns, (1, 2))
            denoised = self.run(np.ascontiguousarray(turned))
            total += np.rot90(denoised, -turns, (1, 2))[:, :, ::flip]
        return total[:, :height, :width] / 8


def on_luminance(
    run: Callable[[np.ndarray], np.ndarray], noisy: np.ndarray
) -> np.ndarray:
    """Adds the correction of the luminance [n, H, W, 1] to each channel of `noisy`.

    Raises:
      ValueError: If the pictures have other channels than red, green and blue.
    """
    if noisy.shape[-1] == 1:
        return run(noisy)
    if noisy.shape[-1] != len(LUMINANCE):
        raise ValueError(
            "luminance_only must be given for pictures with red, green and blue. "
            f"Received: channels={noisy.shape[-1]}."
        )
    luminance = (noisy @ LUMINANCE)[..., np.newaxis]
    return noisy + (run(luminance) - luminance)


def _by_channels(networks):
    """Returns the networks by their numbers of channels, which must differ."""
    channels = [num_channels(network) for network in networks]
    if len(set(channels)) < len(channels):
        raise ValueError(
            "The networks of a Denoiser must have different numbers of channels, such "
            f"as 1 and 3. Received: {channels=}."
        )
    return dict(zip(channels, networks, strict=True))


def _apply(network, noisy):
    denoised = keras.ops.convert_to_numpy(network(noisy, training=False))
    if not np.isfinite(denoised).all():
        num_bad = int(np.count_nonzero(~np.isfinite(denoised)))
        raise ValueError(
            "The network must return finite values for finite pictures; its weights "
            f"may be damaged. Received: {num_bad=} of {denoised.size} values from "
            f"{network.name!r}."
        )
    return denoised


def _receptive_radius(network):
    radius = getattr(network, "receptive_radius", None)
    if radius is not None:
        return radius
    return tiling.measure_radius(
        lambda noisy: _apply(network, noisy), num_channels(network)
    )


def _floats_per_pixel(network):
    """Estimates the number of values that the network holds for each pixel."""
    widths = [w.shape[-1] for w in network.weights if len(w.shape) == 4]
    scale = getattr(network, "scale", 1)
    return LIVE_TENSORS * max(widths, default=64) / scale**2
