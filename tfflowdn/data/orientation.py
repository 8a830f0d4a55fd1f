"""The orientation that EXIF and TIFF store next to the pixels."""

from __future__ import annotations

import numpy as np

__all__ = ["ORIENTATION_TAG", "orient", "valid_orientation"]

ORIENTATION_TAG = 0x0112


def valid_orientation(value: object) -> int:
    """Returns a stored orientation, or 1 if it is not an integer from 1 to 8."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def orient(array: np.ndarray, orientation: int) -> np.ndarray:
    """Returns the pixels [H, W, ...] as they must be shown.

    Args:
      array: The pixels as they are stored.
      orientation: 1 to 8, as in EXIF; any other value leaves them unchanged.
    """
    if 5 <= orientation <= 8:
        array = array.swapaxes(0, 1)
    flips = {2: 1, 3: (0, 1), 4: 0, 6: 1, 7: (0, 1), 8: 0}
    return np.flip(array, flips[orientation]) if orientation in flips else array
