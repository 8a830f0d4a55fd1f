"""The orientation that EXIF and TIFF store beside the pixels."""

from __future__ import annotations

import numpy as np

__all__ = ["ORIENTATION_TAG", "orient"]

ORIENTATION_TAG = 0x0112


def orient(array: np.ndarray, orientation: int) -> np.ndarray:
    """Returns the pixels [H, W, ...] as they are to be seen.

    Args:
      array: The pixels as they are stored.
      orientation: 1 to 8, as in EXIF; 1 leaves them as they are.
    """
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    flips = {2: 1, 3: (0, 1), 4: 0, 6: 1, 7: (0, 1), 8: 0}
    return np.flip(array, flips[orientation]) if orientation in flips else array
