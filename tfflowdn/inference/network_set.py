"""The networks of a denoiser, applied to pictures of any number of channels."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import keras
import numpy as np

from tfflowdn.inference import tiling
from tfflowdn.inference.loading import num_channels
from tfflowdn.inference.saved_network import SavedNetwork
from tfflowdn.models import UncertaintyNetwork, WithUncertainty

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
      uncertainties: Networks that predict the errors of `networks`, in any order.

    Raises:
      ValueError: If one is not a built model that maps pictures to the same shape, two
        have the same number of channels, or an uncertainty has no network.
    """

    def __init__(
        self, *networks: Network, uncertainties: Sequence[UncertaintyNetwork] = ()
    ) -> None:
        self.networks = networks
        self.channels = num_channels(networks[0])
        self._by_channels = _by_channels(networks)
        self._with_std = _with_std(self._by_channels, uncertainties)
        self.multiple = math.lcm(
            *(getattr(n, "scale", UNKNOWN_STRIDES) for n in networks)
        )

    @functools.cached_property
    def margin(self) -> int:
        """Largest distance in pixels at which a pixel affects a denoised pixel."""
        return max(map(_receptive_radius, self.networks))

    @property
    def std_margin(self) -> int:
        """Largest distance at which a pixel affects a standard deviation."""
        models = self._with_std.values()
        radii = [model.uncertainty.receptive_radius for model in models]
        return self.margin + max(radii, default=0)

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

    def run(self, noisy: np.ndarray, with_std: bool = False) -> np.ndarray:
        """Denoises float32 [n, H, W, C] with the network for C channels.

        Without one, a network for gray pictures denoises each channel, and a gray
        picture is denoised as equal channels, whose results are averaged.

        Args:
          noisy: The pictures.
          with_std: Whether to return [n, H, W, C, 2]: the denoised pictures and the
            standard deviations of their errors.

        Raises:
          ValueError: If no network can denoise C channels, or it has no uncertainty.
        """
        channels = noisy.shape[-1]
        networks = self._with_std if with_std else self._by_channels
        if with_std:
            self._check_std(channels)
        if channels in networks:
            return _apply(networks[channels], noisy)
        if 1 in networks:
            planes = np.concatenate(np.split(noisy, channels, axis=3))
            planes = _apply(networks[1], planes)
            return np.concatenate(np.split(planes, channels), axis=3)
        if channels != 1:
            raise ValueError(
                "The pictures must have as many channels as the model, or 1. "
                f"Received: {channels=}, models for {list(self._by_channels)}."
            )
        network = networks[self.channels]
        gray = _apply(network, np.repeat(noisy, self.channels, 3))
        return gray.mean(3, keepdims=True)

    def _check_std(self, channels):
        one = channels if channels in self._by_channels else min(self._by_channels)
        if one not in self._with_std:
            raise ValueError(
                "Standard deviations need a network that predicts them, see "
                "train_uncertainty. Received: no uncertainty for the denoiser of "
                f"pictures of {one} channel(s)."
            )

    def run_ensemble(self, noisy: np.ndarray, with_std: bool = False) -> np.ndarray:
        """Averages `run` over 8 flips and rotations, all aligned to the strides."""
        height, width = noisy.shape[1:3]
        missing = [(0, -size % self.multiple) for size in (height, width)]
        padded = np.pad(noisy, [(0, 0), *missing, (0, 0)], "symmetric")
        total = 0.0
        for turns, flip in itertools.product(range(4), (1, -1)):
            turned = np.rot90(padded[:, :, ::flip], turns, (1, 2))
            denoised = self.run(np.ascontiguousarray(turned), with_std)
            total = total + np.rot90(denoised, -turns, (1, 2))[:, :, ::flip]
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


def _with_std(by_channels, uncertainties):
    """Returns the networks with their uncertainties, by numbers of channels."""
    result = {}
    for uncertainty in uncertainties:
        channels = uncertainty.channels
        if channels not in by_channels:
            raise ValueError(
                "uncertainties must have the channels of the networks. Received: "
                f"{uncertainty.channels=}, networks for {sorted(by_channels)}."
            )
        if not uncertainty.belongs_to(by_channels[channels]):
            raise ValueError(
                "uncertainties must be trained on the errors of the networks, see "
                "train_uncertainty. Received: an uncertainty of another denoiser, for "
                f"{channels=}."
            )
        result[channels] = WithUncertainty(by_channels[channels], uncertainty)
    return result


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
