"""Noise of known kinds, for measurements (NumPy).

A new kind is a function `(image, rng, **parameters)` in this file and its name in
`NOISES`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tfflowdn.checks import check_choice

__all__ = [
    "NOISES",
    "add_noise",
    "correlated",
    "gaussian",
    "heteroscedastic",
    "impulses",
    "poisson",
    "stripes",
]


def gaussian(
    image: np.ndarray, rng: np.random.Generator, *, noise_sigma: float
) -> np.ndarray:
    """Adds white noise: x + noise_sigma * n."""
    return _float32(image + noise_sigma * rng.standard_normal(image.shape))


def poisson(
    image: np.ndarray, rng: np.random.Generator, *, peak: float = 30.0
) -> np.ndarray:
    """Draws shot noise: Poisson(peak * max(x, 0)) / peak."""
    return _float32(rng.poisson(peak * np.maximum(image, 0)) / peak)


def heteroscedastic(
    image: np.ndarray,
    rng: np.random.Generator,
    *,
    gain_sigma: float = 40 / 255,
    read_sigma: float = 10 / 255,
) -> np.ndarray:
    """Adds white camera noise of variance gain_sigma^2 * max(x, 0) + read_sigma^2."""
    scale = np.sqrt(gain_sigma**2 * np.maximum(image, 0) + read_sigma**2)
    return _float32(image + scale * rng.standard_normal(image.shape))


def correlated(
    image: np.ndarray,
    rng: np.random.Generator,
    *,
    noise_sigma: float = 25 / 255,
    blur_sigma: float = 1.0,
) -> np.ndarray:
    """Adds white noise blurred by a Gaussian of blur_sigma pixels.

    The standard deviation is noise_sigma at every pixel, also at the borders: the white
    noise is drawn on a larger field and divided by the norm of the kernel.
    """
    radius = int(np.ceil(4 * blur_sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / blur_sigma) ** 2)
    kernel /= np.sqrt(np.sum(kernel**2))
    height, width, channels = image.shape
    field = rng.standard_normal((height + 2 * radius, width + 2 * radius, channels))
    field = sum(k * field[i : i + height] for i, k in enumerate(kernel))
    field = sum(k * field[:, i : i + width] for i, k in enumerate(kernel))
    return _float32(image + noise_sigma * field)


def stripes(
    image: np.ndarray,
    rng: np.random.Generator,
    *,
    noise_sigma: float = 10 / 255,
    row_sigma: float = 10 / 255,
) -> np.ndarray:
    """Adds white noise, and one normal value for each row (in all of its channels)."""
    rows = row_sigma * rng.standard_normal((image.shape[0], 1, 1))
    return gaussian(image + rows, rng, noise_sigma=noise_sigma)


def impulses(
    image: np.ndarray,
    rng: np.random.Generator,
    *,
    noise_sigma: float = 10 / 255,
    impulse_share: float = 0.01,
) -> np.ndarray:
    """Adds white noise, then sets a share of the pixels to 0 or 1 at random.

    All channels of such a pixel get the same value.
    """
    noisy = gaussian(image, rng, noise_sigma=noise_sigma)
    uniform = rng.random((*image.shape[:2], 1))
    impulse = np.where(uniform < impulse_share / 2, 0, 1)
    return _float32(np.where(uniform < impulse_share, impulse, noisy))


NOISES: dict[str, Callable[..., np.ndarray]] = {
    "gaussian": gaussian,
    "poisson": poisson,
    "heteroscedastic": heteroscedastic,
    "correlated": correlated,
    "stripes": stripes,
    "impulses": impulses,
}


def add_noise(
    image: np.ndarray, kind: str, rng: np.random.Generator, **params: Any
) -> np.ndarray:
    """Adds noise of a named kind; the result is neither clipped nor quantized.

    Args:
      image: Floats [H, W, C] in units of [0, 1].
      kind: A key of `NOISES`.
      rng: Random generator; `numpy.random.default_rng([seed, index])` gives each
        picture a fixed noise.
      **params: Parameters of this kind; sigmas are in the units of the image.

    Returns:
      float32 [H, W, C].

    Raises:
      ValueError: If `kind` is not a key of `NOISES`, or the image is not float
        [H, W, C].
    """
    check_choice("kind", kind, NOISES)
    if image.ndim != 3 or image.dtype.kind != "f":
        shape, dtype = image.shape, image.dtype.name
        raise ValueError(
            f"image must be float [H, W, C]. Received: {shape=}, {dtype=}."
        )
    return NOISES[kind](image, rng, **params)


def _float32(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32)
