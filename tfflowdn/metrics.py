"""Image quality (PSNR, SSIM) and density (bits per dimension)."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

__all__ = ["PSNR", "bits_per_dim", "psnr", "ssim"]

_SSIM_RADIUS = 5
_SSIM_SIGMA = 1.5
_SSIM_K1 = 0.01
_SSIM_K2 = 0.03


def psnr(reference: Any, image: Any, *, data_range: float) -> Any:
    """Peak signal-to-noise ratio, 10 log10(data_range^2 / MSE), in dB.

    Nothing is clipped here; identical pictures give infinity.

    Args:
      reference: [..., H, W, C].
      image: The same shape.
      data_range: Largest minus smallest possible value, 1 for pictures in [0, 1].

    Returns:
      float32 tensor [...], one value a picture.

    Raises:
      ValueError: The shapes differ, or `data_range` is not positive.
    """
    reference, image = _checked(reference, image, data_range)
    error = ops.mean(ops.square(reference - image), axis=(-3, -2, -1))
    return -10.0 * ops.log10(error)


def ssim(reference: Any, image: Any, *, data_range: float) -> Any:
    """Structural similarity with the 11x11 Gaussian window of sigma 1.5.

    Wang et al. 2004 with K1 = 0.01, K2 = 0.03 and population variances, averaged over
    the positions where the window fits, and over the channels.

    Args:
      reference: [..., H, W, C], H and W at least 11 and known.
      image: The same shape.
      data_range: Largest minus smallest possible value, 1 for pictures in [0, 1].

    Returns:
      float32 tensor [...], one value a picture, at most 1.

    Raises:
      ValueError: The shapes differ, a picture is smaller than the window, or
        `data_range` is not positive.
    """
    x, y = _checked(reference, image, data_range)
    height, width = x.shape[-3:-1]
    if min(height or math.inf, width or math.inf) <= 2 * _SSIM_RADIUS:
        raise ValueError(
            f"Pictures must be 11x11 or larger. Received: {height=}, {width=}."
        )
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    var_x = _window_mean(x * x) - mean_x**2
    var_y = _window_mean(y * y) - mean_y**2
    covariance = _window_mean(x * y) - mean_x * mean_y
    c1, c2 = _SSIM_K1**2, _SSIM_K2**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return ops.mean(luminance * structure, axis=(-3, -2, -1))


def bits_per_dim(log_prob: Any, num_dims: Any) -> Any:
    """Bits per dimension of 8-bit data: -log_prob / (num_dims ln 2) + 8.

    Args:
      log_prob: Nats per image, of the density of pixels in [0, 1].
      num_dims: H * W * C of an image, an int or a scalar tensor.

    Raises:
      ValueError: `num_dims` is below 1.
    """
    if isinstance(num_dims, int) and num_dims < 1:
        raise ValueError(f"num_dims must be at least 1. Received: {num_dims=}.")
    return -log_prob / (num_dims * math.log(2.0)) + 8.0


@keras.saving.register_keras_serializable(package="tfflowdn")
class PSNR(keras.metrics.Mean):
    """Mean over pictures of `psnr`, after `y_pred` is clipped to [0, data_range].

    Args:
      data_range: The largest possible value, 1 for pictures in [0, 1].
      name: Of the metric.
      dtype: Of the result.
    """

    def __init__(self, data_range: float, name: str = "psnr", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self.data_range = data_range

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Adds a batch [B, H, W, C] of references and pictures."""
        y_pred = ops.clip(y_pred, 0.0, self.data_range)
        values = psnr(y_true, y_pred, data_range=self.data_range)
        return super().update_state(values, sample_weight=sample_weight)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "data_range": self.data_range}


def _checked(reference: Any, image: Any, data_range: float) -> tuple[Any, Any]:
    if data_range <= 0:
        raise ValueError(f"data_range must be positive. Received: {data_range=}.")
    reference, image = (
        ops.convert_to_tensor(a, dtype="float32") / data_range
        for a in (reference, image)
    )
    shapes = tuple(reference.shape), tuple(image.shape)
    same = len(shapes[0]) == len(shapes[1]) >= 3
    for a, b in zip(*shapes, strict=False):
        same = same and (a is None or b is None or a == b)
    if not same:
        raise ValueError(f"Shapes must be one [..., H, W, C]. Received: {shapes=}.")
    return reference, image


def _window_mean(x: Any) -> Any:
    # The window is separable; shifted sums keep any leading dimensions as they are.
    offsets = np.arange(-_SSIM_RADIUS, _SSIM_RADIUS + 1)
    weights = np.exp(-0.5 * (offsets / _SSIM_SIGMA) ** 2)
    weights = [float(w) for w in weights / weights.sum()]
    trim = 2 * _SSIM_RADIUS
    height, width = (ops.shape(x)[axis] - trim for axis in (-3, -2))
    x = sum(w * x[..., i : i + height, :, :] for i, w in enumerate(weights))
    return sum(w * x[..., i : i + width, :] for i, w in enumerate(weights))
