"""Denoising of arrays of any dtype and number of channels."""

from __future__ import annotations

import functools
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
    find_uncertainty,
    load_denoiser,
    load_uncertainty,
    num_channels,
)
from tfflowdn.inference.local_mean import MEAN_RADIUS
from tfflowdn.inference.network_set import Network, NetworkSet, on_luminance
from tfflowdn.inference.repairs import Repairs
from tfflowdn.inference.scaled_batch import (
    TargetWithStd,
    check_wide,
    copy_pixels,
    denoised_batch,
    rounded_target,
)
from tfflowdn.inference.scaling import Scaling, find_scaling
from tfflowdn.inference.transforms import Transform
from tfflowdn.models import UncertaintyNetwork

__all__ = ["Denoiser"]

MAX_BYTES = 2**30


class Denoiser:
    """Denoises pictures of any size, dtype and number of channels with a network.

    Pictures of more than `max_pixels` are denoised in overlapping tiles, with the same
    result. A network for gray pictures denoises each channel of a color picture; a
    network for color pictures denoises a gray picture as three equal channels, and the
    results are averaged.

    The network sees pictures in units of a range of pixel values; the default is the
    range that it was trained with. Values outside the range are kept. Results are
    mapped back, and are clipped only at the limits of their dtype.

    Missing pixels (not finite, or masked) are filled from their neighbors for the
    network, and are put back exactly.

    Args:
      network: Built Keras model that maps [batch, H, W, C] to the same shape, with C
        from 1 to 16. A model without `receptive_radius` has its receptive radius
        measured; a model without `scale` (the product of its strides) must have strides
        whose product divides 32.
      *others: Networks for other numbers of channels. Each network denoises the
        pictures that have its number of channels.
      max_pixels: Number of pixels that the network processes at once. The default
        needs at most 1 GiB and at most a quarter of the free memory.
      remove_outliers: The default of the option of calls.
      uncertainties: Networks of `train_uncertainty` that predict the errors of the
        networks, for `return_std`.

    Raises:
      ValueError: If a network is not a built model of this kind, two networks have the
        same number of channels, or an uncertainty has no network.
    """

    def __init__(
        self,
        network: Network,
        *others: Network,
        max_pixels: int | None = None,
        remove_outliers: bool = False,
        uncertainties: Sequence[UncertaintyNetwork] = (),
    ) -> None:
        self._set = NetworkSet(network, *others, uncertainties=uncertainties)
        self.networks = self._set.networks
        self.channels = self._set.channels
        self.multiple = self._set.multiple
        self.pixel_range = getattr(network, "pixel_range", "dtype")
        self._max_pixels = max_pixels
        self._remove_outliers = remove_outliers

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

        The uncertainty of a model is loaded with it, see `find_uncertainty`.

        Raises:
          ValueError: If there is no such model, it is damaged or not trusted, or it is
            not a denoiser.
        """
        names = GENERAL_DENOISERS if model == GENERAL else (model,)
        networks = [load_denoiser(name, trust=trust) for name in names]
        files = filter(None, map(find_uncertainty, names))
        known = {num_channels(network): network for network in networks}
        # The file in the folder may belong to another denoiser.
        uncertainties = [
            one
            for one in map(load_uncertainty, files)
            if one.channels in known and one.belongs_to(known[one.channels])
        ]
        return cls(*networks, max_pixels=max_pixels, uncertainties=uncertainties)

    @property
    def all_channels(self) -> tuple[int, ...]:
        """The numbers of channels of the networks."""
        return self._set.all_channels

    @property
    def margin(self) -> int:
        """Largest distance in pixels at which a pixel affects a denoised pixel."""
        return self._set.margin

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
        remove_outliers: bool | None = None,
        has_alpha: bool | None = None,
        repairs: Repairs | None = None,
        return_std: bool = False,
        std_out: np.ndarray | None = None,
        on_pixels: Callable[[int], None] | None = None,
    ) -> np.ndarray | tf.Tensor | tuple[np.ndarray | tf.Tensor, ...]:
        """Denoises a picture or a batch of pictures.

        Args:
          image: [H, W], [H, W, C] or [batch, H, W, C], with C 1, 3 or the number of a
            network, plus one channel if there is alpha, which is copied. An array, a
            masked array or a tensor of integers, floats or bools. The network computes
            in float32.
          out: Array to fill and return, with the shape of the image and the dtype of
            the result, for instance a `np.memmap`. It cannot be a tensor.
          axes: One letter for each axis, such as "TZYX" or "TYXS". Y and X are the
            axes of a plane, S is the axis of the channels (C above), and each index
            along the other axes is a plane. C is also the axis of the channels if a
            network takes so many, and none takes gray pictures.
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
            "asinh", "log" (whose inverses are unbiased for the estimated noise) or
            "none": a map of the pixels under which the noise is uniform; or a
            `Transform`.
          gain: Pixel units for each photon, or the unit of the other transforms; by
            default it is estimated from each picture (with `axes`, from all planes).
          offset: The pixel value without light; estimated by default.
          dtype: The dtype of the result, whose values stay in the units of the image;
            by default the dtype of the image. Integers whose noise is of the order of
            their step are rounded so that local means are kept, and a warning says so.
          percentiles_by: Whether the planes of an array with `axes` share their range
            and transform ("file") or have one each ("page").
          remove_outliers: Whether isolated hot and dead pixels are replaced by the
            median of their neighbors, see `outliers.replace_outliers`. The default is
            the one of the constructor.
          has_alpha: Whether the last channel is alpha; by default if there are 2 or 4
            channels and no network for as many.
          repairs: Counts the values that were replaced.
          return_std: Whether to return (denoised, std), where std is the predicted
            standard deviation of the error of each value, float32 in the units of the
            image; it is 0 for alpha. The model must have an uncertainty.
          std_out: Array to fill with std, float32 in the shape of the image.
          on_pixels: Called after each batch of pictures, or tile of a picture, with
            the number of pixels that it denoised, for example to show the progress.

        Returns:
          The denoised pictures, with the shape and kind of the input. A masked array
          keeps its mask and the values below it.

        Raises:
          ValueError: If the shape, axes, dtype, values, range or strength is not valid,
            more than half of a picture is missing, or the network returns values that
            are not finite.
        """
        check_not_forked()
        if not 0 <= strength <= 1:
            raise ValueError(f"strength must be within [0, 1]. Received: {strength=}.")
        is_tensor = keras.ops.is_tensor(image)
        image = (
            keras.ops.convert_to_numpy(image) if is_tensor else data.pixels_of(image)
        )
        together = self._set.all_channels
        sources = data.split_pictures(image, axes, together)
        if has_alpha is None:
            has_alpha = self._set.has_alpha(sources[0].shape[-1])
        dtype = np.dtype(image.dtype if dtype is None else dtype)
        options = {"transform": transform, "gain": gain, "offset": offset}
        options |= {"dtype": dtype, "has_alpha": has_alpha}
        shared = axes is not None and percentiles_by == "file"
        scalings = self._scalings(sources, shared, pixel_range, options)
        check_wide(scalings, image.dtype, pixel_range)
        scalings[0].to_unit(sources[0][:1, :1])  # Checks the dtype early.
        result = _result(image, dtype, out)
        targets = data.split_pictures(np.ma.getdata(result), axes, together)
        std, stds = None, None
        if return_std:
            _check_std_options(strength, luminance_only, std_out, image.shape)
            empty = std_out is None
            std = np.zeros(image.shape, np.float32) if empty else std_out
            stds = data.split_pictures(std, axes, together)
        if strength == 0:
            for source, target in zip(sources, targets, strict=True):
                copy_pixels(source, target)
            return keras.ops.convert_to_tensor(result) if is_tensor else result
        without = self._remove_outliers if remove_outliers is None else remove_outliers
        repairs = Repairs() if repairs is None else repairs
        self._denoise_pictures(
            functools.partial(
                denoised_batch,
                run=self._runner(self_ensemble, luminance_only, return_std),
                dtype=dtype,
                strength=strength,
                pixel_range=pixel_range,
                has_alpha=has_alpha,
            ),
            functools.partial(
                repairs.repaired, has_alpha=has_alpha, without_outliers=without
            ),
            sources,
            targets,
            stds,
            scalings,
            on_pixels,
        )
        results = [result] if std is None else [result, std]
        if is_tensor:
            results = list(map(keras.ops.convert_to_tensor, results))
        return results[0] if std is None else tuple(results)

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

    def _runner(self, self_ensemble, luminance_only, with_std):
        run = self._set.run_ensemble if self_ensemble else self._set.run
        run = functools.partial(run, with_std=with_std)
        return functools.partial(on_luminance, run) if luminance_only else run

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

    def _denoise_pictures(
        self, function, repair, sources, targets, stds, scalings, on_pixels
    ):
        """Fills pictures [H, W, C] in batches or, if they are too large, in tiles."""
        height, width, _ = sources[0].shape
        max_pixels = self._max_pixels or self._affordable_pixels()
        count = max_pixels // (height * width)
        for first in range(0, len(sources), max(1, count)):
            batch = slice(first, first + max(1, count))
            pictures = [repair(source) for source in sources[batch]]
            rounded = list(map(rounded_target, targets[batch], scalings[batch]))
            if stds is not None:
                rounded = list(map(TargetWithStd, rounded, stds[batch]))
            if count:
                results = function(np.stack(pictures), scalings[batch])
                for target, result in zip(rounded, results, strict=True):
                    target[:] = result
                if on_pixels is not None:
                    on_pixels(len(results) * height * width)
            else:
                one = scalings[batch]
                margin = self.margin if stds is None else self._set.std_margin
                tiling.apply_by_tiles(
                    functools.partial(_on_tile, function, one),
                    *(pictures[0], rounded[0]),
                    margin=margin + MEAN_RADIUS * one[0].is_low_count,
                    multiple=self.multiple,
                    max_pixels=max_pixels,
                    on_pixels=on_pixels,
                )
            for source, target in zip(sources[batch], targets[batch], strict=True):
                data.restore_gaps(target, source)

    def _affordable_pixels(self):
        free = min(MAX_BYTES, data.free_memory() // 4)
        return int(free / (4 * self._set.floats_per_pixel))


def _check_std_options(strength, luminance_only, std_out, shape):
    if strength != 1 or luminance_only:
        raise ValueError(
            "return_std needs strength 1 and luminance_only False. "
            f"Received: {strength=}, {luminance_only=}."
        )
    if std_out is not None and (std_out.shape, std_out.dtype) != (shape, np.float32):
        raise ValueError(
            "std_out must be float32 in the shape of the image. Received: "
            f"{std_out.shape=}, {std_out.dtype=!s}, image.shape={shape}."
        )


def _on_tile(function, scalings, tile):
    return function(tile[np.newaxis], scalings)[0]


def _result(image, dtype, out):
    """Returns `out`, or a new array with the mask of the image."""
    if out is not None:
        if (out.shape, out.dtype) != (image.shape, dtype):
            raise ValueError(
                "out must have the shape of the image and the dtype of the result. "
                f"Received: {out.shape=}, {out.dtype=!s}, {image.shape=}, {dtype=!s}."
            )
        return out
    data.check_fits(image.shape, dtype)
    result = np.empty(image.shape, dtype)
    if not np.ma.isMaskedArray(image):
        return result
    return np.ma.MaskedArray(result, np.ma.getmaskarray(image).copy())
