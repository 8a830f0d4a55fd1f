"""Client of a denoiser that TensorFlow Serving serves, by REST or gRPC.

`RestClient` needs no TensorFlow; `GrpcClient` needs the packages of
`pip install 'tfflowdn[serving]'`. `denoise_files` takes the bytes of files,
`denoise_array` takes arrays, and `denoise_folder` reads and writes files.
"""

from __future__ import annotations

import abc
import contextlib
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfflowdn.serving.answers import (
    as_array,
    check_file,
    from_json,
    in_words,
    wrong_answer,
)
from tfflowdn.serving.folder import denoise_folder, find_omitted, find_targets
from tfflowdn.serving.requests import (
    RequestError,
    ServerError,
    predict_request,
    rest_body,
)

__all__ = [
    "Client",
    "GrpcClient",
    "RequestError",
    "RestClient",
    "ServerError",
    "denoise_folder",
    "find_omitted",
    "find_targets",
    "predict_request",
    "rest_body",
]

MAX_MESSAGE_BYTES = 2**31 - 1  # Limit of protocol buffers and so of gRPC.
MAX_REPLY_BYTES = 2**30
_MAX_ERROR_BYTES = 2**16
_CHUNK_BYTES = 2**20
_BUSY = (429, 502, 503, 504)


class _TryAgainError(Exception):
    """A later request may succeed."""


class Client(abc.ABC):
    """A model of a server. A server that is busy or starting is asked again.

    Args:
      server: "host:port"; by default the usual port of this machine.
      model: Name of the model in the server.
      timeout: Seconds to wait for an answer.
      retries: Number of further requests when the server does not answer, is busy, or
        sends an incomplete answer.
      pause: Seconds before the first further request; doubled each time.
      max_reply_bytes: Largest size of an answer.
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
        max_reply_bytes: int = MAX_REPLY_BYTES,
    ) -> None:
        self._server = server or f"localhost:{self._PORT}"
        self._model = model
        self._timeout = timeout
        self._retries = retries
        self._pause = pause
        self._max_reply_bytes = max_reply_bytes

    def denoise_files(self, contents: Sequence[bytes]) -> list[bytes]:
        """Denoises PNG and JPEG files of any sizes with one request for each file.

        Args:
          contents: The bytes of the files.

        Returns:
          The bytes of PNG files of the same sizes, of 16 bits for PNG files of 16 bits
          and of 8 bits for all others.

        Raises:
          RequestError: If the server refuses a file, or the answer is not such a PNG.
          ServerError: If the server does not answer.
        """
        return [self._denoise_file(content) for content in contents]

    def denoise_array(self, noisy: np.ndarray) -> np.ndarray:
        """Denoises an array of pictures with one request for each picture.

        Args:
          noisy: [batch, H, W, C] with the model's C; stored pixels as uint8, or
            float32 in units of the model's pixel range.

        Returns:
          The denoised pictures, an array of the same shape and dtype.

        Raises:
          ValueError: If `noisy` has another dtype.
          RequestError: If the server refuses a picture, or the answer is not such an
            array.
          ServerError: If the server does not answer.
        """
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
        return np.concatenate([as_array(p, noisy[:1]) for p in pictures])

    def _denoise_file(self, content):
        answer = self._ask_again("encoded", {"noisy_bytes": [content]})
        if len(answer) != 1 or not isinstance(answer[0], bytes):
            raise wrong_answer("one file", answer)
        check_file(content, answer[0])
        return answer[0]

    def _ask_again(self, signature, inputs):
        for attempt in range(self._retries + 1):
            try:
                return self._ask(signature, inputs)
            except _TryAgainError as error:
                cause = error
            if attempt < self._retries:
                time.sleep(self._pause * 2**attempt)
        raise ServerError(f"No answer after {self._retries + 1} requests: {cause}")

    @abc.abstractmethod
    def _ask(self, signature, inputs):
        """Returns the output of a signature, a list or an array."""


class RestClient(Client):
    """Sends requests as HTTP and JSON.

    Files are sent as base64, which is a third longer. Arrays are sent as decimal
    numbers, which is slow: encode large arrays as PNG.
    """

    _PORT = 8501

    def _ask(self, signature, inputs):
        form = "row" if signature == "encoded" else "column"
        body = json.dumps(rest_body(signature, inputs, form)).encode()
        url = f"http://{self._server}/v1/models/{self._model}:predict"
        text = self._post(urllib.request.Request(url, body))
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _TryAgainError(f"the answer is not valid JSON: {error}") from error
        key = "predictions" if form == "row" else "outputs"
        if not isinstance(answer, dict) or not isinstance(answer.get(key), list):
            if isinstance(answer, dict) and "error" in answer:
                raise RequestError(in_words(str(answer["error"])))
            raise wrong_answer(f"an object with the list {key!r}", answer)
        return [from_json(value) for value in answer[key]]

    def _post(self, request):
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as response:
                text = self._read(response)
        except urllib.error.HTTPError as error:
            message = _error_message(error)
            if error.code in _BUSY:
                raise _TryAgainError(message) from error
            raise RequestError(message) from error
        except TimeoutError as error:
            raise RequestError(f"No answer in {self._timeout} seconds.") from error
        except (OSError, http.client.HTTPException) as error:
            raise _TryAgainError(f"{request.full_url}: {error}") from error
        return text

    def _read(self, response):
        """Returns the bytes of an answer, which has limits of time and of size."""
        deadline, parts, size = time.monotonic() + self._timeout, [], 0
        while part := response.read1(_CHUNK_BYTES):
            parts.append(part)
            size += len(part)
            if size > self._max_reply_bytes:
                raise RequestError(
                    f"An answer must have at most {self._max_reply_bytes} bytes. "
                    "Received: more."
                )
            if time.monotonic() > deadline:
                raise TimeoutError
        if response.length:  # `read` would raise this itself.
            raise http.client.IncompleteRead(b"", response.length)
        return b"".join(parts)


class GrpcClient(Client):
    """Sends requests as gRPC, in messages of up to 2 GiB.

    Args:
      *args: See `RestClient`.
      **kwargs: See `RestClient`.

    Raises:
      ImportError: If grpc or tensorflow-serving-api is not installed.
    """

    _PORT = 8500

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        import grpc
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        super().__init__(*args, **kwargs)
        self._grpc = grpc
        options = [  # By default an answer has at most 4 MiB.
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", self._max_reply_bytes),
        ]
        self._channel = grpc.insecure_channel(self._server, options)
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
            message = f"{error.code().name}: {in_words(error.details())}"
            if error.code() is self._grpc.StatusCode.UNAVAILABLE:
                raise _TryAgainError(message) from error
            raise RequestError(message) from error
        if len(response.outputs) != 1:
            raise wrong_answer("one output", list(response.outputs))
        (output,) = response.outputs.values()
        try:
            return tf.make_ndarray(output)
        except (TypeError, ValueError) as error:
            raise wrong_answer("a valid tensor", error) from error


def _num_bytes(value):
    return sum(map(len, value)) if isinstance(value, list) else value.nbytes


def _error_message(error):
    try:
        text = error.read(_MAX_ERROR_BYTES).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        text = ""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return in_words(str(json.loads(text)["error"]))
    return f"HTTP {error.code}: {text[:200]}"
