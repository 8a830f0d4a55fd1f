"""The batches that UnpairedDenoiser takes, with and without rehearsal."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

__all__ = ["unpack", "unpack_validation"]


def unpack(data: Any, rehearsal_weight: float) -> tuple[Any, Any, Any, Any]:
    """Returns (noisy, synthetic, clean, sample weights) of a batch.

    Without rehearsal, synthetic and clean are None.

    Raises:
      ValueError: If the batch has another structure.
    """
    noisy, clean, weight = keras.utils.unpack_x_y_sample_weight(data)
    is_nested = tf.nest.is_nested(noisy)
    if not rehearsal_weight:
        if not is_nested:
            return noisy, None, None, weight
    elif is_nested and len(noisy) == 2 and tf.is_tensor(clean):
        noisy, synthetic = noisy
        if synthetic.shape.is_compatible_with(clean.shape):
            return noisy, synthetic, clean, weight
    raise ValueError(
        "Batches must be ((noisy, synthetic), clean), with the last two of one "
        "shape, if rehearsal_weight is above 0, and noisy pictures if it is 0. "
        f"Received: {_shapes(data)}, {rehearsal_weight=}."
    )


def unpack_validation(data: Any) -> tuple[Any, Any, Any]:
    """Returns (noisy, clean, sample weights) of a batch; clean may be None.

    Raises:
      ValueError: If noisy is not one tensor.
    """
    noisy, clean, weight = keras.utils.unpack_x_y_sample_weight(data)
    if tf.nest.is_nested(noisy):
        raise ValueError(
            "Batches of validation must be noisy pictures or (noisy, clean). "
            f"Received: {_shapes(data)}."
        )
    return noisy, clean, weight


def _shapes(data: Any) -> Any:
    """Returns a batch's structure, with a shape in place of each tensor."""
    return tf.nest.map_structure(lambda x: None if x is None else tuple(x.shape), data)
