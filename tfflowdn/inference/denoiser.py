"""Denoising of arrays of any dtype and number of channels."""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Callable, Sequence

import keras
import numpy as np
import numpy.typing as npt
import psutil
import tensorflow as tf

from tfflowdn import data
from tfflowdn.inference import tiling
from tfflowdn.inference.loading import (
    GENERAL,
    GENERAL_DENOISERS,
    SavedNetwork,
    find_model,
    load_denoiser,
    num_channels,
)

__all__ = ["Denoiser", "denoise"]

Network = keras.Model | SavedNetwork
MAX_BYTES = 2**30
UNKNOWN_STRIDES = 32  # A multiple of the strides of all common networks.
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # Red, green, blue (BT.601).
LIVE_TENSORS = 6  # Each has the size of the widest output, in a residual network.


class Denoiser:
    """Denoises pictures of any size, dtype and number of channels with a network.

    Pictures of more than `max_pixels` are denoised in overlapping tiles, with the same
    result. A network for gray pictures denoises each channel of a color picture; a
    network for color pictures denoises a gray picture as three equal channels, and the
    results are averaged.

    The network sees pictures in units of a range of pixel values; the default is the
    range that it was trained with. Values outside the range are kept. Results are
    mapped back, and are clipped only at the limits of their dtype.

    Args:
      network: Built Keras model that maps [batch, H, W, C] to the same shape, with C 1
        or 3. A model without `receptive_radius` has its receptive radius measured; a
        model without `scale` (the product of its strides) must have strides whose
        product divides 32.
      *others: A second network, for the other number of channels. Each network
        denoises the pictures that have its number of channels.
      max_pixels: Number of pixels that the network processes at once. The default
        needs at most 1 GiB and at most a quarter of the free memory.

    Raises:
      ValueError: If a network is not a built model of this kind, or two networks have
        the same number of channels.
    """

    def __init__(
        self,
        network: Network,
        *others: Network,
        max_pixels: int | None = None,
    ) -> None:
        self.networks = (network, *others)
        self.channels = num_channels(network)
        self._by_channels = _by_channels(self.networks)
        self.multiple = math.lcm(
            *(getattr(n, "scale", UNKNOWN_STRIDES) for n in self.networks)
        )
        self.pixel_range = getattr(network, "pixel_range", "dtype")
        self._margin = None
        self._max_pixels = max_pixels

    @classmethod
    def from_pretrained(
        cls, model: str | os.PathLike = GENERAL, *, max_pixels: int | None = None
    ) -> Denoiser:
        """Loads a denoiser.

        Args:
          model: Name or path, see `load_denoiser`. The default, "general", loads two
            networks that come with tfflowdn, one for gray and one for color pictures;
            both were trained on many kinds of noise.
          max_pixels: See the constructor.

        Raises:
          ValueError: If there is no such model, or it is not a denoiser.
        """
        names = GENERAL_DENOISERS if model == GENERAL else (model,)
        return cls(*map(load_denoiser, names), max_pixels=max_pixels)

    @property
    def margin(self) -> int:
        """Largest distance in pixels at which a pixel affects a denoised pixel."""
        if self._margin is None:
            self._margin = max(map(_receptive_radius, self.networks))
        return self._margin

    def __call__(
        self,
        image: npt.ArrayLike | tf.Tensor,
        *,
        out: np.ndarray | None = None,
        axes: str | None = None,
        strength: float = 1.0,
        self_ensemble: bool = False,
        luminance_only: bool = False,
        pixel_range: str | Sequence[float] | None = None,
        on_pixels: Callable[[int], None] | None = None,
    ) -> np.ndarray | tf.Tensor:
        """Denoises a picture or a batch of pictures.

        Args:
          image: [H, W], [H, W, C] or [batch, H, W, C], with C 1 or 3, plus one channel
            if there is alpha, which is copied. An array or a tensor of integers of up
            to 32 bits, floats or bools. The network computes in float32.
          out: Array to fill and return, with the shape and dtype of the image, for
            instance a `np.memmap`. It cannot be a tensor.
          axes: One letter for each axis, such as "TZYX" or "TYXS". Y and X are the
            axes of a plane, S is the axis of the channels (C above), and each index
            along the other axes is a plane.
          strength: Fraction of the correction to apply, 0 (the image is returned
            exactly) to 1.
          self_ensemble: Whether to average over the 8 flips and rotations.
          luminance_only: Whether to denoise only the luminance of color pictures and
            to keep the noise of their chroma: red, green and blue get the same
            correction. A gray network needs a third of the time.
          pixel_range: The values that become 0 and 1: "LOW,HIGH" or two numbers,
            percentiles "LOW%,HIGH%" of each picture (with `axes`, of all planes), or
            "dtype" for 0 and the largest value of an integer type, and floats as they
            are. The default is the range of the network.
          on_pixels: Called after each batch of pictures, or tile of a picture, with
            the number of pixels that it denoised, for example to show the progress.

        Returns:
          The denoised pictures, with the shape, dtype and kind of the input.

        Raises:
          ValueError: If the shape, axes, dtype, values, range or strength is not valid,
            or the network returns values that are not finite.
        """
        if not 0 <= strength <= 1:
            raise ValueError(f"strength must be within [0, 1]. Received: {strength=}.")
        pixel_range = self.pixel_range if pixel_range is None else pixel_range
        is_tensor = keras.ops.is_tensor(image)
        image = keras.ops.convert_to_numpy(image) if is_tensor else np.asarray(image)
        sources = _pictures(image, axes)
        data.check_finite(image)
        limits = _limits(pixel_range, sources, is_stack=axes is not None)
        _check_wide(limits, image.dtype, pixel_range)
        data.to_float(sources[0][:1, :1], limits[0])  # Checks the dtype early.
        if out is None:
            data.check_fits(image.shape, image.dtype)
        result = np.empty(image.shape, image.dtype) if out is None else out
        if (result.shape, result.dtype) != (image.shape, image.dtype):
            raise ValueError(
                "out must have the shape and dtype of the image. Received: "
                f"{out.shape=}, {out.dtype=!s}, {image.shape=}, {image.dtype=!s}."
            )
        if strength == 0:
            result[...] = image
            return keras.ops.convert_to_tensor(result) if is_tensor else result

        def denoise_batch(batch, limits):
            color, alpha = data.split_alpha(batch)
            noisy = data.to_float(color, limits)
            run = self._run_ensemble if self_ensemble else self._run
            denoised = _on_luminance(run, noisy) if luminance_only else run(noisy)
            if strength != 1:
                denoised = noisy + np.float32(strength) * (denoised - noisy)
            denoised = data.from_float(denoised, batch.dtype, limits)
            return denoised if alpha is None else np.concatenate([denoised, alpha], -1)

        targets = _pictures(result, axes)
        self._denoise_pictures(denoise_batch, sources, targets, limits, on_pixels)
        return keras.ops.convert_to_tensor(result) if is_tensor else result

    def _denoise_pictures(self, function, sources, targets, limits, on_pixels):
        """Fills pictures [H, W, C] in batches or, if they are too large, in tiles."""
        height, width, _ = sources[0].shape
        max_pixels = self._max_pixels or self._affordable_pixels()
        count = max_pixels // (height * width)
        if count:
            for first in range(0, len(sources), count):
                batch = slice(first, first + count)
                results = function(np.stack(sources[batch]), _stacked(limits[batch]))
                for target, result in zip(targets[batch], results, strict=True):
                    target[:] = result
                if on_pixels is not None:
                    on_pixels(len(results) * height * width)
            return
        for source, target, pair in zip(sources, targets, limits, strict=True):
            tiling.apply_by_tiles(
                lambda tile, pair=pair: function(tile[np.newaxis], pair)[0],
                source,
                target,
                margin=self.margin,
                multiple=self.multiple,
                max_pixels=max_pixels,
                on_pixels=on_pixels,
            )

    def _run_ensemble(self, noisy):
        """Averages over 8 flips and rotations, all aligned to the strides."""
        height, width = noisy.shape[1:3]
        missing = [(0, -size % self.multiple) for size in (height, width)]
        padded = np.pad(noisy, [(0, 0), *missing, (0, 0)], "symmetric")
        total = np.zeros_like(padded)
        for turns, flip in itertools.product(range(4), (1, -1)):
            turned = np.rot90(padded[:, :, ::flip], turns, (1, 2))
            denoised = self._run(np.ascontiguousarray(turned))
            total += np.rot90(denoised, -turns, (1, 2))[:, :, ::flip]
        return total[:, :height, :width] / 8

    def _run(self, noisy):
        """Denoises float32 [n, H, W, C], C 1 or 3, with the network for C if any."""
        channels = noisy.shape[-1]
        if channels in self._by_channels:
            return _apply(self._by_channels[channels], noisy)
        network = self._by_channels[self.channels]
        if self.channels == 1:
            planes = np.concatenate(np.split(noisy, channels, axis=-1))
            planes = _apply(network, planes)
            return np.concatenate(np.split(planes, channels), axis=-1)
        gray = _apply(network, np.repeat(noisy, self.channels, -1))
        return gray.mean(-1, keepdims=True)

    def _affordable_pixels(self):
        floats = max(map(_floats_per_pixel, self.networks))
        free = min(MAX_BYTES, psutil.virtual_memory().available // 4)
        return int(free / (4 * floats))


def _by_channels(networks):
    """Returns the networks by their numbers of channels, which must differ."""
    channels = [num_channels(network) for network in networks]
    if len(set(channels)) < len(channels):
        raise ValueError(
            "The networks of a Denoiser must have different numbers of channels, 1 and "
            f"3. Received: {channels=}."
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


def _check_wide(limits, dtype, pixel_range):
    """Checks that the limits of a picture differ after rounding."""
    work = np.result_type(dtype, np.float32).type
    if any(pair and not work(pair[0]) < work(pair[1]) for pair in limits):
        raise ValueError(
            "pixel_range must be wider than the spacing of floats at its limits. "
            f"Received: {pixel_range=}, limits={limits[0]}."
        )


def _receptive_radius(network):
    radius = getattr(network, "receptive_radius", None)
    if radius is not None:
        return radius
    return tiling.measure_radius(
        lambda noisy: _apply(network, noisy), num_channels(network)
    )


def _floats_per_pixel(network):
    """Estimates how many values the network holds for each pixel of a picture."""
    widths = [w.shape[-1] for w in network.weights if len(w.shape) == 4]
    scale = getattr(network, "scale", 1)
    return LIVE_TENSORS * max(widths, default=64) / scale**2


def denoise(
    image: npt.ArrayLike | tf.Tensor,
    model: Denoiser | Network | str | os.PathLike = GENERAL,
    *,
    out: np.ndarray | None = None,
    axes: str | None = None,
    strength: float = 1.0,
    self_ensemble: bool = False,
    luminance_only: bool = False,
    pixel_range: str | Sequence[float] | None = None,
) -> np.ndarray | tf.Tensor:
    """Denoises a picture or a batch of pictures.

    The model that was loaded last is kept in memory for the next call.

    Args:
      image: The pictures, see `Denoiser.__call__`, as for the options below.
      model: A denoiser, its network, or the name or path of a model, see
        `Denoiser.from_pretrained`.
      out: Array to fill and return.
      axes: One letter for each axis.
      strength: Fraction of the correction to apply.
      self_ensemble: Whether to average over flips and rotations.
      luminance_only: Whether to denoise only the luminance of color pictures.
      pixel_range: The values that become 0 and 1.

    Returns:
      The denoised pictures, with the shape, dtype and kind of the input.

    Raises:
      ValueError: If there is no such model, or an argument is not valid.
    """
    if isinstance(model, str | os.PathLike):
        model = _load_once(model, _versions(model))
    if not isinstance(model, Denoiser):
        model = Denoiser(model)
    return model(
        image,
        out=out,
        axes=axes,
        strength=strength,
        self_ensemble=self_ensemble,
        luminance_only=luminance_only,
        pixel_range=pixel_range,
    )


@functools.lru_cache(maxsize=1)
def _load_once(model, versions):
    del versions  # Files that were written anew are loaded anew.
    return Denoiser.from_pretrained(model)


def _versions(model):
    """Returns the path, modification time and size of the files of a model."""
    names = GENERAL_DENOISERS if model == GENERAL else (model,)
    versions = []
    for path in map(find_model, names):
        path = os.path.abspath(path)
        saved_model = os.path.join(path, "saved_model.pb")
        file = saved_model if os.path.isdir(path) else path
        if os.path.exists(file):
            status = os.stat(file)
            versions.append((path, status.st_mtime_ns, status.st_size))
    return tuple(versions)


def _pictures(image, axes):
    """Returns views of the pictures [H, W, C] in an array."""
    if axes is not None:
        return _planes(image, axes.upper())
    shape = image.shape
    is_shape = len(shape) == 2 or (len(shape) in (3, 4) and 1 <= shape[-1] <= 4)
    if not is_shape or 0 in shape:
        raise ValueError(
            "image must be [H, W], [H, W, C] or [batch, H, W, C], with C from 1 to 4 "
            f"and no empty axis; other arrays need axes. Received: image.shape={shape}."
        )
    image = image[..., np.newaxis] if len(shape) == 2 else image
    return list(image if len(shape) == 4 else image[np.newaxis])


def _planes(image, axes):
    distinct = len(set(axes)) == len(axes) == image.ndim
    if not distinct or not set("YX") <= set(axes) or 0 in image.shape:
        raise ValueError(
            "axes must name each axis of image by a different letter, among them Y and "
            f"X, and no axis may be empty. Received: {axes=}, {image.shape=}."
        )
    inner = [axes.index(name) for name in "YXS" if name in axes]
    outer = [axis for axis in range(image.ndim) if axis not in inner]
    planes = np.transpose(image, outer + inner)
    planes = planes if "S" in axes else planes[..., np.newaxis]
    if planes.shape[-1] > 4:
        raise ValueError(
            "S, the axis of the channels, must have a length of 1 to 4. "
            f"Received: {axes=}, {image.shape=}."
        )
    return [planes[index] for index in np.ndindex(planes.shape[:-3])]


def _limits(pixel_range, pictures, is_stack):
    """Returns the limits of each picture; the pictures of a stack share theirs."""
    if is_stack:
        limits = data.find_limits(pixel_range, pictures, len(pictures))
        return [limits] * len(pictures)
    return [data.find_limits(pixel_range, [picture]) for picture in pictures]


def _stacked(limits):
    """Returns the limits of a batch in a shape that broadcasts to [batch, H, W, C]."""
    if limits[0] is None:
        return None
    low, high = np.reshape(limits, (-1, 2, 1, 1, 1)).swapaxes(0, 1)
    return low, high


def _on_luminance(run, noisy):
    """Adds the correction of the luminance [n, H, W, 1] to each channel of `noisy`."""
    if noisy.shape[-1] == 1:
        return run(noisy)
    luminance = (noisy @ LUMINANCE)[..., np.newaxis]
    return noisy + (run(luminance) - luminance)
