"""Denoising of arrays, whatever their dtype and channels; loading of models."""

from __future__ import annotations

import os

import keras
import numpy as np

from tfflowdn import data
from tfflowdn.models import FlowPrior, UnpairedDenoiser

__all__ = ["denoise", "load_denoiser", "load_prior", "num_channels"]


def load_denoiser(path: str | os.PathLike) -> keras.Model:
    """Loads the network that maps noisy pictures to denoised ones.

    Args:
      path: A `.keras` file of a network or of an UnpairedDenoiser.

    Raises:
      ValueError: If there is no such file, or it holds no such model.
    """
    if not os.path.isfile(path):
        raise ValueError(f"model must be a .keras file. Received: model={str(path)!r}.")
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


def denoise(image: np.ndarray, model: keras.Model | str | os.PathLike) -> np.ndarray:
    """Denoises a picture or a batch of pictures.

    Args:
      image: [H, W], [H, W, C] or [batch, H, W, C], with C 1 or 3, one more for alpha,
        which is carried through. uint8 and uint16 span their whole range, floats are
        in [0, 1] units and may lie outside.
      model: The network, or the path of its `.keras` file. One for gray pictures
        denoises colour by the channel; one for colour denoises gray as three equal
        channels and averages them.

    Returns:
      The denoised pictures, of the input's shape and dtype.

    Raises:
      ValueError: If shape, dtype or values are none of these.
    """
    image = np.asarray(image)
    _check(image)
    network = model if isinstance(model, keras.Model) else load_denoiser(model)
    batch = image.reshape(_batch_shape(image.shape))
    colour, alpha = data.split_alpha(batch)
    denoised = _run(network, data.to_float(colour))
    denoised = data.from_float(denoised, image.dtype)
    if alpha is not None:
        denoised = np.concatenate([denoised, alpha], axis=-1)
    return denoised.reshape(image.shape)


def _run(network, noisy):
    """Denoises float32 [batch, H, W, C], C 1 or 3, by a network of either."""
    wanted, channels = num_channels(network), noisy.shape[-1]
    if wanted == channels:
        return _call(network, noisy)
    if wanted == 1:
        planes = np.concatenate(np.split(noisy, channels, axis=-1))
        planes = _call(network, planes)
        return np.concatenate(np.split(planes, channels), axis=-1)
    return _call(network, np.repeat(noisy, wanted, -1)).mean(-1, keepdims=True)


def _call(network, noisy):
    return keras.ops.convert_to_numpy(network(noisy, training=False))


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
