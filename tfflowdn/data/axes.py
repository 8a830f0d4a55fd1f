"""The meaning of the axes of an array."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

__all__ = [
    "MOST_CHANNELS",
    "check_axes",
    "find_planes",
    "joined_axes",
    "seen_together",
    "split_pictures",
]

MOST_CHANNELS = 16
_USUAL_CHANNELS = (1, 2, 3, 4)  # Gray or color, with or without alpha.


def seen_together(
    channels: Collection[int] | None, axes: str | None
) -> tuple[int, ...]:
    """Returns the numbers of channels that a picture may have.

    Args:
      channels: The numbers of channels that are seen together; None where the
        pictures decide. 2 and 4 channels are then gray and RGB with alpha, unless
        there is an axis C.
      axes: The axes of the array, or None.
    """
    if channels is not None:
        return tuple(channels)
    has_axis = axes is not None and "C" in axes.upper()
    numbers = range(2, MOST_CHANNELS + 1)
    return tuple(n for n in numbers if has_axis or n not in (2, 4))


def split_pictures(
    image: np.ndarray, axes: str | None, channels: Collection[int] = ()
) -> list[np.ndarray]:
    """Returns views of the pictures [H, W, C] in an array.

    Args:
      image: [H, W], [H, W, C] or [batch, H, W, C], C from 1 to 4 or one of `channels`,
        or any shape with `axes`.
      axes: One letter for each axis, see `Denoiser.__call__`.
      channels: The numbers of channels that are denoised together.

    Raises:
      ValueError: If the shape or the axes are not valid.
    """
    if axes is not None:
        return find_planes(image, axes.upper(), channels)
    shape = image.shape
    is_shape = len(shape) == 2 or (
        len(shape) in (3, 4) and shape[-1] in (*_USUAL_CHANNELS, *channels)
    )
    if not is_shape or 0 in shape:
        raise ValueError(
            "image must be [H, W], [H, W, C] or [batch, H, W, C], with C from 1 to 4 "
            f"and no empty axis; other arrays need axes. Received: image.shape={shape}."
        )
    image = image[..., np.newaxis] if len(shape) == 2 else image
    return list(image if len(shape) == 4 else image[np.newaxis])


def find_planes(
    image: np.ndarray, axes: str, channels: Collection[int] = ()
) -> list[np.ndarray]:
    """Returns views of the planes [H, W, C] in an array with named axes.

    C is an axis of gray planes, or of the channels, see `joined_axes`.

    Raises:
      ValueError: If the axes do not fit the array.
    """
    check_axes(axes, image.shape, channels)
    axes = joined_axes(axes, image.shape, channels)
    inner = [axes.index(name) for name in "YXS" if name in axes]
    outer = [axis for axis in range(image.ndim) if axis not in inner]
    planes = np.transpose(image, outer + inner)
    planes = planes if "S" in axes else planes[..., np.newaxis]
    return [planes[index] for index in np.ndindex(planes.shape[:-3])]


def joined_axes(axes: str, shape: tuple[int, ...], channels: Collection[int]) -> str:
    """Returns the axes with S for C where channels are seen together.

    Args:
      axes: One letter for each axis, in upper case.
      shape: The shape of the array.
      channels: The numbers of channels that are seen together.
    """
    if "C" not in axes or "S" in axes or 1 in channels:
        return axes
    is_joint = shape[axes.index("C")] in channels
    return axes.replace("C", "S") if is_joint else axes


def check_axes(
    axes: str, shape: tuple[int, ...], channels: Collection[int] = ()
) -> None:
    """Checks that the axes of an array have different names and fit its shape.

    Args:
      axes: One letter for each axis, in upper case.
      shape: The shape of the array.
      channels: The numbers of channels that are denoised together.

    Raises:
      ValueError: If they do not.
    """
    distinct = len(set(axes)) == len(axes) == len(shape)
    if not distinct or not set("YX") <= set(axes) or 0 in shape:
        raise ValueError(
            "axes must name each axis of image by a different letter, among them Y and "
            f"X, and no axis may be empty. Received: {axes=}, image.shape={shape}."
        )
    lengths = (*_USUAL_CHANNELS, *channels)
    if "S" in axes and shape[axes.index("S")] not in lengths:
        raise ValueError(
            "S, the axis of the channels, must have a length of 1 to 4, or the number "
            f"of channels of the model. Received: {axes=}, image.shape={shape}."
        )
