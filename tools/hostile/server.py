"""Sends hostile requests to a served model, and hostile answers to the client."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import random
import threading
import time
from pathlib import Path

import harness
import numpy as np
from hostile.bombs import png_bomb
from hostile.files import damaged

__all__ = ["hostile_requests", "hostile_server"]

client = harness.lazy("tfflowdn.serving.client")
models = harness.lazy("tfflowdn.models")
serving = harness.lazy("tfflowdn.serving")
tf = harness.lazy("tensorflow")

SIZES = ((32, 48), (64, 64), (100, 133), (256, 256))
INPUTS = {"serving_default": "noisy", "uint8": "noisy", "encoded": "noisy_bytes"}


class _Model:
    """The signatures of a SavedModel in one Session of the C++ loader."""

    def __init__(self, path):
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            loaded = tf.compat.v1.saved_model.loader.load(
                self._session, ["serve"], str(path)
            )
        self._calls = {}
        for name, key in INPUTS.items():
            signature = loaded.signature_def[name]
            (output,) = signature.outputs.values()
            self._calls[name] = self._callable(signature.inputs[key].name, output.name)

    def _callable(self, feed, fetch):
        from tensorflow.core.protobuf import config_pb2

        options = config_pb2.CallableOptions()
        options.feed.append(feed)
        options.fetch.append(fetch)
        return self._session._make_callable_from_options(options)

    def __call__(self, name, value):
        (output,) = self._calls[name](value)
        return output


def _good_requests():
    rng = np.random.default_rng(0)
    requests = []
    for height, width in SIZES:
        pixels = rng.integers(256, size=(1, height, width, 1), dtype=np.uint8)
        file = tf.io.encode_png(pixels[0]).numpy()
        values = (np.float32(pixels / 255), pixels, np.array([file], object))
        requests += zip(INPUTS, values, strict=True)
    return requests


def _hostile_requests(rng):
    """Returns requests that must be refused or answered, and never end the server."""
    picture = rng.integers(256, size=(20, 30, 1), dtype=np.uint8)
    png, jpeg = tf.io.encode_png(picture).numpy(), tf.io.encode_jpeg(picture).numpy()
    files = [b"", b"no picture", png[:30], jpeg[:50], png_bomb(20_000), rng.bytes(500)]
    files += [damaged(content, rng) for content in (png, jpeg) for _ in range(40)]
    requests = [("encoded", np.array([file], object)) for file in files]
    requests += [("encoded", np.array([], object))]
    for dtype, name in ((np.float32, "serving_default"), (np.uint8, "uint8")):
        for shape in ((1, 5, 5, 3), (5, 5), (1, 0, 5, 1), (0,), (1, 2000, 2000, 1)):
            requests.append((name, np.zeros(shape, dtype)))
    for value in (np.nan, np.inf, 3e38):
        full = np.full((1, 6, 5, 1), value, np.float32)
        requests.append(("serving_default", full))
    return requests


def hostile_requests(folder: Path, seconds: float, num_threads: int) -> dict:
    """Asks a served model from many threads; a third of the requests is hostile.

    Args:
      folder: An empty folder.
      seconds: Duration.
      num_threads: Number of threads.
    """
    folder.mkdir(parents=True)
    network = models.ResNetDenoiser(1, num_blocks=2, hidden_channels=8)
    rng = np.random.default_rng(0)
    for weight in network.trainable_weights:
        weight.assign(0.1 * rng.standard_normal(weight.shape))
    options = {"max_pixels": 20_000, "max_request_pixels": 10**6}
    model = _Model(serving.export_model(network, folder, "denoiser", **options))
    good, bad = _good_requests(), _hostile_requests(rng)
    expected = [model(*request) for request in good]
    totals = dict.fromkeys(("requests", "hostile", "refused", "failed", "wrong"), 0)
    totals |= {"tracebacks": 0, "errors": []}
    lock, end = threading.Lock(), time.monotonic() + seconds

    def send(seed):
        chosen = random.Random(seed)
        while time.monotonic() < end:
            is_hostile = chosen.random() < 1 / 3
            index = chosen.randrange(len(bad if is_hostile else good))
            answer = error = None
            try:
                answer = model(*(bad if is_hostile else good)[index])
            except Exception as caught:
                error = caught
            with lock:
                _count(totals, is_hostile, answer, error, expected, index)

    threads = [threading.Thread(target=send, args=(i,)) for i in range(num_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return totals | {"threads": num_threads, "seconds": seconds}


def _count(totals, is_hostile, answer, error, expected, index):
    totals["requests"] += 1
    totals["hostile"] += is_hostile
    if error is not None:
        is_refusal = isinstance(error, tf.errors.OpError | ValueError)
        totals["refused"] += is_hostile and is_refusal
        totals["failed"] += not is_hostile
        totals["tracebacks"] += not is_refusal
        if not is_hostile or not is_refusal:
            totals["errors"].append(repr(error)[:300])
    elif is_hostile:
        is_float = answer.dtype == np.float32
        totals["wrong"] += bool(is_float and not np.isfinite(answer).all())
    else:
        totals["wrong"] += not _is_same(answer, expected[index])


def _is_same(answer, expected):
    if answer.dtype == object:
        answer, expected = (tf.io.decode_png(a[0]).numpy() for a in (answer, expected))
    tolerance = 1 if answer.dtype == np.uint8 else 1e-5
    difference = np.abs(answer.astype(float) - expected.astype(float))
    return answer.shape == expected.shape and difference.max() <= tolerance


def _answers(rng):
    """Returns the good answer and the bad ones; None closes the connection."""
    picture = tf.io.encode_png(np.full((6, 5, 1), 7, np.uint8)).numpy()

    def answer(content):
        text = base64.b64encode(content).decode()
        return json.dumps({"predictions": [{"b64": text}]}).encode()

    large = tf.io.encode_png(np.zeros((6, 9, 1), np.uint8)).numpy()
    bodies = [b"", b"{", b'{"foo": 1}', b'{"error": "no"}', 20_000 * b"[", b"\xff" * 9]
    bodies += [b'{"predictions": [{"b64": "!!!*"}]}', b'{"predictions": [null]}']
    bodies += [answer(large), answer(b"no picture"), answer(b""), b" " * 30_000]
    bodies += [answer(damaged(picture, rng)) for _ in range(20)]
    bad = [(200, body) for body in bodies] + [(503, b"busy"), (404, b""), (500, b"x")]
    bad += [None, "endless"]
    return (200, answer(picture)), bad


@contextlib.contextmanager
def _server(rng):
    good, bad = _answers(rng)
    chosen = random.Random(0)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):  # noqa: N802
            self.rfile.read(int(self.headers["Content-Length"]))
            answer = good if chosen.random() < 0.4 else chosen.choice(bad)
            if answer is None:
                return self.connection.close()
            with contextlib.suppress(OSError):
                self._send(answer)

        def _send(self, answer):
            if answer == "endless":
                self.send_response(200)
                self.end_headers()
                while True:
                    self.wfile.write(b" ")
                    time.sleep(0.05)
            self.send_response(answer[0])
            self.send_header("Content-Length", str(len(answer[1])))
            self.end_headers()
            self.wfile.write(answer[1])

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("localhost", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def hostile_server(folder: Path, num_files: int, seed: int = 0) -> dict:
    """Sends files to a server most of whose answers are wrong, and checks the results.

    Args:
      folder: An empty folder.
      num_files: Number of files.
      seed: Seed of the answers.
    """
    source, target = folder / "in", folder / "out"
    source.mkdir(parents=True)
    content = tf.io.encode_png(np.zeros((6, 5, 1), np.uint8)).numpy()
    for index in range(num_files):
        (source / f"{index}.png").write_bytes(content)
    totals = {"files": num_files, "tracebacks": 0, "wrong": 0, "errors": []}
    failed = {}
    with _server(np.random.default_rng(seed)) as port:
        options = {"retries": 3, "pause": 0.01, "timeout": 2.0}
        rest = client.RestClient(f"localhost:{port}", max_reply_bytes=20_000, **options)
        try:
            failed = client.denoise_folder(rest, [source], target)
        except BaseException as error:
            totals["tracebacks"] += 1
            totals["errors"].append(repr(error)[:300])
    names = {path.name for path in target.rglob("*")}
    for name in names:
        pixels = tf.io.decode_png((target / name).read_bytes()).numpy()
        totals["wrong"] += pixels.shape != (6, 5, 1)
    totals["written"], totals["refused"] = len(names), len(failed)
    totals["lost"] = num_files - len(names) - len(failed)
    totals["partial"] = sum(not (source / name).exists() for name in names)
    return totals
