"""Answers as TensorFlow Serving does, in a process with only TensorFlow.

    python serving_stand_in.py NAME SAVED_MODEL [NUM_FAILURES]

loads the model into a Session by the C++ loader, as the server does. It replays the
warm-up requests, prints the ports of REST and of gRPC, and answers until stdin is
closed. The answer to the first NUM_FAILURES requests is that the queue is full.
"""

from __future__ import annotations

import base64
import concurrent.futures
import http.server
import itertools
import json
import sys
import threading

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.apis import (
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

FULL = "The batch scheduling queue to which this task was submitted is full"


class Model:
    """A SavedModel in a Session."""

    def __init__(self, path):
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            loaded = tf.compat.v1.saved_model.loader.load(
                self._session, ["serve"], path
            )
        self.signatures = loaded.signature_def
        self._callables = {}

    def __call__(self, name, inputs):
        """Runs a signature on arrays without a check of their shapes."""
        signature = self.signatures[name]
        key = name, tuple(inputs)
        if set(inputs) != set(signature.inputs):
            raise tf.errors.InvalidArgumentError(
                None, None, f"inputs must be {sorted(signature.inputs)}"
            )
        if key not in self._callables:
            options = config_pb2.CallableOptions()
            options.feed.extend(signature.inputs[key].name for key in inputs)
            options.fetch.extend(info.name for info in signature.outputs.values())
            self._callables[key] = self._session._make_callable_from_options(options)
        outputs = self._callables[key](*inputs.values())
        return dict(zip(signature.outputs, outputs, strict=True))

    def replay(self, path):
        """Runs the warm-up requests and returns the names of their signatures."""
        names = []
        for record in tf.compat.v1.io.tf_record_iterator(path):
            log = prediction_log_pb2.PredictionLog.FromString(record)
            request = log.predict_log.request
            inputs = {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
            names.append(request.model_spec.signature_name)
            self(names[-1], inputs)
        return names


def predict_rest(model, body):
    """Answers the body of a predict request, row or column."""
    name = body.get("signature_name", "serving_default")
    infos = dict(
        model.signatures[name].inputs
    )  # Reading a missing key of a message adds it.
    if "instances" in body:
        rows = body["instances"]
        if not (isinstance(rows[0], dict) and set(rows[0]) != {"b64"}):
            rows = [{next(iter(infos)): row} for row in rows]
        values = {key: [row[key] for row in rows] for key in rows[0]}
    else:
        values = body["inputs"]
        if not isinstance(values, dict):
            values = {next(iter(infos)): values}
    arrays = {key: _array(value, infos[key]) for key, value in values.items()}
    outputs = {key: _json(key, value) for key, value in model(name, arrays).items()}
    if "instances" in body:
        rows = [
            dict(zip(outputs, row, strict=True))
            for row in zip(*outputs.values(), strict=True)
        ]
        single = len(outputs) == 1
        return {"predictions": [next(iter(r.values())) if single else r for r in rows]}
    return {"outputs": next(iter(outputs.values())) if len(outputs) == 1 else outputs}


def _array(value, info):
    if info.dtype == tf.string.as_datatype_enum:
        value = [base64.b64decode(item["b64"], validate=True) for item in value]
        return np.array(value, object)
    return np.array(value, tf.as_dtype(info.dtype).as_numpy_dtype)


def _json(name, value):
    if value.dtype != object:
        return value.tolist()
    if not name.endswith("_bytes"):
        return [item.decode() for item in value]
    return [{"b64": base64.b64encode(item).decode()} for item in value]


def _rest_handler(name, model, is_full):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            status = {"model_version_status": [{"version": "1", "state": "AVAILABLE"}]}
            self._answer(200, status)

        def do_POST(self):  # noqa: N802
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if is_full():
                return self._answer(503, {"error": FULL})
            if self.path != f"/v1/models/{name}:predict":
                return self._answer(404, {"error": "Servable not found for request"})
            try:
                return self._answer(200, predict_rest(model, json.loads(body)))
            except (tf.errors.InvalidArgumentError, ValueError, KeyError) as error:
                return self._answer(400, {"error": str(error)})

        def _answer(self, code, answer):
            body = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    return Handler


class _Servicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, name, model, is_full):
        self._name, self._model, self._is_full = name, model, is_full

    def Predict(self, request, context):  # noqa: N802
        if self._is_full():
            context.abort(grpc.StatusCode.UNAVAILABLE, FULL)
        if request.model_spec.name != self._name:
            context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found for request")
        inputs = {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
        try:
            outputs = self._model(request.model_spec.signature_name, inputs)
        except tf.errors.InvalidArgumentError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        response = predict_pb2.PredictResponse()
        for key, value in outputs.items():
            response.outputs[key].CopyFrom(tf.make_tensor_proto(value))
        return response


def main(name, path, num_failures="0"):
    """Serves until stdin is closed."""
    model = Model(path)
    warmed = model.replay(f"{path}/assets.extra/tf_serving_warmup_requests")
    count = itertools.count()

    def is_full():
        return next(count) < int(num_failures)

    handler = _rest_handler(name, model, is_full)
    rest = http.server.ThreadingHTTPServer(("localhost", 0), handler)
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    unlimited = [(f"grpc.max_{k}_message_length", -1) for k in ("send", "receive")]
    rpc = grpc.server(concurrent.futures.ThreadPoolExecutor(4), options=unlimited)
    servicer = _Servicer(name, model, is_full)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, rpc)
    ports = {"rest": rest.server_port, "grpc": rpc.add_insecure_port("localhost:0")}
    rpc.start()
    imported = sorted({name.partition(".")[0] for name in sys.modules})
    print(json.dumps({**ports, "warmed": warmed, "imported": imported}), flush=True)
    sys.stdin.read()
    rpc.stop(None)


if __name__ == "__main__":
    main(*sys.argv[1:])
