"""Requests to TensorFlow Serving, and how they fail."""

from __future__ import annotations

import base64
from typing import Any

__all__ = ["RequestError", "ServerError", "predict_request", "rest_body"]


class RequestError(ValueError):
    """The server refused a request, or its answer is not valid."""


class ServerError(OSError):
    """The server did not answer any of several requests."""


def rest_body(
    signature: str, inputs: dict[str, Any], form: str = "column"
) -> dict[str, Any]:
    """Returns the body of a predict request of REST.

    Args:
      signature: Name of the model's signature.
      inputs: Arrays, or lists of bytes, by the names of the signature's inputs.
      form: "row" for `instances`, which needs inputs of equal length, or "column" for
        `inputs`.

    Raises:
      ValueError: If `form` is another value.
    """
    values = {name: _to_json(value) for name, value in inputs.items()}
    if form == "column":
        return {"signature_name": signature, "inputs": values}
    if form != "row":
        raise ValueError(f'form must be "row" or "column". Received: {form=}.')
    rows = zip(*values.values(), strict=True)
    instances = [dict(zip(values, row, strict=True)) for row in rows]
    return {"signature_name": signature, "instances": instances}


def predict_request(model: str, signature: str, inputs: dict[str, Any]) -> Any:
    """Returns the PredictRequest of gRPC.

    Args:
      model: Name of the model in the server.
      signature: Name of the model's signature.
      inputs: Arrays, or lists of bytes, by the names of the signature's inputs.
    """
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def _to_json(value):
    if isinstance(value, list):
        return [{"b64": base64.b64encode(item).decode()} for item in value]
    return value.tolist()
