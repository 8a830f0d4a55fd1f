"""Client of a denoiser that TensorFlow Serving serves, by REST or gRPC.

`RestClient` needs no TensorFlow; `GrpcClient` needs the packages of
`pip install 'tfflowdn[serving]'`. `denoise_files` takes the bytes of files,
`denoise_array` takes arrays, and `denoise_folder` reads and writes files.
"""

from __future__ import annotations

import abc
import base64
import binascii
import concurrent.futures
import contextlib
import http.client
import io
import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import JpegImagePlugin, PngImagePlugin

from tfflowdn import files

__all__ = [
    "GrpcClient",
    "RequestError",
    "RestClient",
    "ServerError",
    "denoise_folder",
    "find_targets",
    "predict_request",
    "rest_body",
]

SENT_SUFFIXES = (".png", ".jpg", ".jpeg")  # The server decodes these itself.
CONVERTED_SUFFIXES = (".webp", ".tif", ".tiff")
SUFFIXES = (*SENT_SUFFIXES, *CONVERTED_SUFFIXES)

MAX_MESSAGE_BYTES = 2**31 - 1  # Limit of protocol buffers and so of gRPC.
MAX_REPLY_BYTES = 2**30
MAX_SILENT_FILES = 5
_MAX_ERROR_BYTES = 2**16
_CHUNK_BYTES = 2**20
_BUSY = (429, 502, 503, 504)


class RequestError(ValueError):
    """The server refused a request, or its answer is not valid."""


class ServerError(OSError):
    """The server did not answer any of several requests."""


class _TryAgainError(Exception):
    """A later request may succeed."""


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


class _Client(abc.ABC):
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
        return np.concatenate([_as_array(p, noisy[:1]) for p in pictures])

    def _denoise_file(self, content):
        answer = self._ask_again("encoded", {"noisy_bytes": [content]})
        if len(answer) != 1 or not isinstance(answer[0], bytes):
            raise _wrong_answer("one file", answer)
        _check_file(content, answer[0])
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


class RestClient(_Client):
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
                raise RequestError(_in_words(str(answer["error"])))
            raise _wrong_answer(f"an object with the list {key!r}", answer)
        return [_from_json(value) for value in answer[key]]

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


class GrpcClient(_Client):
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
            message = f"{error.code().name}: {_in_words(error.details())}"
            if error.code() is self._grpc.StatusCode.UNAVAILABLE:
                raise _TryAgainError(message) from error
            raise RequestError(message) from error
        if len(response.outputs) != 1:
            raise _wrong_answer("one output", list(response.outputs))
        (output,) = response.outputs.values()
        try:
            return tf.make_ndarray(output)
        except (TypeError, ValueError) as error:
            raise _wrong_answer("a valid tensor", error) from error


def denoise_folder(
    client: _Client,
    sources: Sequence[Path],
    output: Path,
    *,
    parallel: int = 4,
    report: Callable[[], None] = lambda: None,
    on_failure: Callable[[Path, Exception], None] | None = None,
) -> dict[Path, str]:
    """Denoises files into a folder, several at a time.

    PNG and JPEG files are sent as they are, and the result is a PNG of the same name.
    TIFF and WebP files are read here, which imports TensorFlow: the pages of a TIFF are
    sent as PNG one by one, and the result is a TIFF with the same metadata; the result
    of a WebP file is a PNG.

    Args:
      client: The client of the server.
      sources: Files and folders of PNG, JPEG, TIFF and WebP files.
      output: Folder to write; it is made if it is absent.
      parallel: Number of requests at the same time.
      report: Is called after each file.
      on_failure: Is called for each file that failed, at the end, with the error.

    Returns:
      The files that failed, with the reason. After `MAX_SILENT_FILES` files in a row
      without an answer, the rest is not sent.

    Raises:
      ValueError: If two files have the same output path, there is no file, or a file
        that is named has an unsupported suffix.
    """
    targets = find_targets(sources, output)
    silent, lock = _SilentFiles(), threading.Lock()

    def denoise(target):
        try:
            silent.check()
            target.parent.mkdir(parents=True, exist_ok=True)
            _denoise_one(client, targets[target], target)
        except ServerError as error:
            silent.add()
            return error
        except Exception as error:  # Whatever a file or an answer causes is its own.
            silent.reset()
            return error
        finally:
            with lock:
                report()
        silent.reset()
        return None

    with concurrent.futures.ThreadPoolExecutor(parallel) as executor:
        errors = list(executor.map(denoise, targets))
    results = zip(targets.values(), errors, strict=True)
    failures = {source: error for source, error in results if error is not None}
    for source, error in failures.items():
        if on_failure is not None:
            on_failure(source, error)
    return {source: _reason(error) for source, error in failures.items()}


def _reason(error):
    known = isinstance(error, (RequestError, OSError, ValueError))
    return str(error) if known else f"{type(error).__name__}: {error}"


class _SilentFiles:
    """Counts files in a row that got no answer."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = threading.Lock()

    def check(self) -> None:
        if self._count >= MAX_SILENT_FILES:
            raise ServerError(
                f"The file was not sent, because {MAX_SILENT_FILES} files in a row "
                "got no answer."
            )

    def add(self) -> None:
        with self._lock:
            self._count += 1

    def reset(self) -> None:
        with self._lock:
            self._count = 0


def _denoise_one(client, source, target):
    if source.suffix.lower() in SENT_SUFFIXES:
        (denoised,) = client.denoise_files([source.read_bytes()])
        files.replace(target, lambda temporary: temporary.write_bytes(denoised))
    else:
        _denoise_converted(client, source, target)


def _denoise_converted(client, source, target):
    """Denoises a file that the server cannot decode."""
    from tfflowdn import data

    def denoise(pixels, out):
        out[:] = _denoise_pixels(client, pixels)

    try:
        if data.is_stack_or_large(source):
            data.map_pages(source, target, denoise)
            return
    except data.ImageReadError as error:
        if isinstance(error.__cause__, (RequestError, ServerError)):
            raise error.__cause__ from None
        raise
    metadata = data.read_metadata(source)
    pixels = _denoise_pixels(client, data.read_image(source))
    data.write_image(target, pixels, metadata)


def _denoise_pixels(client, pixels):
    """Denoises [H, W, C] of 8 or 16 bits by way of PNG."""
    import tensorflow as tf

    if pixels.dtype not in (np.uint8, np.uint16):
        raise RequestError(
            "The server takes unsigned pixels of 8 or 16 bits; the command denoise "
            f"takes others. Received: dtype={pixels.dtype}."
        )
    pixels = np.ascontiguousarray(pixels)
    (denoised,) = client.denoise_files([tf.io.encode_png(pixels).numpy()])
    denoised = tf.io.decode_png(denoised, dtype=pixels.dtype).numpy()
    return _as_array(denoised, pixels)


def find_targets(sources: Iterable[Path], output: Path) -> dict[Path, Path]:
    """Returns the file to denoise by the path to write, see `denoise_folder`.

    Raises:
      ValueError: If two files have the same output path, there is no file, or a file
        that is named has an unsupported suffix.
    """
    targets = {}
    for source in sources:
        root = source if source.is_dir() else source.parent
        for path in _pictures(source, output):
            target = output / path.relative_to(root)
            if path.suffix.lower() not in (".tif", ".tiff"):
                target = target.with_suffix(".png")
            if target in targets:
                raise ValueError(
                    "The files must have different names. "
                    f"Received: {targets[target]} and {path}, both for {target}."
                )
            targets[target] = path
    if not targets:
        raise ValueError(
            f"There must be pictures ({', '.join(SUFFIXES)}). "
            f"Received: {[*map(str, sources)]}."
        )
    return targets


def _pictures(source, output):
    """Returns a file, or the pictures of a folder that are not in `output`."""
    if source.is_dir():
        return sorted(
            path
            for path in source.rglob("*")
            if path.suffix.lower() in SUFFIXES
            and not path.name.startswith(".")
            and output not in path.parents
        )
    if source.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"A file must be a picture ({', '.join(SUFFIXES)}). "
            f"Received: {str(source)!r}."
        )
    return [source]


class _Header(NamedTuple):
    """Width and height in any order, and bits of a channel."""

    size: tuple[int, ...]
    depth: int


def _check_file(content, answer):
    """Checks that the answer is a PNG of the file's size and depth."""
    try:
        received = _read_header(answer, PngImagePlugin.PngImageFile)
        with PngImagePlugin.PngImageFile(io.BytesIO(answer)) as picture:
            picture.verify()  # The checksums.
        expected = _header_of_sent(content)
        if expected is None or expected == received:
            with PngImagePlugin.PngImageFile(io.BytesIO(answer)) as picture:
                picture.load()
    except Exception as error:  # Pillow raises many kinds.
        raise _wrong_answer("a PNG file", f"{len(answer)} bytes ({error})") from error
    if expected is not None and received != expected:
        raise _wrong_answer(f"a PNG file of {expected}", received)


def _header_of_sent(content):
    """Returns the header of a file that was sent; None if only the server reads it."""
    for kind in (PngImagePlugin.PngImageFile, JpegImagePlugin.jpeg_factory):
        with contextlib.suppress(Exception):  # The server accepted the file.
            return _read_header(content, kind)
    return None


def _read_header(content, kind):
    is_deep = content[:4] == b"\x89PNG" and content[24:25] == b"\x10"
    with kind(io.BytesIO(content)) as picture:
        # The stored orientation may exchange width and height.
        return _Header(tuple(sorted(picture.size)), 16 if is_deep else 8)


def _as_array(values, noisy):
    """Returns values as an array of the dtype and the shape of `noisy`."""
    try:
        array = np.asarray(values, noisy.dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise _wrong_answer("an array of numbers", error) from error
    if array.shape != noisy.shape or not np.isfinite(array).all():
        raise _wrong_answer(f"finite numbers of shape {noisy.shape}", array.shape)
    return array


def _wrong_answer(expected, received):
    return RequestError(f"The answer must be {expected}. Received: {received!s:.200}.")


def _to_json(value):
    if isinstance(value, list):
        return [{"b64": base64.b64encode(item).decode()} for item in value]
    return value.tolist()


def _from_json(value):
    if not (isinstance(value, dict) and set(value) == {"b64"}):
        return value
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise _wrong_answer("base64", error) from error


def _num_bytes(value):
    return sum(map(len, value)) if isinstance(value, list) else value.nbytes


def _error_message(error):
    try:
        text = error.read(_MAX_ERROR_BYTES).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        text = ""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return _in_words(str(json.loads(text)["error"]))
    return f"HTTP {error.code}: {text[:200]}"


def _in_words(message):
    """Removes the parts of TensorFlow's messages that describe the graph."""
    message = re.sub(r"^(\{\{.*?\}\}\s*)+", "", message.split("[[{{")[0]).strip()
    found = re.search(r"assertion failed: (\[.*)", message, re.DOTALL)
    if not found:
        return message
    return " ".join(re.findall(r"\[([^\[\]]*)\]", found[1])) or message
