"""Batches of pixels through a network, from one dtype to another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfflowdn import data
from tfflowdn.inference.local_mean import RoundedTarget, keep_local_mean
from tfflowdn.inference.scaling import Scaling

__all__ = [
    "TargetWithStd",
    "check_wide",
    "copy_pixels",
    "denoised_batch",
    "rounded_target",
]


_WIDE = ("int32", "uint32", "int64", "uint64", "float64")


def denoised_batch(
    batch: np.ndarray,
    scalings: Sequence[Scaling],
    *,
    run: Callable[[np.ndarray], np.ndarray],
    dtype: np.dtype,
    strength: float,
    pixel_range: Any,
    has_alpha: bool,
) -> np.ndarray:
    """Returns denoised pictures, with alpha as it was.

    If `run` returns standard deviations, the results are floats [n, H, W, C, 2] and
    have them in pixel units; the deviation of alpha is 0.

    Args:
      batch: Pixels [n, H, W, C], with alpha.
      scalings: The scaling of each picture.
      run: Denoises float32 [n, H, W, C], see `NetworkSet.run`.
      dtype: The dtype of the results. Results with few counts remain floats, and the
        caller rounds them.
      strength: Fraction of the correction to apply.
      pixel_range: The range as it was given, for messages.
      has_alpha: Whether the last channel is alpha.

    Raises:
      ValueError: If pixels or results are not finite in units of the range.
    """
    color, alpha = data.split_alpha(batch, has_alpha)
    pairs = list(zip(color, scalings, strict=True))
    noisy = np.stack([scaling.to_unit(one) for one, scaling in pairs])
    _check_units(noisy, pixel_range)
    denoised, std = _split_std(run(noisy))
    if strength != 1 and scalings[0].transform is None:
        denoised = noisy + np.float32(strength) * (denoised - noisy)
    _check_result(denoised, pixel_range)
    result = np.stack(
        [
            _in_pixels(*pair, *units, dtype, strength)
            for pair, *units in zip(pairs, denoised, noisy, strict=True)
        ]
    )
    if alpha is not None:
        result = np.concatenate([result, alpha], -1)
    if std is None:
        return result
    deviations = np.zeros(result.shape)
    for index, (one, scaling) in enumerate(pairs):
        values = scaling.deviation(denoised[index], std[index], one.dtype)
        deviations[index, ..., : one.shape[-1]] = values
    return np.stack([result, deviations], -1)


def copy_pixels(source: np.ndarray, target: np.ndarray) -> None:
    """Fills a picture [H, W, C] with pixels, rounded and clipped for its dtype."""
    if source.dtype == target.dtype:
        target[...] = np.ma.getdata(source)
        return
    target[...] = data.from_float(data.fill_gaps(source), target.dtype, (0, 1))
    data.restore_gaps(target, source)


class TargetWithStd:
    """Two pictures [H, W, C] that are filled by values [H, W, C, 2].

    Args:
      target: The denoised picture.
      std: The standard deviations.
    """

    def __init__(self, target: Any, std: np.ndarray) -> None:
        self._target, self._std = target, std
        self.shape = target.shape

    def __setitem__(self, index: Any, values: np.ndarray) -> None:
        """Fills `[rows, columns]` or `[:]` of both."""
        self._target[index] = values[..., 0]
        self._std[index] = values[..., 1]


def rounded_target(target: np.ndarray, scaling: Scaling) -> Any:
    """Returns what `denoised_batch` fills: the target, or one that keeps means."""
    is_rounded = scaling.is_low_count and target.dtype.kind in "iu"
    return RoundedTarget(target) if is_rounded else target


def _split_std(values):
    return (values, None) if values.ndim == 4 else (values[..., 0], values[..., 1])


def check_wide(scalings: Sequence[Scaling], dtype: np.dtype, pixel_range: Any) -> None:
    """Checks that the limits of a picture differ after rounding.

    Raises:
      ValueError: If they do not.
    """
    work = np.result_type(dtype, np.float32).type
    limits = [one.limits for one in scalings]
    if any(pair and not work(pair[0]) < work(pair[1]) for pair in limits):
        raise ValueError(
            "pixel_range must be wider than the spacing of floats at its limits. "
            f"Received: {pixel_range=}, limits={limits[0]}."
        )


def _check_units(noisy, pixel_range):
    if not np.isfinite(noisy).all():
        raise ValueError(
            "The pixels must be finite float32 values in units of pixel_range. "
            f"Received: {pixel_range=}, which is too narrow for these pixels."
        )


def _changed(color, scaling, values, noisy):
    """Returns pixels that float32 cannot hold, plus the changes by the network."""
    low, high = scaling.limits or data.dtype_limits(color.dtype)
    change = (values.astype(np.float64) - noisy) * (high - low)
    if color.dtype.kind == "f":
        return color + change
    # The nearest float of the largest integer may be larger.
    info, wide = np.iinfo(color.dtype), color.astype(np.longdouble) + np.rint(change)
    inside = (wide > info.min) & (wide < info.max)
    result = np.where(wide > 0, info.max, info.min).astype(color.dtype)
    result[inside] = wide[inside].astype(color.dtype)
    return result


def _check_result(denoised, pixel_range):
    if not np.isfinite(denoised).all():
        raise ValueError(
            "The denoised pixels must be finite float32 values in units of "
            f"pixel_range. Received: {pixel_range=}, and pixels that are too large."
        )


def _in_pixels(color, scaling, values, noisy, dtype, strength):
    """Returns denoised pixels, as floats where the target rounds them."""
    is_plain = scaling.transform is None and not scaling.is_low_count
    if is_plain and dtype == color.dtype and dtype.name in _WIDE:
        return _changed(color, scaling, values, noisy)
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
