"""Denoising inside of graphs, and of batches without a picture."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

__all__ = ["works_in_graphs"]


def works_in_graphs(call: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a method of arrays also take tensors of a graph, bfloat16, empty batches.

    In a graph (`tf.function`, `tf.data.Dataset.map`) the method runs as a Python
    function, with equal results. Such a graph cannot be exported or compiled by XLA.

    Args:
      call: A method `call(self, image, *, out=None, axes=None, dtype=None, **options)`.

    Raises:
      ValueError: From the method in a graph, for `out`, `return_std` or a symbolic
        Keras tensor.
    """

    @functools.wraps(call)
    def call_anywhere(self: Any, image: Any, **options: Any) -> Any:
        if isinstance(image, keras.KerasTensor):
            raise ValueError(
                "image must be an array or a tensor; use the network itself in a Keras "
                f"model. Received: {image=}."
            )
        if _is_bfloat16(image):
            return _as_float32(functools.partial(call_anywhere, self), image, options)
        if tf.is_tensor(image) and not tf.executing_eagerly():
            return _in_graph(functools.partial(call, self, **options), image, options)
        if _is_empty_batch(np.shape(image), options):
            zeros = np.zeros(np.shape(image), np.float32)
            return (image, zeros) if options.get("return_std") else image
        return call(self, image, **options)

    return call_anywhere


def _is_bfloat16(image):
    """Returns whether NumPy has no arithmetic for the pixels."""
    return getattr(getattr(image, "dtype", None), "name", "") == "bfloat16"


def _as_float32(call, image, options):
    """Denoises bfloat16 in float32, which holds its values."""
    out = options.pop("out", None)
    wide = tf.cast(image, tf.float32) if tf.is_tensor(image) else image.astype("f4")
    result = call(wide, **options)
    denoised, *rest = result if isinstance(result, tuple) else (result,)
    if options.get("dtype") is None:
        is_tensor = tf.is_tensor(denoised)
        cast = functools.partial(tf.cast, dtype=tf.bfloat16)
        denoised = cast(denoised) if is_tensor else denoised.astype(image.dtype)
    if out is not None:
        out[...] = denoised
        denoised = out
    return (denoised, *rest) if rest else denoised


def _in_graph(call, image, options):
    if options.get("return_std"):
        raise ValueError("return_std must be False in a graph. Received: True.")
    if options.get("out") is not None:
        raise ValueError("out must be None in a graph. Received: an array.")
    dtype = tf.as_dtype(options.get("dtype") or image.dtype)

    def denoise(image):
        return np.asarray(call(image), dtype.as_numpy_dtype)

    result = tf.numpy_function(denoise, [image], dtype)
    return tf.ensure_shape(result, image.shape)


def _is_empty_batch(shape, options):
    if options.get("axes") is not None or options.get("out") is not None:
        return False
    return len(shape) == 4 and shape[0] == 0 and 0 not in shape[1:]
