"""The client, by REST and gRPC, against a served model and against a hostile server.

The stand-in of the server runs in a separate process that cannot import tfflowdn or
Keras. It loads the SavedModel as the server does.
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tifffile
from google.protobuf import json_format, text_format
from tensorflow_serving.config import model_server_config_pb2

from tfflowdn import Denoiser, ResNetDenoiser, data, serving
from tfflowdn.serving import client
from tfflowdn.serving.folder import MAX_SILENT_FILES

ROOT = Path(__file__).parent.parent
SERVING = ROOT / "tools" / "serving"
START = """
import runpy, sys
sys.modules["keras"] = sys.modules["tfflowdn"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
NUM_FAILURES = 2


@pytest.fixture(scope="module")
def network(randomize):
    network = ResNetDenoiser(num_blocks=2, hidden_channels=4, seed=1)
    randomize(network, scale=0.2)
    return network


@pytest.fixture(scope="module")
def saved_model(network, tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return serving.export_model(network, root, "denoiser", max_pixels=4000)


@pytest.fixture(scope="module")
def server(saved_model):
    script = str(ROOT / "tests" / "serving_stand_in.py")
    command = [sys.executable, "-c", START, script, "denoiser", str(saved_model)]
    with subprocess.Popen(
        [*command, str(NUM_FAILURES)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        yield json.loads(process.stdout.readline())
        process.stdin.close()


@pytest.fixture(scope="module", params=["rest", "grpc"])
def connection(request, server):
    kind = {"rest": client.RestClient, "grpc": client.GrpcClient}[request.param]
    return kind(f"localhost:{server[request.param]}", pause=0.01, retries=NUM_FAILURES)


def _post(server, body, model="denoiser"):
    url = f"http://localhost:{server['rest']}/v1/models/{model}:predict"
    request = urllib.request.Request(url, json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def test_a_full_queue_is_asked_again(server):
    # This test must run first: it uses all failures of the stand-in.
    hasty = client.RestClient(f"localhost:{server['rest']}", retries=0)
    with pytest.raises(client.ServerError, match="after 1 requests: The batch"):
        hasty.denoise_files([b""])
    patient = client.GrpcClient(f"localhost:{server['grpc']}", retries=1, pause=0.01)
    noisy = np.full((1, 5, 4, 1), 0.5, np.float32)
    assert patient.denoise_array(noisy).shape == noisy.shape
    patient.close()


def test_the_process_has_only_tensorflow_and_the_warm_up_ran(server):
    assert "tensorflow" in server["imported"]
    assert "tensorflow_probability" not in server["imported"]
    assert server["warmed"] == ["serving_default", "uint8", "encoded"]


@pytest.mark.parametrize("size", [(9, 8), (150, 131)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_files(connection, network, dtype, size):
    rng = np.random.default_rng(0)
    noisy = rng.integers(np.iinfo(dtype).max, size=(*size, 3), dtype=dtype)
    (file,) = connection.denoise_files([tf.io.encode_png(noisy).numpy()])
    denoised = tf.io.decode_png(file, dtype=dtype).numpy()
    expected = Denoiser(network)(noisy)
    assert np.abs(denoised.astype(int) - expected).max() <= 1


def test_arrays(connection, network):
    noisy = np.random.default_rng(0).random((2, 90, 70, 1), np.float32)
    expected = Denoiser(network)(noisy)
    denoised = connection.denoise_array(noisy)
    assert denoised.dtype == np.float32
    np.testing.assert_allclose(denoised, expected, atol=1e-5)
    noisy = data.from_float(noisy, np.uint8)
    denoised = connection.denoise_array(noisy)
    assert denoised.dtype == np.uint8
    difference = denoised.astype(int) - Denoiser(network)(noisy)
    assert np.abs(difference).max() <= 1
    with pytest.raises(ValueError, match="Received: noisy.dtype=float64"):
        connection.denoise_array(np.zeros((1, 4, 4, 1)))


def test_more_than_4_mib_by_grpc(server, network):
    connection = client.GrpcClient(f"localhost:{server['grpc']}")
    noisy = np.random.default_rng(0).random((1, 1100, 1000, 1), np.float32)
    assert noisy.nbytes > 4 * 2**20
    expected = Denoiser(network)(noisy)
    denoised = connection.denoise_array(noisy)
    np.testing.assert_allclose(denoised, expected, atol=1e-5)
    connection.close()


def test_a_request_that_is_too_large_for_a_message(monkeypatch):
    monkeypatch.setattr(client, "MAX_MESSAGE_BYTES", 100)
    connection = client.GrpcClient("localhost:1")
    with pytest.raises(client.RequestError, match="Received: 101 bytes"):
        connection.denoise_files([bytes(101)])
    connection.close()


def test_a_refused_request_is_not_repeated(connection):
    with pytest.raises(client.RequestError, match="must be PNG or JPEG files"):
        connection.denoise_files([b"no picture"])
    with pytest.raises(client.RequestError, match="not compatible with expected shape"):
        connection.denoise_array(np.zeros((1, 8, 8, 3), np.float32))


@pytest.mark.parametrize("kind", ["RestClient", "GrpcClient"])
def test_another_model_and_no_server(server, kind):
    port = server["rest" if kind == "RestClient" else "grpc"]
    other = getattr(client, kind)(f"localhost:{port}", model="other")
    with pytest.raises(client.RequestError, match="Servable not found"):
        other.denoise_files([b""])
    absent = getattr(client, kind)("localhost:1", retries=1, pause=0.01)
    with pytest.raises(client.ServerError, match="No answer after 2 requests"):
        absent.denoise_files([b""])


def test_a_request_that_takes_too_long_is_not_repeated(server):
    hasty = client.RestClient(f"localhost:{server['rest']}", timeout=1e-3)
    with pytest.raises(client.RequestError, match="No answer in 0.001 seconds"):
        hasty.denoise_array(np.zeros((1, 300, 300, 1), np.uint8))


def test_rest_bodies(server, network):
    noisy = np.random.default_rng(0).integers(256, size=(2, 6, 7, 1), dtype=np.uint8)
    expected = Denoiser(network)(noisy)
    for form, key in (("row", "predictions"), ("column", "outputs")):
        body = client.rest_body("uint8", {"noisy": noisy}, form)
        answer = np.array(_post(server, body)[key])
        assert np.abs(answer - expected).max() <= 1
        floats = {"noisy": data.to_float(noisy)}
        body = client.rest_body("serving_default", floats, form)
        assert _post(server, {**body, "signature_name": "serve"}) == _post(server, body)
        answer = np.array(_post(server, body)[key])
        expected_floats = Denoiser(network)(floats["noisy"])
        np.testing.assert_allclose(answer, expected_floats, atol=1e-5)
    file = tf.io.encode_png(noisy[0]).numpy()
    by_form = {
        "row": {
            "instances": [{"noisy_bytes": {"b64": base64.b64encode(file).decode()}}]
        },
        "column": {
            "inputs": {"noisy_bytes": [{"b64": base64.b64encode(file).decode()}]}
        },
    }
    answers = []
    for form, key in (("row", "predictions"), ("column", "outputs")):
        body = client.rest_body("encoded", {"noisy_bytes": [file]}, form)
        assert body == {"signature_name": "encoded", **by_form[form]}
        (answer,) = _post(server, body)[key]
        answers.append(tf.io.decode_png(base64.b64decode(answer["b64"])).numpy())
    np.testing.assert_array_equal(*answers)
    assert np.abs(answers[0].astype(int) - expected[0]).max() <= 1
    with pytest.raises(ValueError, match="Received: form='rows'"):
        client.rest_body("uint8", {"noisy": noisy}, "rows")
    with pytest.raises(urllib.error.HTTPError, match="400"):
        _post(server, {"signature_name": "encoded", "inputs": {"other": [1]}})


def test_grpc_requests_fit_the_signatures(saved_model):
    loaded = tf.saved_model.load(str(saved_model))
    for signature, inputs in (
        ("serving_default", {"noisy": np.zeros((1, 4, 4, 1), np.float32)}),
        ("uint8", {"noisy": np.zeros((2, 4, 4, 1), np.uint8)}),
        ("encoded", {"noisy_bytes": [b"a", b"b"]}),
    ):
        request = client.predict_request("denoiser", signature, inputs)
        assert json_format.MessageToDict(request.model_spec) == {
            "name": "denoiser",
            "signatureName": signature,
        }
        specs = loaded.signatures[signature].structured_input_signature[1]
        assert set(specs) == set(request.inputs)
        for name, spec in specs.items():
            assert request.inputs[name].dtype == spec.dtype.as_datatype_enum
            value = tf.make_ndarray(request.inputs[name])
            assert spec.shape.is_compatible_with(value.shape)


def _noisy(*shape, dtype=np.uint8):
    rng = np.random.default_rng(0)
    return rng.integers(np.iinfo(dtype).max, size=shape, dtype=dtype)


@pytest.fixture
def pictures(tmp_path):
    """A folder of two pictures, and a third file; returns its pixels also."""
    noisy = _noisy(20, 30, 1)
    (tmp_path / "noisy" / "deep").mkdir(parents=True)
    data.write_image(tmp_path / "noisy" / "deep" / "a.png", noisy)
    data.write_image(tmp_path / "b.jpg", noisy)
    return [tmp_path / "noisy", tmp_path / "b.jpg"], noisy


def test_folders(connection, network, pictures, tmp_path):
    sources, noisy = pictures
    (tmp_path / "noisy" / "broken.png").write_bytes(b"no picture")
    output = tmp_path / "noisy" / "denoised"
    for _ in range(2):  # The second call does not denoise the outputs of the first.
        failures = client.denoise_folder(connection, sources, output)
        ((path, message),) = failures.items()
        assert path.name == "broken.png"
        assert re.search(r"must be PNG or JPEG files. Received: other bytes", message)
        assert "node" not in message and "[" not in message
        found = sorted(str(p.relative_to(output)) for p in output.rglob("*.*"))
        assert found == ["b.png", "deep/a.png"]
    denoised = data.read_image(output / "deep" / "a.png")
    assert np.abs(denoised.astype(int) - Denoiser(network)(noisy)).max() <= 1


def test_the_command(server, pictures, tmp_path):
    sources, _ = pictures
    (tmp_path / "noisy" / "broken.png").write_bytes(b"no picture")
    np.save(tmp_path / "noisy" / "left_out.npy", np.zeros((3, 3)))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tfflowdn.scripts.denoise_client"),
            *(*map(str, sources), "--output", str(tmp_path / "out")),
            f"--server=localhost:{server['rest']}",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert re.search(r"broken\.png: .*must be PNG or JPEG", done.stderr)
    assert re.search(r"1 file was not sent; .*left_out\.npy", done.stderr)
    assert "Traceback" not in done.stderr
    assert len(list((tmp_path / "out").rglob("*.png"))) == 2


@pytest.mark.parametrize(
    "name, dtype, pages",
    [
        ("a.tif", np.uint8, 1),
        ("a.tif", np.uint16, 1),
        ("a.tif", np.uint16, 3),
        ("a.webp", np.uint8, 1),
    ],
)
def test_files_that_are_converted(connection, network, tmp_path, name, dtype, pages):
    stack = _noisy(pages, 20, 30, 3, dtype=dtype)
    if pages > 1:
        tifffile.imwrite(tmp_path / name, stack, photometric="rgb")
    else:
        data.write_image(tmp_path / name, stack[0])
    target = tmp_path / "out" / name
    target = target if name == "a.tif" else target.with_suffix(".png")
    assert not client.denoise_folder(connection, [tmp_path / name], tmp_path / "out")
    for page, noisy in zip(_pages(target), stack, strict=True):
        assert page.dtype == dtype
        assert np.abs(page.astype(int) - Denoiser(network)(noisy)).max() <= 1


def test_channels_and_missing_pixels_are_sent_as_denoise_sees_them(
    connection, network, tmp_path
):
    dyes, path = _noisy(20, 30, 2, dtype=np.uint16), tmp_path / "dyes.tif"
    options = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(path, dyes, extrasamples=[0], **options)
    gaps = _noisy(20, 30, dtype=np.uint16)
    gaps[3:6, 4:9] = 7
    tag = (42113, 2, 0, "7", True)
    tifffile.imwrite(tmp_path / "gaps.tif", gaps, extratags=[tag], metadata=None)
    assert not client.denoise_folder(connection, [tmp_path], tmp_path / "out")
    local = Denoiser(network)
    for name, expected in (
        ("dyes.tif", np.stack([local(dyes[..., i]) for i in range(2)], -1)),
        ("gaps.tif", local(np.ma.masked_equal(gaps, 7)).data),
    ):
        result = tifffile.imread(tmp_path / "out" / name)
        assert np.abs(result.astype(int) - expected).max() <= 1
    assert (result[3:6, 4:9] == 7).all()


def _pages(path):
    is_tiff = path.suffix == ".tif"
    return data.read_pages(path, path.parent) if is_tiff else [data.read_image(path)]


def test_pixels_that_the_server_does_not_take_are_refused(connection, tmp_path):
    for pages, name in ((1, "a.tif"), (2, "b.tif")):
        tifffile.imwrite(tmp_path / name, np.zeros((pages, 8, 9), np.float32))
    failures = client.denoise_folder(connection, [tmp_path], tmp_path / "out")
    assert len(failures) == 2
    for message in failures.values():
        assert message.startswith("The server takes unsigned pixels of 8 or 16 bits")
        assert "Received: dtype=float32" in message


@pytest.mark.parametrize(
    "names, message",
    [
        (["a.png", "a.jpg"], "must have different names"),
        ([], "There must be pictures"),
    ],
)
def test_the_files_are_checked_first(tmp_path, names, message):
    (tmp_path / "in").mkdir()
    for name in names:
        (tmp_path / "in" / name).write_bytes(b"")
    with pytest.raises(ValueError, match=message):
        client.denoise_folder(None, [tmp_path / "in"], tmp_path / "out")
    with pytest.raises(ValueError, match=r"must be a picture .* Received: '.*x.npy'"):
        client.denoise_folder(None, [tmp_path / "x.npy"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _png(*shape, dtype=np.uint8):
    return tf.io.encode_png(np.zeros(shape, dtype)).numpy()


def _answer(content):
    return {"predictions": [{"b64": base64.b64encode(content).decode()}]}


@contextlib.contextmanager
def _hostile_server(answers):
    """Gives the answers in turn, (status, body), then the last one again."""
    answers, requests = list(answers), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):  # noqa: N802
            self.rfile.read(int(self.headers["Content-Length"]))
            requests.append(self.path)
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if answer is None:
                return self.connection.close()
            status, body = answer
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    hostile = http.server.ThreadingHTTPServer(("localhost", 0), Handler)
    threading.Thread(target=hostile.serve_forever, daemon=True).start()
    try:
        yield hostile.server_port, requests
    finally:
        hostile.shutdown()
        hostile.server_close()


GOOD = (200, _answer(_png(6, 5, 1)))
TRUNCATED = _png(6, 5, 1)[:-14]
_START = _png(6, 5, 1).index(b"IDAT") - 4
NO_PIXELS = _png(6, 5, 1)[:_START] + _png(6, 5, 1)[-12:]  # With valid checksums.


@pytest.mark.parametrize(
    "bad, message, is_retried",
    [
        ((200, b""), "the answer is not valid JSON", True),
        ((200, b'{"predictions": ['), "the answer is not valid JSON", True),
        ((200, 1900 * b"["), "the answer is not valid JSON", True),
        ((503, b"busy"), "HTTP 503: busy", True),
        (None, "http://localhost", True),
        ((200, {"foo": 1}), "list 'predictions'", False),
        ((200, [1]), "list 'predictions'", False),
        ((200, {"error": "no such model"}), "no such model", False),
        ((404, {"error": "no such model"}), "no such model", False),
        ((200, {"predictions": []}), "must be one file", False),
        ((200, {"predictions": [1.5]}), "must be one file", False),
        ((200, {"predictions": [{"b64": "!!!*"}]}), "must be base64", False),
        ((200, {"predictions": [{"b64": 5}]}), "must be base64", False),
        ((200, _answer(b"no picture")), "must be a PNG file", False),
        ((200, _answer(TRUNCATED)), "must be a PNG file", False),
        ((200, _answer(NO_PIXELS)), "must be a PNG file", False),
        ((200, _answer(_png(6, 6, 1))), r"size=\(5, 6\)", False),
        ((200, _answer(_png(6, 5, 1, dtype=np.uint16))), "depth=8", False),
        ((200, b" " * 3000), "at most 2000 bytes", False),
    ],
)
def test_a_wrong_answer_belongs_to_one_file(tmp_path, bad, message, is_retried):
    sources = [tmp_path / "a.png", tmp_path / "b.png"]
    for source in sources:
        source.write_bytes(_png(6, 5, 1))
    options = {"retries": 1, "pause": 0.01, "max_reply_bytes": 2000}
    # With two bad answers the retry fails; with one it succeeds.
    for num_bad, fails in ((2, True), (1, False)) if is_retried else ((1, True),):
        output = tmp_path / f"out{num_bad}"
        with _hostile_server([*[bad] * num_bad, GOOD]) as (port, _):
            rest = client.RestClient(f"localhost:{port}", **options)
            failures = client.denoise_folder(rest, sources, output, parallel=1)
        assert [path.name for path in failures] == (["a.png"] if fails else [])
        assert all(re.search(message, text) for text in failures.values())
        written = sorted(path.name for path in output.iterdir())
        assert written == (["b.png"] if fails else ["a.png", "b.png"])


def test_arrays_of_another_shape_are_refused():
    noisy = np.zeros((1, 6, 5, 1), np.float32)
    for outputs in ([[1.0, 2.0]], np.full(noisy.shape, np.nan).tolist(), [{"a": 1}]):
        with _hostile_server([(200, {"outputs": outputs})]) as (port, _):
            rest = client.RestClient(f"localhost:{port}")
            with pytest.raises(client.RequestError, match="The answer must be"):
                rest.denoise_array(noisy)


def test_an_answer_that_never_ends(tmp_path):
    """A byte from time to time keeps the connection open, but not for ever."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):  # noqa: N802
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(b" ")
                    time.sleep(0.02)

        def log_message(self, *args):
            pass

    (tmp_path / "a.png").write_bytes(_png(6, 5, 1))
    hostile = http.server.ThreadingHTTPServer(("localhost", 0), Handler)
    threading.Thread(target=hostile.serve_forever, daemon=True).start()
    rest = client.RestClient(f"localhost:{hostile.server_port}", timeout=0.3)
    failures = client.denoise_folder(rest, [tmp_path / "a.png"], tmp_path / "out")
    hostile.shutdown()
    hostile.server_close()
    assert list(failures.values()) == ["No answer in 0.3 seconds."]


def test_a_server_that_never_answers_is_not_asked_for_all_files(tmp_path):
    for index in range(9):
        (tmp_path / f"{index}.png").write_bytes(_png(6, 5, 1))
    with _hostile_server([(503, b"")]) as (port, requests):
        rest = client.RestClient(f"localhost:{port}", retries=0)
        failures = client.denoise_folder(rest, [tmp_path], tmp_path / "o", parallel=1)
    assert len(failures) == 9
    assert len(requests) == MAX_SILENT_FILES
    assert "was not sent" in list(failures.values())[-1]


def test_the_client_does_not_import_tensorflow():
    code = """
import sys
sys.modules["tensorflow"] = None
import tfflowdn.scripts.denoise_client
assert "keras" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_health_check_finds_the_model_available(server):
    """Runs the command of compose.yaml, which is a shell's, at the stand-in's port."""
    compose = (SERVING / "compose.yaml").read_text()
    script = re.search(r"- >-\n(.*?)\n      interval", compose, re.DOTALL).group(1)
    script = " ".join(line.strip() for line in script.splitlines())
    for port, expected in ((server["rest"], 0), (1, 1)):
        command = ["bash", "-c", script.replace("8501", str(port))]
        done = subprocess.run(command, capture_output=True, timeout=30)
        assert done.returncode == expected


def test_the_server_s_configuration(saved_model):
    text = (SERVING / "models.config").read_text()
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path) == ("denoiser", "/models/denoiser")
    # No package contains the message of the server, so the names are compared.
    pattern = re.compile(r"(\w+) \{ value: (\w+|\"\w+\") \}")
    for path, fields in (
        (SERVING / "batching.config", {"num_batch_threads", "thread_pool_name"}),
        (
            saved_model / "batching_params.pbtxt",
            {
                "max_batch_size",
                "max_execution_batch_size",
                "enable_large_batch_splitting",
                "batch_timeout_micros",
                "max_enqueued_batches",
            },
        ),
    ):
        lines = [x for x in path.read_text().splitlines() if not x.startswith("#")]
        assert all(pattern.fullmatch(line) for line in lines)
        assert {line.split()[0] for line in lines} == fields
        assert len(lines) == len(fields)
