"""Denoising of arrays, whatever their dtype and channels; loading of models."""

from __future__ import annotations

import itertools
import json
import os

import keras
import numpy as np
import psutil
import tensorflow as tf

from tfflowdn import data, tiling
from tfflowdn.models import FlowPrior, UnpairedDenoiser

__all__ = ["Denoiser", "denoise", "load_denoiser", "load_prior", "num_channels"]

MAX_BYTES = 2**30
UNKNOWN_STRIDES = 32  # A multiple of the strides of any network in use.
LIVE_TENSORS = 6  # As large as the widest layer's output, in a residual network.


class SavedNetwork:
    """The SavedModel of a denoiser, to be called as its network is.

    Args:
      path: What `export_model` wrote, the folder of a version.
    """

    def __init__(self, path: str | os.PathLike):
        self.name = os.fspath(path)
        self.weights = ()
        self._model = tf.saved_model.load(self.name)
        (noisy,) = (
            self._model.signatures["serve"].structured_input_signature[1].values()
        )
        self.channels = noisy.shape[-1]
        # What `export_model` has written beside the graph need not be measured.
        path = os.path.join(self.name, "assets.extra", "model.json")
        if os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                facts = json.load(file)
            names = {"receptive_radius", "scale"} & set(facts)
            vars(self).update({name: facts[name] for name in names})

    def __call__(self, noisy, training=False):
        """Returns the denoised pictures, float32 [batch, H, W, C]."""
        del training
        return self._model.signatures["serve"](tf.convert_to_tensor(noisy))["denoised"]

    def compute_output_shape(self, input_shape):
        """Returns the input's shape."""
        return input_shape


def load_denoiser(path: str | os.PathLike) -> keras.Model | SavedNetwork:
    """Loads the network that maps noisy pictures to denoised ones.

    Args:
      path: A `.keras` file of a network or of an UnpairedDenoiser, or the folder of
        its SavedModel.

    Raises:
      ValueError: If there is no such file, or it holds no such model.
    """
    if os.path.isfile(os.path.join(path, "saved_model.pb")):
        return SavedNetwork(path)
    if not os.path.isfile(path):
        raise ValueError(
            "model must be a .keras file or the folder of a SavedModel. "
            f"Received: model={str(path)!r}."
        )
    model = keras.models.load_model(path, compile=False)
    network = model.network if isinstance(model, UnpairedDenoiser) else model
    num_channels(network)
    return network


def load_prior(path: str | os.PathLike) -> FlowPrior:
    """Loads a prior.

    Args:
      path: A `.keras` file.

    Raises:
      ValueError: If there is no such file, or it holds no FlowPrior.
    """
    if not os.path.isfile(path):
        raise ValueError(f"prior must be a .keras file. Received: prior={str(path)!r}.")
    prior = keras.models.load_model(path, compile=False)
    if not isinstance(prior, FlowPrior):
        kind = type(prior).__name__
        raise ValueError(f"prior must hold a FlowPrior. Received: {path!r}, a {kind}.")
    return prior


def num_channels(network: keras.Model) -> int:
    """Returns the number of channels, 1 or 3, of the pictures a network takes."""
    channels = getattr(network, "channels", None)
    if channels is None:
        channels = network.input_shape[-1]
    output = network.compute_output_shape((1, 16, 16, channels))
    if channels not in (1, 3) or tuple(output) != (1, 16, 16, channels):
        raise ValueError(
            "A denoiser must map [batch, H, W, C] to the same shape, C 1 or 3. "
            f"Received: {network.name}, from C={channels} to {tuple(output)}."
        )
    return channels


class Denoiser:
    """A network that denoises pictures of any size, dtype and number of channels.

    Pictures of more than `max_pixels` are denoised by overlapping tiles, with the
    same result. A network for gray pictures denoises colour by the channel; one for
    colour denoises gray as three equal channels and averages them.

    Args:
      network: Keras model of pictures [batch, H, W, C], C 1 or 3, to the same shape.
        If it has no `receptive_radius`, and no `scale` that its strides multiply to,
        the former is measured and the latter taken to divide 32.
      max_pixels: Pixels to give to the network at once; by default as many as need
        no more than 1 GiB and a quarter of the memory that is free.

    Raises:
      ValueError: If the network is none of these.
    """

    def __init__(self, network: keras.Model, *, max_pixels: int | None = None):
        self.network = network
        self.channels = num_channels(network)
        self.multiple = getattr(network, "scale", UNKNOWN_STRIDES)
        self._margin = getattr(network, "receptive_radius", None)
        self._max_pixels = max_pixels

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike, **options) -> Denoiser:
        """Loads a denoiser from its file or SavedModel, see `load_denoiser`."""
        return cls(load_denoiser(path), **options)

    @property
    def margin(self) -> int:
        """Pixels around a pixel that its denoised value may depend on."""
        if self._margin is None:
            self._margin = tiling.measure_radius(self._call, self.channels)
        return self._margin

    def __call__(
        self,
        image,
        *,
        out: np.ndarray | None = None,
        axes: str | None = None,
        strength: float = 1.0,
        self_ensemble: bool = False,
    ) -> np.ndarray:
        """Denoises a picture or a batch of pictures.

        Args:
          image: [H, W], [H, W, C] or [batch, H, W, C], with C 1 or 3, one more for
            alpha, which is carried through; an array or a tensor. uint8 and uint16
            span their whole range, floats are in [0, 1] units and may lie outside.
          out: Array to fill and return, of the image's shape and dtype, such as a
            `np.memmap`; not for tensors, nor with `axes`.
          axes: The meaning of each axis, such as "TZYX" or "TYXS": Y and X are those
            of the planes to denoise, S the samples of a pixel (C above), all others
            count planes.
          strength: Part of the correction that is applied, 0 (none) to 1.
          self_ensemble: Whether to average over the 8 flips and rotations.

        Returns:
          The denoised pictures, of the input's shape, dtype and kind.

        Raises:
          ValueError: If shape, axes, dtype, values or strength are none of these.
        """
        if axes is not None:
            return self._along_axes(image, axes, strength, self_ensemble)
        if not 0 <= strength <= 1:
            raise ValueError(f"strength must be within [0, 1]. Received: {strength=}.")
        is_tensor = keras.ops.is_tensor(image)
        image = keras.ops.convert_to_numpy(image) if is_tensor else np.asarray(image)
        _check(image)

        def denoise_batch(batch):
            return self._denoise(batch, strength, self_ensemble)

        result = np.empty(image.shape, image.dtype) if out is None else out
        if (result.shape, result.dtype) != (image.shape, image.dtype):
            raise ValueError(
                "out must be of the image's shape and dtype. Received: "
                f"{out.shape=}, {out.dtype=!s}, {image.shape=}, {image.dtype=!s}."
            )
        shape = _batch_shape(image.shape)
        self._denoise_batches(
            denoise_batch, image.reshape(shape), result.reshape(shape)
        )
        return keras.ops.convert_to_tensor(result) if is_tensor else result

    def _along_axes(self, image, axes, strength, self_ensemble):
        axes = axes.upper()
        distinct = len(set(axes)) == len(axes) == len(image.shape)
        if not distinct or not set("YX") <= set(axes):
            raise ValueError(
                "axes must name each axis of image by a letter of its own, Y and X "
                f"among them. Received: {axes=}, image.shape={tuple(image.shape)}."
            )
        is_tensor = keras.ops.is_tensor(image)
        image = keras.ops.convert_to_numpy(image) if is_tensor else np.asarray(image)
        inner = "YXS" if "S" in axes else "YX"
        order = [i for i, name in enumerate(axes) if name not in inner]
        order += [axes.index(name) for name in inner]
        planes = np.transpose(image, order)
        size = planes.shape[-len(inner) :]
        batch = planes.reshape(-1, *size, *([1] if len(inner) == 2 else []))
        result = self(batch, strength=strength, self_ensemble=self_ensemble)
        result = np.transpose(result.reshape(planes.shape), np.argsort(order))
        return keras.ops.convert_to_tensor(result) if is_tensor else result

    def _denoise_batches(self, function, source, target):
        """Fills [n, H, W, C]: several pictures at once, one, or a part of one."""
        pixels = source.shape[1] * source.shape[2]
        max_pixels = self._max_pixels or self._affordable_pixels()
        count = max_pixels // pixels
        if count:
            for first in range(0, len(source), count):
                batch = slice(first, first + count)
                target[batch] = function(source[batch])
            return
        for picture, result in zip(source, target, strict=True):
            tiling.apply_by_tiles(
                lambda tile: function(tile[np.newaxis])[0],
                picture,
                result,
                margin=self.margin,
                multiple=self.multiple,
                max_pixels=max_pixels,
            )

    def _denoise(self, batch, strength, self_ensemble):
        """Denoises stored pixels [n, H, W, C], C with alpha, at once."""
        colour, alpha = data.split_alpha(batch)
        noisy = data.to_float(colour)
        denoised = (self._run_ensemble if self_ensemble else self._run)(noisy)
        if strength != 1:
            denoised = noisy + np.float32(strength) * (denoised - noisy)
        denoised = data.from_float(denoised, batch.dtype)
        return denoised if alpha is None else np.concatenate([denoised, alpha], -1)

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
        if self.channels == channels:
            return self._call(noisy)
        if self.channels == 1:
            planes = np.concatenate(np.split(noisy, channels, axis=-1))
            planes = self._call(planes)
            return np.concatenate(np.split(planes, channels), axis=-1)
        gray = self._call(np.repeat(noisy, self.channels, -1))
        return gray.mean(-1, keepdims=True)

    def _call(self, noisy):
        return keras.ops.convert_to_numpy(self.network(noisy, training=False))

    def _affordable_pixels(self):
        widths = [w.shape[-1] for w in self.network.weights if len(w.shape) == 4]
        scale = getattr(self.network, "scale", 1)
        floats = LIVE_TENSORS * max(widths, default=64) / scale**2
        free = min(MAX_BYTES, psutil.virtual_memory().available // 4)
        return int(free / (4 * floats))


def denoise(image, model: Denoiser | keras.Model | str | os.PathLike, **options):
    """Denoises a picture or a batch of pictures, see `Denoiser`.

    Args:
      image: The pictures.
      model: A denoiser, its network, or the path of its file or SavedModel.
      **options: `axes`, `strength` and `self_ensemble`.

    Returns:
      The denoised pictures, of the input's shape, dtype and kind.
    """
    if isinstance(model, str | os.PathLike):
        model = load_denoiser(model)
    if not isinstance(model, Denoiser):
        model = Denoiser(model)
    return model(image, **options)


def _batch_shape(shape):
    if len(shape) == 2:
        return (1, *shape, 1)
    return (1, *shape) if len(shape) == 3 else shape


def _check(image):
    shape, dtype = image.shape, image.dtype
    is_shape = len(shape) == 2 or (len(shape) in (3, 4) and 1 <= shape[-1] <= 4)
    if not is_shape or 0 in shape:
        raise ValueError(
            "image must be [H, W], [H, W, C] or [batch, H, W, C], C from 1 to 4 and "
            f"none of them 0. Received: image.shape={shape}."
        )
    if dtype not in (np.uint8, np.uint16) and dtype.kind != "f":
        raise ValueError(
            "image must be uint8, uint16 or floating. "
            f"Received: image.dtype={dtype.name}."
        )
    if dtype.kind == "f" and not np.isfinite(image).all():
        count = int(np.size(image) - np.isfinite(image).sum())
        raise ValueError(
            f"The pixels of image must be finite. Received: {count} that are not."
        )
