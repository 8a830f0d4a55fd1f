"""Pictures inside of HTML files."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from tfflowdn.data import shown_colors

__all__ = ["data_url", "difference", "heat"]


def data_url(picture: np.ndarray, quality: int = 90) -> str:
    """Returns a picture as the URL of a WebP file.

    Args:
      picture: [H, W, C] in [0, 1] units, see `data.shown_colors`; it is clipped.
      quality: Quality of the compression, 1 to 100.
    """
    pixels = np.uint8(np.rint(255 * np.clip(shown_colors(picture), 0, 1)))
    pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", quality=quality, method=4)
    text = base64.b64encode(file.getvalue()).decode("ascii")
    return f"data:image/webp;base64,{text}"


def difference(noisy: np.ndarray, denoised: np.ndarray) -> np.ndarray:
    """Returns the removed noise around middle gray; six deviations fill the range."""
    removed = noisy - denoised
    return 0.5 + removed / max(6 * float(removed.std()), 1e-6)


def heat(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Returns black, red, yellow and white for values [H, W] from low to high."""
    ramp = 3 * (values[..., np.newaxis] - low) / (high - low) - np.arange(3)
    return np.clip(ramp, 0, 1)
