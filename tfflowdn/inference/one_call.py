"""Denoising in one call, with the model that was loaded last."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfflowdn.inference.denoiser import Denoiser
from tfflowdn.inference.loading import GENERAL, GENERAL_DENOISERS, find_model
from tfflowdn.inference.network_set import Network
from tfflowdn.inference.scaling import Scaling
from tfflowdn.inference.transforms import Transform

__all__ = ["denoise"]


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
    gain: float | None = None,
    offset: float | None = None,
    dtype: npt.DTypeLike | None = None,
    percentiles_by: str = "file",
    remove_outliers: bool = False,
    has_alpha: bool | None = None,
    return_std: bool = False,
    trust: bool = False,
) -> np.ndarray | tf.Tensor | tuple[np.ndarray | tf.Tensor, ...]:
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
      gain: The gain of the transform.
      offset: The offset of the transform.
      dtype: The dtype of the result.
      percentiles_by: Whether planes share their range ("file") or have one each.
      remove_outliers: Whether isolated hot and dead pixels are replaced.
      has_alpha: Whether the last channel is alpha.
      return_std: Whether to return (denoised, std) with the predicted standard
        deviation of the error of each value.
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
        gain=gain,
        offset=offset,
        dtype=dtype,
        percentiles_by=percentiles_by,
        remove_outliers=remove_outliers or None,
        has_alpha=has_alpha,
        return_std=return_std,
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
