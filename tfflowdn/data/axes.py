"""The meaning of the axes of an array."""

from __future__ import annotations

import numpy as np

__all__ = ["check_axes", "find_planes", "split_pictures"]

_MOST_CHANNELS = 4


def split_pictures(image: np.ndarray, axes: str | None) -> list[np.ndarray]:
    """Returns views of the pictures [H, W, C] in an array.

    Args:
      image: [H, W], [H, W, C] or [batch, H, W, C], C from 1 to 4, or any shape with
        `axes`.
      axes: One letter for each axis, see `Denoiser.__call__`.

    Raises:
      ValueError: If the shape or the axes are not valid.
    """
    if axes is not None:
        return find_planes(image, axes.upper())
    shape = image.shape
    is_shape = len(shape) == 2 or (
        len(shape) in (3, 4) and 1 <= shape[-1] <= _MOST_CHANNELS
    )
    if not is_shape or 0 in shape:
        raise ValueError(
            "image must be [H, W], [H, W, C] or [batch, H, W, C], with C from 1 to 4 "
            f"and no empty axis; other arrays need axes. Received: image.shape={shape}."
        )
    image = image[..., np.newaxis] if len(shape) == 2 else image
    return list(image if len(shape) == 4 else image[np.newaxis])


def find_planes(image: np.ndarray, axes: str) -> list[np.ndarray]:
    """Returns views of the planes [H, W, C] in an array with named axes.

    Raises:
      ValueError: If the axes do not fit the array.
    """
    check_axes(axes, image.shape)
    inner = [axes.index(name) for name in "YXS" if name in axes]
    outer = [axis for axis in range(image.ndim) if axis not in inner]
    planes = np.transpose(image, outer + inner)
    planes = planes if "S" in axes else planes[..., np.newaxis]
    return [planes[index] for index in np.ndindex(planes.shape[:-3])]


def check_axes(axes: str, shape: tuple[int, ...]) -> None:
    """Checks that the axes of an array have different names and fit its shape.

    Args:
      axes: One letter for each axis, in upper case.
      shape: The shape of the array.

    Raises:
      ValueError: If they do not.
    """
    distinct = len(set(axes)) == len(axes) == len(shape)
    if not distinct or not set("YX") <= set(axes) or 0 in shape:
        raise ValueError(
            "axes must name each axis of image by a different letter, among them Y and "
            f"X, and no axis may be empty. Received: {axes=}, image.shape={shape}."
        )
    if "S" in axes and shape[axes.index("S")] > _MOST_CHANNELS:
        raise ValueError(
            "S, the axis of the channels, must have a length of 1 to 4. "
            f"Received: {axes=}, image.shape={shape}."
        )
