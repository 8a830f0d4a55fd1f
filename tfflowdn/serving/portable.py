"""Denoisers as files for devices and other runtimes: LiteRT and ONNX."""

from __future__ import annotations

import os

import keras
import tensorflow as tf

from tfflowdn import inference

__all__ = ["write_litert", "write_onnx"]

_AXES = ("batch", "height", "width")


def write_litert(network: keras.Model, path: str | os.PathLike) -> None:
    """Writes a LiteRT file that uses only the operations of every interpreter.

    Args:
      network: The network of a denoiser. It maps `noisy`, float32 [batch, H, W, C], to
        the same shape.
      path: The file to write, with the suffix `.tflite`.
    """
    _export(
        network,
        path,
        "litert",
        target_spec={"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]},
    )


def write_onnx(network: keras.Model, path: str | os.PathLike) -> None:
    """Writes an ONNX file.

    Args:
      network: The network of a denoiser. It maps `noisy`, float32 [batch, H, W, C], to
        `denoised` of the same shape.
      path: The file to write, with the suffix `.onnx`.

    Raises:
      ImportError: If tf2onnx or onnx is not installed.
    """
    try:
        import onnx
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "ONNX files need tf2onnx and onnx: pip install 'tfflowdn[onnx]'."
        ) from error
    _export(network, path, "onnx")
    model = onnx.load(path)
    _name_tensors(model.graph)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _export(network, path, format, **options):  # noqa: A002
    network = _in_float32(network)
    shape = (None, None, None, inference.num_channels(network))
    signature = [keras.InputSpec("float32", shape, name="noisy")]
    network.export(
        path, format=format, input_signature=signature, verbose=False, **options
    )


def _name_tensors(graph):
    """Names the output and the axes; the converter gives them numbers."""
    (noisy,), (denoised,) = graph.input, graph.output
    for node in graph.node:
        names = ["denoised" if n == denoised.name else n for n in node.output]
        node.output[:] = names
    denoised.name = "denoised"
    for tensor in (noisy, denoised):
        for axis, name in enumerate(_AXES):
            tensor.type.tensor_type.shape.dim[axis].dim_param = name


def _in_float32(network):
    """Returns the network, or a copy if it computes in another precision."""
    if getattr(network, "precision", "float32") == "float32":
        return network
    copy = type(network).from_config({**network.get_config(), "precision": "float32"})
    copy.set_weights(network.get_weights())
    return copy
