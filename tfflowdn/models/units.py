"""Checks of the units of pictures, in graphs and outside."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

__all__ = [
    "asserts_as_value_errors",
    "check_floats",
    "check_not_negative",
    "check_units",
    "finite_pictures",
]

UNITS = "Pictures must be floats in [0, 1] units, such as 8-bit pixels divided by 255."
LIMIT = 8.0
"""A magnitude above the mean of any noisy pictures, and below 8-bit pixels."""


def check_floats(pictures: Any) -> tf.Tensor:
    """Returns pictures as a tensor.

    Raises:
      ValueError: If they are not floats.
    """
    pictures = tf.convert_to_tensor(pictures)
    if not pictures.dtype.is_floating:
        raise ValueError(f"{UNITS} Received: a batch of {pictures.dtype.name}.")
    return pictures


def check_units(pictures: Any) -> tf.Tensor:
    """Returns pictures as a tensor, with an assertion that they have [0, 1] units.

    Noise and percentile ranges give values outside of [0, 1], which are valid. A batch
    is refused if its mean magnitude is above `LIMIT`, or if its values are whole
    numbers of which one is above `LIMIT`. Values that are not finite do not count. XLA
    leaves out the assertion.

    Raises:
      ValueError: If they are not floats.
      tf.errors.InvalidArgumentError: If they have other units.
    """
    pictures = check_floats(pictures)
    values = tf.cast(pictures, tf.float32)
    magnitude = tf.abs(tf.where(tf.math.is_finite(values), values, 0))
    # The magnitude of an empty batch is the lowest number.
    largest = tf.reduce_max(magnitude)
    whole = tf.reduce_all(magnitude == tf.round(magnitude)) & (largest > LIMIT)
    is_valid = ~whole & ~(tf.reduce_mean(magnitude) > LIMIT)
    message = [f"{UNITS} Received: a batch with the largest value", largest]
    check = tf.debugging.Assert(is_valid, message)
    with tf.control_dependencies([] if check is None else [check]):
        return tf.identity(pictures)


@contextlib.contextmanager
def asserts_as_value_errors() -> Iterator[None]:
    """Turns a failed assertion of `check_units` into a ValueError.

    Raises:
      ValueError: If pictures have other units.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if UNITS not in error.message:
            raise
        received = re.search(r"the largest value\W+([\d.e+]+)", error.message)
        value = f" {received[1]}" if received else ""
        raise ValueError(
            f"{UNITS} Received: a batch with the largest value{value}."
        ) from None


def finite_pictures(images: tf.Tensor) -> tf.Tensor:
    """Returns the pictures of [batch, H, W, C] whose pixels are all finite.

    Raises:
      ValueError: If there is none.
    """
    is_finite = tf.reduce_all(tf.math.is_finite(images), axis=(1, 2, 3))
    images = tf.boolean_mask(images, is_finite)
    if not len(images):
        raise ValueError(
            "images must hold a picture whose pixels are all finite. Received: "
            f"{len(is_finite)} pictures without one."
        )
    return images


def check_not_negative(name: str, value: tf.Tensor) -> tf.Tensor:
    """Checks that a number is finite and 0 or more, in a graph by an assertion.

    Raises:
      ValueError: If it is not, outside of a graph.
    """
    is_valid = (value >= 0) & (value < value.dtype.max)
    message = f"{name} must be a finite number of 0 or more."
    if not tf.executing_eagerly():
        with tf.control_dependencies([tf.debugging.Assert(is_valid, [message, value])]):
            return tf.identity(value)
    if not is_valid:
        raise ValueError(f"{message} Received: {name}={value.numpy()}.")
    return value
