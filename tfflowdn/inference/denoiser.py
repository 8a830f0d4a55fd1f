"""Denoising of arrays, whatever their dtype and channels."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Sequence

import keras
import numpy as np
import psutil

from tfflowdn import data
from tfflowdn.inference import tiling
from tfflowdn.inference.loading import load_denoiser, num_channels

__all__ = ["GENERAL", "Denoiser", "denoise"]

GENERAL = "general"
GENERAL_DENOISERS = ("denoiser_gray", "denoiser_rgb")  # In saved_models/.
MAX_BYTES = 2**30
UNKNOWN_STRIDES = 32  # A multiple of the strides of any network in use.
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # Of red, green, blue: BT.601.
LIVE_TENSORS = 6  # As large as the widest layer's output, in a residual network.


class Denoiser:
    """A network that denoises pictures of any size, dtype and number of channels.

    Pictures of more than `max_pixels` are denoised by overlapping tiles, with the
    same result. A network for gray pictures denoises colour by the channel; one for
    colour denoises gray as three equal channels and averages them.

    The network sees pictures in units of a range of pixel values, by default the one
    that it was trained in. What lies beyond the range is kept; results are mapped
    back, and clipped at the limits of their dtype alone.

    Args:
      network: Keras model of pictures [batch, H, W, C], C 1 or 3, to the same shape.
        If it has no `receptive_radius`, and no `scale` that its strides multiply to,
        the former is measured and the latter taken to divide 32.
      *others: Another one, for the other number of channels: each denoises pictures
        of its own.
      max_pixels: Pixels to give to the network at once; by default as many as need
        no more than 1 GiB and a quarter of the memory that is free.

    Raises:
      ValueError: If the network is none of these.
    """

    def __init__(
        self,
        network: keras.Model,
        *others: keras.Model,
        max_pixels: int | None = None,
    ):
        self.networks = (network, *others)
        self.channels = num_channels(network)
        self.multiple = math.lcm(
            *(getattr(n, "scale", UNKNOWN_STRIDES) for n in self.networks)
        )
        self.pixel_range = getattr(network, "pixel_range", "dtype")
        self._by_channels = {num_channels(each): each for each in self.networks}
        self._margin = None
        self._max_pixels = max_pixels

    @classmethod
    def from_pretrained(cls, model: str | os.PathLike = GENERAL, **options) -> Denoiser:
        """Loads a denoiser.

        Args:
          model: Its name or path, see `load_denoiser`; "general" for those of gray and
            of colour pictures that come with tfflowdn, trained on noise of many kinds.
          **options: For the constructor.
        """
        names = GENERAL_DENOISERS if model == GENERAL else (model,)
        return cls(*map(load_denoiser, names), **options)

    @property
    def margin(self) -> int:
        """Pixels around a pixel that its denoised value may depend on."""
        if self._margin is None:
            self._margin = max(map(_receptive_radius, self.networks))
        return self._margin

    def __call__(
        self,
        image,
        *,
        out: np.ndarray | None = None,
        axes: str | None = None,
        strength: float = 1.0,
        self_ensemble: bool = False,
        luminance_only: bool = False,
        pixel_range: str | Sequence[float] | None = None,
    ) -> np.ndarray:
        """Denoises a picture or a batch of pictures.

        Args:
          image: [H, W], [H, W, C] or [batch, H, W, C], with C 1 or 3, one more for
            alpha, which is carried through; an array or a tensor of integers of up to
            32 bits, floats or bools. The network computes in float32.
          out: Array to fill and return, of the image's shape and dtype, such as a
            `np.memmap`; not for tensors.
          axes: The meaning of each axis, such as "TZYX" or "TYXS": Y and X are those
            of the planes to denoise, S the samples of a pixel (C above), all others
            count planes.
          strength: Part of the correction that is applied, 0 (none) to 1.
          self_ensemble: Whether to average over the 8 flips and rotations.
          luminance_only: Whether to denoise the luminance of colour pictures alone,
            in a third of a gray network's time, and keep their chroma with its noise:
            red, green and blue get the same correction.
          pixel_range: The values that become 0 and 1, "LOW,HIGH" or two numbers,
            percentiles "LOW%,HIGH%" of each picture (with `axes`, of all planes), or
            "dtype": 0 and the largest value of the integer type, floats as they are;
            by default the network's own.

        Returns:
          The denoised pictures, of the input's shape, dtype and kind.

        Raises:
          ValueError: If shape, axes, dtype, values, range or strength are none of
            these.
        """
        if not 0 <= strength <= 1:
            raise ValueError(f"strength must be within [0, 1]. Received: {strength=}.")
        pixel_range = self.pixel_range if pixel_range is None else pixel_range
        is_tensor = keras.ops.is_tensor(image)
        image = keras.ops.convert_to_numpy(image) if is_tensor else np.asarray(image)
        sources = _pictures(image, axes)
        data.check_finite(image)
        limits = _limits(pixel_range, sources, is_stack=axes is not None)
        data.to_float(sources[0][:1, :1], limits[0])  # Says if the dtype is no good.
        if out is None:
            data.check_fits(image.shape, image.dtype)
        result = np.empty(image.shape, image.dtype) if out is None else out
        if (result.shape, result.dtype) != (image.shape, image.dtype):
            raise ValueError(
                "out must be of the image's shape and dtype. Received: "
                f"{out.shape=}, {out.dtype=!s}, {image.shape=}, {image.dtype=!s}."
            )

        def denoise_batch(batch, limits):
            colour, alpha = data.split_alpha(batch)
            noisy = data.to_float(colour, limits)
            run = self._run_ensemble if self_ensemble else self._run
            denoised = _on_luminance(run, noisy) if luminance_only else run(noisy)
            if strength != 1:
                denoised = noisy + np.float32(strength) * (denoised - noisy)
            denoised = data.from_float(denoised, batch.dtype, limits)
            return denoised if alpha is None else np.concatenate([denoised, alpha], -1)

        self._denoise_pictures(denoise_batch, sources, _pictures(result, axes), limits)
        return keras.ops.convert_to_tensor(result) if is_tensor else result

    def _denoise_pictures(self, function, sources, targets, limits):
        """Fills pictures [H, W, C]: several of them at once, one, or a part of one."""
        height, width, _ = sources[0].shape
        max_pixels = self._max_pixels or self._affordable_pixels()
        count = max_pixels // (height * width)
        if count:
            for first in range(0, len(sources), count):
                batch = slice(first, first + count)
                results = function(np.stack(sources[batch]), _stacked(limits[batch]))
                for target, result in zip(targets[batch], results, strict=True):
                    target[:] = result
            return
        for source, target, pair in zip(sources, targets, limits, strict=True):
            tiling.apply_by_tiles(
                lambda tile, pair=pair: function(tile[np.newaxis], pair)[0],
                source,
                target,
                margin=self.margin,
                multiple=self.multiple,
                max_pixels=max_pixels,
            )

    def _run_ensemble(self, noisy):
        """Averages over the square's symmetries, all on the same grid of strides."""
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
        """Denoises float32 [n, H, W, C], C 1 or 3, by a network of either."""
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


def _apply(network, noisy):
    return keras.ops.convert_to_numpy(network(noisy, training=False))


def _receptive_radius(network):
    radius = getattr(network, "receptive_radius", None)
    if radius is not None:
        return radius
    return tiling.measure_radius(
        lambda noisy: _apply(network, noisy), num_channels(network)
    )


def _floats_per_pixel(network):
    """Returns about how many values are alive for each pixel of a picture."""
    widths = [w.shape[-1] for w in network.weights if len(w.shape) == 4]
    scale = getattr(network, "scale", 1)
    return LIVE_TENSORS * max(widths, default=64) / scale**2


def denoise(
    image, model: Denoiser | keras.Model | str | os.PathLike = GENERAL, **options
):
    """Denoises a picture or a batch of pictures, see `Denoiser`.

    Args:
      image: The pictures.
      model: A denoiser, its network, or the name or path of one, see
        `Denoiser.from_pretrained`.
      **options: `axes`, `strength`, `self_ensemble`, `luminance_only` and
        `pixel_range`.

    Returns:
      The denoised pictures, of the input's shape, dtype and kind.
    """
    if isinstance(model, str | os.PathLike):
        model = Denoiser.from_pretrained(model)
    if not isinstance(model, Denoiser):
        model = Denoiser(model)
    return model(image, **options)


def _pictures(image, axes):
    """Returns views of the pictures [H, W, C] in an array."""
    if axes is not None:
        return _planes(image, axes.upper())
    shape = image.shape
    is_shape = len(shape) == 2 or (len(shape) in (3, 4) and 1 <= shape[-1] <= 4)
    if not is_shape or 0 in shape:
        raise ValueError(
            "image must be [H, W], [H, W, C] or [batch, H, W, C], C from 1 to 4 and "
            f"none of them 0; other arrays need axes. Received: image.shape={shape}."
        )
    image = image[..., np.newaxis] if len(shape) == 2 else image
    return list(image if len(shape) == 4 else image[np.newaxis])


def _planes(image, axes):
    distinct = len(set(axes)) == len(axes) == image.ndim
    if not distinct or not set("YX") <= set(axes) or 0 in image.shape:
        raise ValueError(
            "axes must name each axis of image by a letter of its own, Y and X among "
            f"them, and none may be empty. Received: {axes=}, {image.shape=}."
        )
    inner = [axes.index(name) for name in "YXS" if name in axes]
    outer = [axis for axis in range(image.ndim) if axis not in inner]
    planes = np.transpose(image, outer + inner)
    planes = planes if "S" in axes else planes[..., np.newaxis]
    if planes.shape[-1] > 4:
        raise ValueError(
            "S, the samples of a pixel, must have 1 to 4. "
            f"Received: {axes=}, {image.shape=}."
        )
    return [planes[index] for index in np.ndindex(planes.shape[:-3])]


def _limits(pixel_range, pictures, is_stack):
    """Returns the limits of each picture, those of all of them if it is a stack."""
    if is_stack:
        limits = data.find_limits(pixel_range, pictures, len(pictures))
        return [limits] * len(pictures)
    return [data.find_limits(pixel_range, [picture]) for picture in pictures]


def _stacked(limits):
    """Returns the limits of a batch, to broadcast to [batch, H, W, C]."""
    if limits[0] is None:
        return None
    low, high = np.reshape(limits, (-1, 2, 1, 1, 1)).swapaxes(0, 1)
    return low, high


def _on_luminance(run, noisy):
    """Adds the correction of the luminance [n, H, W, 1] to all colours [n, H, W, C]."""
    if noisy.shape[-1] == 1:
        return run(noisy)
    luminance = (noisy @ LUMINANCE)[..., np.newaxis]
    return noisy + (run(luminance) - luminance)
