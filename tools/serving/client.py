"""Denoises files by a model that TensorFlow Serving serves.

    python tools/serving/client.py NOISY --output DENOISED [--server HOST:8501]
    python tools/serving/client.py NOISY --output DENOISED --grpc [--server HOST:8500]

NOISY are PNG and JPEG files and folders of them; DENOISED gets a PNG of the same name
for each, of 16 bits where the file has them. A file that the server refuses is named
at the end and does not stop the others. REST needs nothing but Python, gRPC the
packages of `pip install 'tfflowdn[serving]'`.

`RestClient` and `GrpcClient` are for programs: `denoise_files` for the bytes of files,
`denoise_array` for arrays. A server that is down, starting or whose queue is full is
asked again after a pause, which doubles every time.
"""

from __future__ import annotations

import argparse
import base64
import concurrent.futures
import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_MESSAGE_BYTES = 2**31 - 1  # Of a protocol buffer, and so of gRPC.


class RequestError(ValueError):
    """The server refused a request; the message is its own."""


class ServerError(OSError):
    """The server did not answer, however often it was asked."""


class _TryAgainError(Exception):
    """The server may answer later."""


def rest_body(signature: str, inputs: dict, form: str = "column") -> dict:
    """Returns the body of a predict request of REST.

    Args:
      signature: Name of the model's signature.
      inputs: Arrays, or lists of bytes, by the names of the signature's inputs.
      form: "row" for `instances`, of which all inputs must have as many, or "column"
        for `inputs`.

    Raises:
      ValueError: For another form.
    """
    values = {name: _to_json(value) for name, value in inputs.items()}
    if form == "column":
        return {"signature_name": signature, "inputs": values}
    if form != "row":
        raise ValueError(f'form must be "row" or "column". Received: {form=}.')
    rows = zip(*values.values(), strict=True)
    instances = [dict(zip(values, row, strict=True)) for row in rows]
    return {"signature_name": signature, "instances": instances}


def predict_request(model: str, signature: str, inputs: dict):
    """Returns the PredictRequest of gRPC.

    Args:
      model: Name of the model in the server.
      signature: Name of its signature.
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


class _Client:
    """A server's model; `_ask(signature, inputs)` gives a list or an array.

    Args:
      server: "host:port"; the usual port here, by default.
      model: Name of the model in the server.
      timeout: Seconds to wait for an answer.
      retries: How often to ask again.
      pause: Seconds before that, at first.
    """

    _PORT: int

    def __init__(
        self,
        server: str | None = None,
        model: str = "denoiser",
        *,
        timeout: float = 600.0,
        retries: int = 5,
        pause: float = 0.5,
    ):
        self._server = server or f"localhost:{self._PORT}"
        self._model = model
        self._timeout = timeout
        self._retries = retries
        self._pause = pause

    def denoise_files(self, files: Sequence[bytes]) -> list[bytes]:
        """Denoises PNG and JPEG files of any sizes, each by a request of its own.

        Args:
          files: Their bytes.

        Returns:
          The bytes of PNG files.

        Raises:
          RequestError: If the server refuses a file.
          ServerError: If it does not answer.
        """
        return [
            self._ask_again("encoded", {"noisy_bytes": [file]})[0] for file in files
        ]

    def denoise_array(self, noisy):
        """Denoises an array of pictures, each by a request of its own.

        Args:
          noisy: [batch, H, W, C] with C of the model; uint8, or float32 in [0, 1].

        Returns:
          The denoised pictures, an array of the same shape and dtype.

        Raises:
          ValueError: For another dtype.
          RequestError: If the server refuses a picture.
          ServerError: If it does not answer.
        """
        import numpy as np

        signatures = {"uint8": "uint8", "float32": "serving_default"}
        if noisy.dtype.name not in signatures:
            raise ValueError(
                "noisy must be uint8 or float32. "
                f"Received: noisy.dtype={noisy.dtype.name}."
            )
        signature = signatures[noisy.dtype.name]
        pictures = [
            self._ask_again(signature, {"noisy": noisy[index : index + 1]})
            for index in range(len(noisy))
        ]
        return np.concatenate([np.asarray(p, noisy.dtype) for p in pictures])

    def _ask_again(self, signature, inputs):
        for attempt in range(self._retries + 1):
            try:
                return self._ask(signature, inputs)
            except _TryAgainError as error:
                cause = error
            if attempt < self._retries:
                time.sleep(self._pause * 2**attempt)
        raise ServerError(f"No answer after {self._retries + 1} requests: {cause}")


class RestClient(_Client):
    """Asks a server by HTTP and JSON; the files go as base64, a third longer.

    Arrays go as decimal numbers, which is slow: encode large ones as PNG.
    """

    _PORT = 8501

    def _ask(self, signature, inputs):
        form = "row" if signature == "encoded" else "column"
        body = json.dumps(rest_body(signature, inputs, form)).encode()
        url = f"http://{self._server}/v1/models/{self._model}:predict"
        request = urllib.request.Request(url, body)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            message = _error_message(error)
            if error.code in (429, 502, 503, 504):
                raise _TryAgainError(message) from error
            raise RequestError(message) from error
        except TimeoutError as error:
            raise RequestError(f"No answer in {self._timeout} seconds.") from error
        except (OSError, http.client.HTTPException) as error:
            raise _TryAgainError(f"{url}: {error}") from error
        values = answer["predictions" if form == "row" else "outputs"]
        return [_from_json(value) for value in values]


class GrpcClient(_Client):
    """Asks a server by gRPC, with messages of up to 2 GiB."""

    _PORT = 8500

    def __init__(self, *args, **kwargs):
        import grpc
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        super().__init__(*args, **kwargs)
        self._grpc = grpc
        # By default a client takes no answers of more than 4 MiB.
        unlimited = [
            (f"grpc.max_{kind}_message_length", -1) for kind in ("send", "receive")
        ]
        self._channel = grpc.insecure_channel(self._server, unlimited)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def _ask(self, signature, inputs):
        import tensorflow as tf

        size = sum(map(_num_bytes, inputs.values()))
        if size >= MAX_MESSAGE_BYTES:
            raise RequestError(
                f"A request must have less than 2 GiB. Received: {size} bytes; send "
                "a compressed file instead of an array."
            )
        request = predict_request(self._model, signature, inputs)
        try:
            response = self._stub.Predict(request, timeout=self._timeout)
        except self._grpc.RpcError as error:
            message = f"{error.code().name}: {error.details()}"
            if error.code() is self._grpc.StatusCode.UNAVAILABLE:
                raise _TryAgainError(message) from error
            raise RequestError(message) from error
        (output,) = response.outputs.values()
        return tf.make_ndarray(output)


def denoise_folder(
    client: _Client, sources: Sequence[Path], output: Path, parallel: int
) -> dict[Path, str]:
    """Denoises files into a folder, several at once.

    Args:
      client: The server's.
      sources: Files, and folders whose PNG and JPEG files are taken.
      output: Folder to write; made if it is absent.
      parallel: Number of requests at once.

    Returns:
      The files that the server refused, with its words.

    Raises:
      ValueError: If two files would be written to the same path, or there is none.
      ServerError: If the server does not answer.
    """
    targets = _targets(sources, output)

    def denoise(target):
        source = targets[target]
        try:
            (denoised,) = client.denoise_files([source.read_bytes()])
        except RequestError as error:
            return source, str(error)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".tmp.{target.name}")
        temporary.write_bytes(denoised)
        os.replace(temporary, target)
        return source, None

    with concurrent.futures.ThreadPoolExecutor(parallel) as executor:
        results = list(executor.map(denoise, targets))
    return {source: message for source, message in results if message}


def _targets(sources, output):
    """Returns the file to denoise by the path to write."""
    targets = {}
    for source in sources:
        found = [source]
        if source.is_dir():
            found = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES)
        root = source if source.is_dir() else source.parent
        for path in found:
            target = (output / path.relative_to(root)).with_suffix(".png")
            if target in targets:
                raise ValueError(
                    "The files must have different names. "
                    f"Received: {targets[target]} and {path}, both for {target}."
                )
            targets[target] = path
    if not targets:
        raise ValueError(
            f"There must be PNG or JPEG files. Received: {[*map(str, sources)]}."
        )
    return targets


def _to_json(value):
    if isinstance(value, list):
        return [{"b64": base64.b64encode(item).decode()} for item in value]
    return value.tolist()


def _from_json(value):
    is_bytes = isinstance(value, dict) and set(value) == {"b64"}
    return base64.b64decode(value["b64"]) if is_bytes else value


def _num_bytes(value):
    return sum(map(len, value)) if isinstance(value, list) else value.nbytes


def _error_message(error):
    text = error.read().decode(errors="replace")
    try:
        return json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        return f"HTTP {error.code}: {text[:200]}"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the client and returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="+", type=Path, help="Files and folders.")
    parser.add_argument("--output", required=True, type=Path, help="Folder to write.")
    parser.add_argument("--grpc", action="store_true", help="gRPC instead of REST.")
    parser.add_argument("--server", help="HOST:PORT; here, by default.")
    parser.add_argument("--model", default="denoiser", help="Name in the server.")
    parser.add_argument("--timeout", type=float, default=600.0, help="Seconds.")
    parser.add_argument("--retries", type=int, default=5, help="Further requests.")
    parser.add_argument("--parallel", type=int, default=4, help="Requests at once.")
    options = parser.parse_args(argv)
    client = (GrpcClient if options.grpc else RestClient)(
        options.server, options.model, timeout=options.timeout, retries=options.retries
    )
    try:
        refused = denoise_folder(
            client, options.sources, options.output, options.parallel
        )
    except (ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    for path, message in refused.items():
        print(f"{path}: {message}", file=sys.stderr)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
