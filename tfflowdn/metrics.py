"""Image quality (PSNR, SSIM) and density (bits per dimension)."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import ops

__all__ = ["PSNR", "Coverage", "bits_per_dim", "psnr", "ssim"]

_SSIM_WINDOW = 11


def psnr(
    reference: npt.ArrayLike | tf.Tensor,
    image: npt.ArrayLike | tf.Tensor,
    *,
    data_range: float,
) -> tf.Tensor:
    """Returns the peak signal-to-noise ratio, 10 log10(data_range^2 / MSE), in dB.

    The pictures are not clipped. Identical pictures give infinity.

    Args:
      reference: [..., H, W, C].
      image: The same shape.
      data_range: Largest minus smallest possible value, 1 for pictures in [0, 1].

    Returns:
      float32 tensor [...], one value per picture.

    Raises:
      ValueError: If the shapes differ, or `data_range` is not positive.
    """
    reference, image = _checked(reference, image, data_range)
    error = ops.mean(ops.square(reference - image), axis=(-3, -2, -1))
    return -10.0 * ops.log10(error)


def ssim(
    reference: npt.ArrayLike | tf.Tensor,
    image: npt.ArrayLike | tf.Tensor,
    *,
    data_range: float,
) -> tf.Tensor:
    """Returns the structural similarity of `tf.image.ssim`.

    It is the index of Wang et al. (2004) with an 11x11 Gaussian window of sigma 1.5, K1
    = 0.01, K2 = 0.03 and population variances, averaged over the positions where the
    window fits into the picture, and over the channels.

    Args:
      reference: [..., H, W, C], H and W at least 11.
      image: The same shape.
      data_range: Largest minus smallest possible value, 1 for pictures in [0, 1].

    Returns:
      float32 tensor [...], one value per picture, at most 1.

    Raises:
      ValueError: If the shapes differ, a picture is smaller than the window, or
        `data_range` is not positive.
    """
    reference, image = _checked(reference, image, data_range)
    height, width = reference.shape[-3:-1]
    if min(height or math.inf, width or math.inf) < _SSIM_WINDOW:
        raise ValueError(
            f"Pictures must be 11x11 or larger. Received: {height=}, {width=}."
        )
    return tf.image.ssim(
        reference, image, max_val=1.0, filter_size=_SSIM_WINDOW, filter_sigma=1.5
    )


def bits_per_dim(
    log_prob: float | np.ndarray | tf.Tensor, num_dims: int | tf.Tensor
) -> float | np.ndarray | tf.Tensor:
    """Returns the bits per dimension of 8-bit data: -log_prob / (num_dims ln 2) + 8.

    Args:
      log_prob: Log-density in nats per image, for pixels in [0, 1]; of any shape.
      num_dims: H * W * C of an image, an int or a scalar tensor.

    Returns:
      Bits per dimension, with the shape of `log_prob`.

    Raises:
      ValueError: If `num_dims` is below 1.
    """
    if isinstance(num_dims, int) and num_dims < 1:
        raise ValueError(f"num_dims must be at least 1. Received: {num_dims=}.")
    return -log_prob / (num_dims * math.log(2.0)) + 8.0


@keras.saving.register_keras_serializable(package="tfflowdn")
class PSNR(keras.metrics.Mean):
    """Mean of `psnr` over pictures, with `y_pred` clipped to [0, data_range].

    Args:
      data_range: The largest possible value, 1 for pictures in [0, 1].
      name: Name of the metric.
      dtype: Dtype of the result.
    """

    def __init__(
        self, data_range: float, name: str = "psnr", dtype: str | None = None
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.data_range = data_range

    def update_state(
        self,
        y_true: tf.Tensor,
        y_pred: tf.Tensor,
        sample_weight: tf.Tensor | None = None,
    ) -> None:
        """Adds a batch [B, H, W, C] of references and pictures."""
        y_pred = ops.clip(y_pred, 0.0, self.data_range)
        values = psnr(y_true, y_pred, data_range=self.data_range)
        super().update_state(values, sample_weight=sample_weight)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "data_range": self.data_range}


@keras.saving.register_keras_serializable(package="tfflowdn")
class Coverage(keras.metrics.Mean):
    """Share of the values whose error is within some predicted standard deviations.

    For errors with a normal distribution it is 0.68 for 1 and 0.95 for 2.

    Args:
      factor: Number of standard deviations, above 0.
      name: Name of the metric; by default "within_" and the factor.
      dtype: Dtype of the result.

    Raises:
      ValueError: If `factor` is not positive.
    """

    def __init__(
        self, factor: float, name: str | None = None, dtype: str | None = None
    ) -> None:
        if not factor > 0:
            raise ValueError(f"factor must be positive. Received: {factor=}.")
        super().__init__(name=name or f"within_{factor:g}", dtype=dtype)
        self.factor = factor

    def update_state(
        self,
        y_true: tf.Tensor,
        y_pred: tf.Tensor,
        sample_weight: tf.Tensor | None = None,
    ) -> None:
        """Adds references [B, H, W, C] and predictions [B, H, W, C, 2].

        The predictions are the output of `models.WithUncertainty`.
        """
        within = ops.abs(y_true - y_pred[..., 0]) <= self.factor * y_pred[..., 1]
        super().update_state(ops.cast(within, self.dtype), sample_weight=sample_weight)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "factor": self.factor}


def _checked(reference, image, data_range):
    """Returns both pictures as float32 divided by `data_range`."""
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
        raise ValueError(
            f"Both pictures must have one shape [..., H, W, C]. Received: {shapes=}."
        )
    return reference, image
