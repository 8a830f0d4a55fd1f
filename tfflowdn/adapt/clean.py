"""Makes the clean pictures of a run similar to the noisy ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfflowdn.adapt.look import choose_range
from tfflowdn.adapt.pictures import Plane, to_units

__all__ = ["clean_pictures", "with_brightness_of"]

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # Red, green, blue (BT.601).
QUANTILES = np.linspace(0, 1, 101)


def clean_pictures(planes: Sequence[Plane], channels: int) -> list[np.ndarray]:
    """Returns clean pictures in [0, 1] units with a number of channels.

    Color pictures become gray if the noisy ones are.

    Args:
      planes: The planes, of any dtype.
      channels: 1 or 3.

    Raises:
      ValueError: If gray pictures are given and color is needed.
    """
    pictures = to_units(planes, choose_range(planes))
    if channels == 1:
        return [_gray(picture) for picture in pictures]
    gray = [p.name for p in planes if p.pixels.shape[-1] == 1]
    if gray:
        raise ValueError(
            "The clean pictures must be in color, like the noisy ones. "
            f"Received: {gray[:3]}, which are gray."
        )
    return pictures


def with_brightness_of(
    pictures: Sequence[np.ndarray], examples: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Gives pictures the brightness and contrast of others.

    A rising function maps the values of a picture, so that the quantiles of an example
    result. The pictures take the examples in turns.

    Args:
      pictures: float32 [H, W, C] in [0, 1] units.
      examples: Pictures with little noise, likewise.
    """
    curves = [np.quantile(example, QUANTILES) for example in examples]
    return [
        _mapped(picture, curves[index % len(curves)])
        for index, picture in enumerate(pictures)
    ]


def _mapped(picture: np.ndarray, curve: np.ndarray) -> np.ndarray:
    own = np.quantile(picture, QUANTILES)
    rising = own + 1e-6 * QUANTILES  # Equal quantiles must keep their order.
    return np.float32(np.interp(picture, rising, curve))


def _gray(picture: np.ndarray) -> np.ndarray:
    if picture.shape[-1] == 1:
        return picture
    return (picture @ LUMINANCE)[..., np.newaxis]
