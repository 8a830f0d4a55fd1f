"""Noise of known kinds, for measurements (NumPy)."""

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
    "poisson",
]


def gaussian(
    image: np.ndarray, rng: np.random.Generator, *, noise_sigma: float
) -> np.ndarray:
    """White noise: x + noise_sigma * n."""
    return _float32(image + noise_sigma * rng.standard_normal(image.shape))


def poisson(
    image: np.ndarray, rng: np.random.Generator, *, peak: float = 30.0
) -> np.ndarray:
    """Shot noise: Poisson(peak * x) / peak; x is clipped at 0 from below."""
    return _float32(rng.poisson(peak * np.maximum(image, 0)) / peak)


def heteroscedastic(
    image: np.ndarray,
    rng: np.random.Generator,
    *,
    gain_sigma: float = 40 / 255,
    read_sigma: float = 10 / 255,
) -> np.ndarray:
    """Camera noise: variance gain_sigma^2 * max(x, 0) + read_sigma^2, white."""
    scale = np.sqrt(gain_sigma**2 * np.maximum(image, 0) + read_sigma**2)
    return _float32(image + scale * rng.standard_normal(image.shape))


def correlated(
    image: np.ndarray,
    rng: np.random.Generator,
    *,
    noise_sigma: float = 25 / 255,
    blur_sigma: float = 1.0,
) -> np.ndarray:
    """White noise blurred by a Gaussian of blur_sigma pixels, scaled to noise_sigma.

    The standard deviation is noise_sigma at every pixel, borders included: the white
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


NOISES: dict[str, Callable[..., np.ndarray]] = {
    "gaussian": gaussian,
    "poisson": poisson,
    "heteroscedastic": heteroscedastic,
    "correlated": correlated,
}


def add_noise(
    image: np.ndarray, kind: str, rng: np.random.Generator, **params: Any
) -> np.ndarray:
    """Adds noise of a named kind; the result is neither clipped nor quantised.

    Args:
      image: float [H, W, C], units of [0, 1].
      kind: A key of `NOISES`.
      rng: `numpy.random.default_rng([seed, index])` makes it fixed per picture.
      **params: Keywords of that noise model; sigmas in the units of the image.

    Returns:
      float32 [H, W, C].

    Raises:
      ValueError: `kind` is not known, or the image is not float [H, W, C].
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
