"""Denoising of arrays of any dtype and number of channels."""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from absl import logging

from tfflowdn import data
from tfflowdn.devices import check_not_forked
from tfflowdn.inference import tiling
from tfflowdn.inference.in_graph import works_in_graphs
from tfflowdn.inference.loading import (
    GENERAL,
    GENERAL_DENOISERS,
    find_model,
    load_denoiser,
    num_channels,
)
from tfflowdn.inference.local_mean import MEAN_RADIUS, RoundedTarget, keep_local_mean
from tfflowdn.inference.saved_network import SavedNetwork
from tfflowdn.inference.scaling import Scaling, find_scaling
from tfflowdn.inference.transforms import Transform

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
        cls,
        model: str | os.PathLike = GENERAL,
        *,
        max_pixels: int | None = None,
        trust: bool = False,
    ) -> Denoiser:
        """Loads a denoiser.

        Args:
          model: Name or path, see `load_denoiser`. The default, "general", loads two
            networks that come with tfflowdn, one for gray and one for color pictures;
            both were trained on many kinds of noise.
          max_pixels: See the constructor.
          trust: Whether to load any SavedModel, which can run code, see `SavedNetwork`.

        Raises:
          ValueError: If there is no such model, it is damaged or not trusted, or it is
            not a denoiser.
        """
        names = GENERAL_DENOISERS if model == GENERAL else (model,)
        networks = [load_denoiser(name, trust=trust) for name in names]
        return cls(*networks, max_pixels=max_pixels)

    @property
    def margin(self) -> int:
        """Largest distance in pixels at which a pixel affects a denoised pixel."""
        if self._margin is None:
            self._margin = max(map(_receptive_radius, self.networks))
        return self._margin

    @works_in_graphs
    def __call__(
        self,
        image: npt.ArrayLike | tf.Tensor,
        *,
        out: np.ndarray | None = None,
        axes: str | None = None,
        strength: float = 1.0,
        self_ensemble: bool = False,
        luminance_only: bool = False,
        pixel_range: str | Sequence[float] | Scaling | None = None,
        transform: str | Transform = "none",
        gain: float | None = None,
        offset: float | None = None,
        dtype: npt.DTypeLike | None = None,
        percentiles_by: str = "file",
        on_pixels: Callable[[int], None] | None = None,
    ) -> np.ndarray | tf.Tensor:
        """Denoises a picture or a batch of pictures.

        Args:
          image: [H, W], [H, W, C] or [batch, H, W, C], with C 1 or 3, plus one channel
            if there is alpha, which is copied. An array or a tensor of integers of up
            to 32 bits, floats or bools. The network computes in float32.
          out: Array to fill and return, with the shape of the image and the dtype of
            the result, for instance a `np.memmap`. It cannot be a tensor.
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
            are. The default is the range of the network, or percentiles if a sizeable
            part of the pixels lies outside of it (a warning says so). `Scaling` is
            the result of `find_scaling`, which replaces range and transform.
          transform: "anscombe" (counts of photons, with the exact unbiased inverse),
            "asinh", "log" or "none": a map of the pixels under which the noise is
            uniform; or a `Transform`.
          gain: Pixel units for each photon, or the unit of the other transforms; by
            default it is estimated from each picture (with `axes`, from all planes).
          offset: The pixel value without light; estimated by default.
          dtype: The dtype of the result, whose values stay in the units of the image;
            by default the dtype of the image. Integers whose noise is of the order of
            their step are rounded so that local means are kept, and a warning says so.
          percentiles_by: Whether the planes of an array with `axes` share their range
            and transform ("file") or have one each ("page").
          on_pixels: Called after each batch of pictures, or tile of a picture, with
            the number of pixels that it denoised, for example to show the progress.

        Returns:
          The denoised pictures, with the shape and kind of the input.

        Raises:
          ValueError: If the shape, axes, dtype, values, range or strength is not valid,
            or the network returns values that are not finite.
        """
        check_not_forked()
        if not 0 <= strength <= 1:
            raise ValueError(f"strength must be within [0, 1]. Received: {strength=}.")
        is_tensor = keras.ops.is_tensor(image)
        image = (
            keras.ops.convert_to_numpy(image) if is_tensor else data.pixels_of(image)
        )
        sources = data.split_pictures(image, axes)
        data.check_finite(image)
        dtype = np.dtype(image.dtype if dtype is None else dtype)
        options = {"transform": transform, "gain": gain, "offset": offset}
        options["dtype"] = dtype
        shared = axes is not None and percentiles_by == "file"
        scalings = self._scalings(sources, shared, pixel_range, options)
        _check_wide(scalings, image.dtype, pixel_range)
        scalings[0].to_unit(sources[0][:1, :1])  # Checks the dtype early.
        if out is None:
            data.check_fits(image.shape, dtype)
        result = np.empty(image.shape, dtype) if out is None else out
        if (result.shape, result.dtype) != (image.shape, dtype):
            raise ValueError(
                "out must have the shape of the image and the dtype of the result. "
                f"Received: {out.shape=}, {out.dtype=!s}, {image.shape=}, {dtype=!s}."
            )
        if strength == 0:
            result[...] = image
            return keras.ops.convert_to_tensor(result) if is_tensor else result

        def denoise_batch(batch, scalings):
            color, alpha = data.split_alpha(batch)
            pairs = list(zip(color, scalings, strict=True))
            noisy = np.stack([scaling.to_unit(one) for one, scaling in pairs])
            _check_units(noisy, pixel_range)
            run = self._run_ensemble if self_ensemble else self._run
            denoised = _on_luminance(run, noisy) if luminance_only else run(noisy)
            if strength != 1 and scalings[0].transform is None:
                denoised = noisy + np.float32(strength) * (denoised - noisy)
            _check_result(denoised, pixel_range)
            denoised = np.stack(
                [
                    _in_pixels(*pair, values, dtype, strength)
                    for pair, values in zip(pairs, denoised, strict=True)
                ]
            )
            return denoised if alpha is None else np.concatenate([denoised, alpha], -1)

        targets = [
            RoundedTarget(target)
            if scaling.is_low_count and dtype.kind in "iu"
            else target
            for target, scaling in zip(
                data.split_pictures(result, axes), scalings, strict=True
            )
        ]
        self._denoise_pictures(denoise_batch, sources, targets, scalings, on_pixels)
        return keras.ops.convert_to_tensor(result) if is_tensor else result

    def find_scaling(
        self,
        pictures: Sequence[np.ndarray],
        pixel_range: str | Sequence[float] | None = None,
        **options: Any,
    ) -> Scaling:
        """Returns the scaling that pictures share, see `scaling.find_scaling`.

        Args:
          pictures: Pixels [H, W, C].
          pixel_range: By default the range of the network.
          **options: Other arguments of `scaling.find_scaling`.
        """
        options = {"default_range": self.pixel_range, **options}
        return find_scaling(pictures, pixel_range, **options)

    def _scalings(self, pictures, shared, pixel_range, options):
        """Returns the scaling of each picture, or the one that they share.

        The notes of scalings that are found here are logged.
        """
        if isinstance(pixel_range, Scaling):
            return [pixel_range] * len(pictures)
        groups = [pictures] if shared else [[one] for one in pictures]
        scalings = [self.find_scaling(g, pixel_range, **options) for g in groups]
        for note in dict.fromkeys(note for one in scalings for note in one.notes):
            logging.warning("%s.", note[0].upper() + note[1:])
        return scalings * (len(pictures) if shared else 1)

    def _denoise_pictures(self, function, sources, targets, scalings, on_pixels):
        """Fills pictures [H, W, C] in batches or, if they are too large, in tiles."""
        height, width, _ = sources[0].shape
        max_pixels = self._max_pixels or self._affordable_pixels()
        count = max_pixels // (height * width)
        if count:
            for first in range(0, len(sources), count):
                batch = slice(first, first + count)
                results = function(np.stack(sources[batch]), scalings[batch])
                for target, result in zip(targets[batch], results, strict=True):
                    target[:] = result
                if on_pixels is not None:
                    on_pixels(len(results) * height * width)
            return
        for source, target, scaling in zip(sources, targets, scalings, strict=True):
            tiling.apply_by_tiles(
                lambda tile, one=scaling: function(tile[np.newaxis], [one])[0],
                source,
                target,
                margin=self.margin + MEAN_RADIUS * scaling.is_low_count,
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
        free = min(MAX_BYTES, data.free_memory() // 4)
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


def _check_units(noisy, pixel_range):
    if not np.isfinite(noisy).all():
        raise ValueError(
            "The pixels must be finite float32 values in units of pixel_range. "
            f"Received: {pixel_range=}, which is too narrow for these pixels."
        )


def _check_result(denoised, pixel_range):
    if not np.isfinite(denoised).all():
        raise ValueError(
            "The denoised pixels must be finite float32 values in units of "
            f"pixel_range. Received: {pixel_range=}, and pixels that are too large."
        )


def _in_pixels(color, scaling, values, dtype, strength):
    """Returns denoised pixels, as floats where the target rounds them."""
    blends = strength != 1 and scaling.transform is not None
    if not (blends or scaling.is_low_count):
        return scaling.from_unit(values, dtype, color.dtype)
    values = scaling.from_unit(values, np.dtype(np.float64), color.dtype)
    if blends:
        values = color + strength * (values - color)
    if scaling.is_low_count:
        values = keep_local_mean(color, values, color.dtype.kind == "u")
        return values if dtype.kind in "iu" else values.astype(dtype)
    return data.from_float(values, dtype, (0, 1))


def _check_wide(scalings, dtype, pixel_range):
    """Checks that the limits of a picture differ after rounding."""
    work = np.result_type(dtype, np.float32).type
    limits = [one.limits for one in scalings]
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
    pixel_range: str | Sequence[float] | Scaling | None = None,
    transform: str | Transform = "none",
    dtype: npt.DTypeLike | None = None,
    trust: bool = False,
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
      transform: The map under which the noise is uniform.
      dtype: The dtype of the result.
      trust: Whether to load any SavedModel, which can run code.

    Returns:
      The denoised pictures, with the shape and kind of the input.

    Raises:
      ValueError: If there is no such model, it is damaged or not trusted, or an
        argument is not valid.
    """
    if isinstance(model, str | os.PathLike):
        model = _load_once(model, _versions(model), trust)
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
        transform=transform,
        dtype=dtype,
    )


@functools.lru_cache(maxsize=1)
def _load_once(model, versions, trust):
    del versions  # Files that were written anew are loaded anew.
    return Denoiser.from_pretrained(model, trust=trust)


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


def _on_luminance(run, noisy):
    """Adds the correction of the luminance [n, H, W, 1] to each channel of `noisy`."""
    if noisy.shape[-1] == 1:
        return run(noisy)
    luminance = (noisy @ LUMINANCE)[..., np.newaxis]
    return noisy + (run(luminance) - luminance)
