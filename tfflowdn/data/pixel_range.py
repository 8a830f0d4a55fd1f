"""Scales pixels from stored values to units of a range, and back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from tfflowdn.data.gaps import present_values

__all__ = [
    "check_finite",
    "check_range",
    "dtype_limits",
    "find_limits",
    "from_float",
    "has_limits",
    "normalize",
    "split_alpha",
    "to_float",
    "to_unit",
]

_LARGEST_SAMPLE = 2**22
_LARGEST_BLOCK = 2**24


def check_range(pixel_range: str | Sequence[float]) -> str:
    """Checks a range of pixel values and returns it in words.

    Args:
      pixel_range: The values that become 0 and 1. "dtype": 0 and the largest value of
        the integer type, floats unchanged; "LOW,HIGH", or the two numbers: these
        stored values; "LOW%,HIGH%": these percentiles of each picture, or of
        all planes of a stack together.

    Raises:
      ValueError: If the range is not valid.
    """
    parsed = _parse(pixel_range)
    if parsed is None:
        return "dtype"
    low, high, percent = parsed
    return f"{low!r}{percent},{high!r}{percent}"


def find_limits(
    pixel_range: str | Sequence[float],
    pictures: Iterable[np.ndarray],
    count: int = 1,
    has_alpha: bool | None = None,
) -> tuple[float, float] | None:
    """Returns the values that become 0 and 1 in some pictures, or None for "dtype".

    Percentiles are computed from a regular grid of at most 4 million pixels. If both
    are the same value, the lowest and the highest value are used instead.

    Args:
      pixel_range: See `check_range`.
      pictures: Pixels [H, W, C], C with alpha, which does not count; missing pixels
        do not count either.
      count: Their number.
      has_alpha: Whether the last channel is alpha; by default if C is 2 or 4.

    Raises:
      ValueError: If the range is not valid, or has percentiles while every pixel is
        missing.
    """
    parsed = _parse(pixel_range)
    if parsed is None:
        return None
    low, high, percent = parsed
    if not percent:
        return low, high
    most = _LARGEST_SAMPLE // count
    sample = np.concatenate([_sample(p, most, has_alpha) for p in pictures])
    if not sample.size:
        raise ValueError("some pixels must be finite numbers. Received: none.")
    values = np.percentile(sample.astype(np.result_type(sample, "f4")), [low, high])
    if values[0] == values[1]:
        values = sample.min(), sample.max()
    low, high = map(float, values)
    return low, high if high > low else _next_limit(low)


def normalize(pixel_range: str | Sequence[float], picture: np.ndarray) -> np.ndarray:
    """Returns a picture [H, W, C] as float32 in units of its range, see above."""
    return to_float(picture, find_limits(pixel_range, [picture]))


def dtype_limits(dtype: np.typing.DTypeLike) -> tuple[float, float]:
    """Returns the values of a dtype that become 0 and 1 in the range "dtype".

    Raises:
      ValueError: For 32-bit integers, and for another dtype than `to_float` takes.
    """
    return _limits(np.dtype(dtype), None)


def has_limits(dtype: np.typing.DTypeLike) -> bool:
    """Returns whether a dtype has a range; 32-bit integers use no common range."""
    dtype = np.dtype(dtype)
    return dtype.kind in "bf" or (dtype.kind in "iu" and dtype.itemsize <= 2)


def to_float(
    array: np.ndarray, limits: tuple[float, float] | None = None
) -> np.ndarray:
    """Scales stored pixels to float32, `limits` to 0 and 1.

    Pixels beyond the limits are not clipped and lie outside [0, 1].

    Args:
      array: Integers, floats or bools.
      limits: The two values, or arrays of them that broadcast; by default 0 and the
        largest value of the integer type, and 0 and 1 of floats.

    Raises:
      ValueError: For another dtype, or for 32-bit integers without limits.
    """
    low, high = _limits(array.dtype, limits)
    work = np.result_type(array.dtype, np.float32)
    if limits is None:
        return (array / work.type(high)).astype(np.float32, copy=False)
    low, high = np.asarray(low, work), np.asarray(high, work)
    with np.errstate(over="ignore"):  # Callers check that values are finite.
        return ((array - low) / (high - low)).astype(np.float32, copy=False)


def to_unit(image: tf.Tensor) -> tf.Tensor:
    """Scales stored pixels to float32 as `to_float` does, in a graph."""
    _, high = _limits(np.dtype(image.dtype.as_numpy_dtype), None)
    return tf.cast(image, tf.float32) / high


def from_float(
    array: np.ndarray,
    dtype: np.typing.DTypeLike,
    limits: tuple[float, float] | None = None,
) -> np.ndarray:
    """Inverts `to_float`: rounds for integers, and clips at the limits of the dtype.

    Args:
      array: float pixels.
      dtype: Integers, floats or bool (0.5 and above is True).
      limits: The limits that were given to `to_float`.

    Raises:
      ValueError: For another dtype, for 32-bit integers without limits, or for a
        non-finite pixel and an integer dtype.
    """
    dtype = np.dtype(dtype)
    low, high = _limits(dtype, limits)
    work = np.result_type(dtype, np.float32)
    low, high = np.asarray(low, work), np.asarray(high, work)
    with np.errstate(over="ignore"):  # It is clipped below.
        values = array * (high - low) + low
    if dtype.kind == "b":
        return values >= 0.5
    info = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    most = float(info.max)
    if dtype.kind != "f" and int(most) > info.max:  # The nearest float is larger.
        most = np.nextafter(values.dtype.type(most), values.dtype.type(0))
    values = np.clip(values, info.min, most)
    if dtype.kind == "f":
        return values.astype(dtype)
    check_finite(values)
    return np.rint(values).astype(dtype)


def split_alpha(
    array: np.ndarray, has_alpha: bool | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Splits [..., C] into color and alpha [..., 1], or None if there is no alpha.

    Args:
      array: [..., C].
      has_alpha: Whether the last channel is alpha; by default if C is 2 or 4.
    """
    if array.shape[-1] in (2, 4) if has_alpha is None else has_alpha:
        return array[..., :-1], array[..., -1:]
    return array, None


def check_finite(array: np.ndarray) -> None:
    """Checks that every pixel is a finite float32.

    Raises:
      ValueError: If a pixel is not, with the number of such pixels.
    """
    if array.dtype.kind != "f":
        return
    num_blocks = min(len(array), math.ceil(array.size / _LARGEST_BLOCK))
    with np.errstate(over="ignore"):
        num_bad = sum(
            int(np.count_nonzero(~np.isfinite(block.astype(np.float32, copy=False))))
            for block in np.array_split(array, num_blocks)
        )
    if num_bad:
        raise ValueError(f"every pixel must be finite. Received: {num_bad=}.")


def _check_width(dtype: np.dtype, limits: tuple[float, float]) -> None:
    """Checks that the limits differ in the type of the computation."""
    work = np.result_type(dtype, np.float32)
    low, high = (np.asarray(limit, work) for limit in limits)
    if not np.all(high > low):
        raise ValueError(
            f"The range must have a width in {work.name}. Received: limits={limits}."
        )


def _parse(pixel_range: str | Sequence[float]) -> tuple[float, float, str] | None:
    """Returns low, high and "" or "%"; None for "dtype"."""
    if pixel_range == "dtype":
        return None
    is_text = isinstance(pixel_range, str)
    parts = pixel_range.split(",") if is_text else np.ravel(pixel_range).tolist()
    percent = "%" if is_text and all(p.strip().endswith("%") for p in parts) else ""
    try:
        low, high = (float(p.strip().removesuffix(percent)) for p in map(str, parts))
    except ValueError:
        low = high = math.nan
    if low == high:
        raise ValueError(
            "pixel_range must have a width: in LOW,HIGH, LOW must be below HIGH. "
            f"Received: {pixel_range=}."
        )
    least, most = (0, 100) if percent else (-math.inf, math.inf)
    if not (math.isfinite(high - low) and least <= low < high <= most):
        raise ValueError(
            'pixel_range must be "dtype", LOW,HIGH or LOW%,HIGH%, two rising numbers. '
            f"Received: {pixel_range=}."
        )
    return low, high, percent


def _next_limit(low: float) -> float:
    """Returns a value above `low` by 1, or by more where float32 is coarser."""
    return low + max(1.0, 2.0 * float(np.spacing(np.float32(abs(low)))))


def _sample(picture: np.ndarray, most: int, has_alpha: bool | None) -> np.ndarray:
    color, _ = split_alpha(picture, has_alpha)
    step = math.ceil(math.sqrt(color.shape[0] * color.shape[1] / max(most, 1)))
    return present_values(color[::step, ::step])


def _limits(dtype: np.dtype, limits: tuple[float, float] | None) -> tuple[float, float]:
    is_integer = dtype.kind in "iu"
    if not (is_integer or dtype.kind == "b" or (dtype.kind == "f" and dtype != "g")):
        raise ValueError(
            "The pixels must be integers, floats or bools. "
            f"Received: dtype={dtype.name}."
        )
    if limits is not None:
        _check_width(dtype, limits)
        return limits
    if not has_limits(dtype):
        raise ValueError(
            "Integers of 32 bits and more must come with a pixel_range, such as "
            "0,4095 or 0.1%,99.9%: no camera uses all of their values. "
            f"Received: dtype={dtype.name}."
        )
    return 0, np.iinfo(dtype).max if is_integer else 1
