"""Loads a denoiser's SavedModel as the server does and asks it from many threads.

    python tools/serving/load_test.py saved_models/denoiser/1

sends requests from 16 threads to one Session of the C++ loader for two minutes. The
pictures have mixed sizes and are sent as floats, as 8-bit arrays and as files. Every
answer is compared with the answer without load. `--output` gets the number of failed
and wrong answers, the latencies by size, and the memory of the process during the run.
The test runs on Linux, because it reads the memory from /proc, and needs only
TensorFlow.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import threading
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

SIZES = (
    (32, 48),
    (64, 64),
    (100, 133),
    (128, 192),
    (256, 256),
    (512, 768),
    (1100, 1400),  # Larger than a tile.
)
PERCENTILES = (50, 90, 95, 99)
INPUTS = {"serving_default": "noisy", "uint8": "noisy", "encoded": "noisy_bytes"}


class _Model:
    """The signatures of a SavedModel in one Session."""

    def __init__(self, path):
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            loaded = tf.compat.v1.saved_model.loader.load(
                self._session, ["serve"], path
            )
        self._tensors = {}
        for name, key in INPUTS.items():
            signature = loaded.signature_def[name]
            (output,) = signature.outputs.values()
            self._tensors[name] = signature.inputs[key].name, output.name
        shape = loaded.signature_def["uint8"].inputs["noisy"].tensor_shape
        self.channels = shape.dim[-1].size

    def __call__(self, name, value):
        noisy, denoised = self._tensors[name]
        return self._session.run(denoised, {noisy: value})


def _requests(channels):
    """Returns (name, signature, value) for every size and signature."""
    rng = np.random.default_rng(0)
    requests = []
    for height, width in SIZES:
        shape = (1, height, width, channels)
        pixels = rng.integers(256, size=shape, dtype=np.uint8)
        file = tf.io.encode_png(pixels[0]).numpy()
        values = (np.float32(pixels / 255), pixels, np.array([file], object))
        requests += [
            (f"{height} x {width}", signature, value)
            for signature, value in zip(INPUTS, values, strict=True)
        ]
    return requests


def _memory_mib():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(x for x in lines if x.startswith("VmRSS")).split()[1]) / 1024


def _is_same(answer, expected):
    if answer.dtype == object:  # Files, whose pixels are rounded.
        decoded = [
            tf.io.decode_png(a[0]).numpy().astype(int) for a in (answer, expected)
        ]
        return np.abs(decoded[0] - decoded[1]).max() <= 1
    tolerance = 1 if answer.dtype == np.uint8 else 1e-5
    difference = answer.astype(np.float64) - expected
    return answer.shape == expected.shape and np.abs(difference).max() <= tolerance


def _percentiles(seconds):
    values = np.percentile(seconds, PERCENTILES)
    found = {
        f"p{p}": round(float(v), 3) for p, v in zip(PERCENTILES, values, strict=True)
    }
    return {"requests": len(seconds), "seconds": found}


def load_test(path: str, num_threads: int, seconds: float) -> dict:
    """Returns the figures of a run.

    Args:
      path: Folder of the SavedModel.
      num_threads: Number of threads, each of which sends one request at a time.
      seconds: Seconds during which requests are sent.
    """
    model = _Model(path)
    requests = _requests(model.channels)
    expected = [model(signature, value) for _, signature, value in requests]
    latencies = {size: [] for size, _, _ in requests}
    errors, wrong, memory = [], [], []
    end = time.perf_counter() + seconds

    def send(seed):
        chosen = random.Random(seed)
        while time.perf_counter() < end:
            index = chosen.randrange(len(requests))
            size, signature, value = requests[index]
            start = time.perf_counter()
            try:
                answer = model(signature, value)
            except tf.errors.OpError as error:
                errors.append(str(error))
                continue
            latencies[size].append(time.perf_counter() - start)
            if not _is_same(answer, expected[index]):
                wrong.append((size, signature))

    threads = [threading.Thread(target=send, args=(i,)) for i in range(num_threads)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        memory.append(_memory_mib())
        time.sleep(0.5)
    elapsed = time.perf_counter() - start
    quarters = [round(statistics.median(q)) for q in np.array_split(memory, 4)]
    every = [value for values in latencies.values() for value in values]
    pixels = sum(
        len(latencies[f"{height} x {width}"]) * height * width
        for height, width in SIZES
    )
    return {
        "cores": len(os.sched_getaffinity(0)),
        "threads": num_threads,
        "seconds": round(elapsed, 1),
        "failed": len(errors),
        "wrong": len(wrong),
        "first_error": errors[0] if errors else None,
        "megapixels_per_second": round(pixels / 1e6 / elapsed, 3),
        "all": _percentiles(every),
        "by_size": {size: _percentiles(values) for size, values in latencies.items()},
        "memory_mib_by_quarter": quarters,
    }


def main(argv: list[str] | None = None) -> int:
    """Runs the test and returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="Folder of the SavedModel.")
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--output", type=Path, help="JSON file to write.")
    options = parser.parse_args(argv)
    report = load_test(options.model, options.threads, options.seconds)
    text = json.dumps(report, indent=1)
    print(text)
    if options.output:
        options.output.write_text(text + "\n")
    return 1 if report["failed"] or report["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
