"""Pictures of any number of channels as gray or RGB, for people to see."""

from __future__ import annotations

import numpy as np

__all__ = ["shown_colors"]


def shown_colors(picture: np.ndarray) -> np.ndarray:
    """Returns a picture [..., C] with 1 or 3 channels.

    Two channels are shown in magenta and green, and of more than three the first three
    in red, green and blue.
    """
    channels = picture.shape[-1]
    if channels in (1, 3):
        return picture
    return picture[..., [0, 1, 0]] if channels == 2 else picture[..., :3]
