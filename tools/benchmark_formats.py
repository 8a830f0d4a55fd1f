"""Compares a denoiser's exported formats: size, speed, and how equal they are.

    python tools/benchmark_formats.py --model DENOISER.keras

exports SavedModel, LiteRT and ONNX, runs each by its own runtime in turns on the same
pictures, prints a Markdown table and writes it to `--output`: MB on disk, seconds for a
picture over those of the Keras model, and the largest difference from its result.
Without a model it takes the default network with random weights.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import onnxruntime
import tensorflow as tf
from absl import app, flags
from ai_edge_litert.interpreter import Interpreter

from tfflowdn import ResNetDenoiser, load_denoiser, serving

FLAGS = flags.FLAGS
NUM_CORES = len(os.sched_getaffinity(0))


def _network():
    if FLAGS.model:
        return load_denoiser(FLAGS.model)
    network, rng = ResNetDenoiser(), np.random.default_rng(0)
    for weight in network.trainable_weights:
        weight.assign(0.02 * rng.standard_normal(weight.shape))
    return network


def _saved_model(path):
    signature = tf.saved_model.load(str(path)).signatures["serving_default"]
    return lambda noisy: signature(noisy=tf.constant(noisy))["denoised"].numpy()


def _litert(path):
    interpreter = Interpreter(str(path), num_threads=NUM_CORES)
    (source,) = interpreter.get_input_details()
    (target,) = interpreter.get_output_details()

    def run(noisy):
        interpreter.resize_tensor_input(source["index"], noisy.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(source["index"], noisy)
        interpreter.invoke()
        return interpreter.get_tensor(target["index"])

    return run


def _onnx(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = NUM_CORES
    session = onnxruntime.InferenceSession(
        path, options, providers=["CPUExecutionProvider"]
    )
    return lambda noisy: session.run(["denoised"], {"noisy": noisy})[0]


LOADERS = {"saved_model": _saved_model, "litert": _litert, "onnx": _onnx}


def _num_bytes(path):
    files = [path] if path.is_file() else path.rglob("*")
    needed = [f for f in files if f.is_file() and serving.export.EXTRA not in f.parts]
    return sum(file.stat().st_size for file in needed)


def _seconds(run, noisy):
    start = time.perf_counter()
    run(noisy)
    return time.perf_counter() - start


def _measure(runs, noisy):
    """Returns the seconds of every run over those of Keras, and the differences."""
    results = {name: run(noisy) for name, run in runs.items()}
    ratios = {name: [] for name in runs}
    for _ in range(FLAGS.rounds):
        seconds = {name: _seconds(run, noisy) for name, run in runs.items()}
        for name in runs:
            ratios[name].append(seconds[name] / seconds["keras"])
    return {
        name: {
            "time_ratio": round(statistics.median(ratios[name]), 3),
            "max_difference": float(np.abs(results[name] - results["keras"]).max()),
        }
        for name in runs
    }


def _main(argv):
    del argv
    network = _network()
    traced = tf.function(lambda noisy: network(noisy, training=False))
    runs = {"keras": lambda noisy: traced(tf.constant(noisy)).numpy()}
    channels, sizes = network.channels, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, load in LOADERS.items():
            path = serving.export_model(network, folder, "denoiser", format=name)
            sizes[name], runs[name] = _num_bytes(path), load(path)
        rng, by_side = np.random.default_rng(0), {}
        for side in map(int, FLAGS.sides):
            noisy = rng.random((1, side, side, channels), np.float32)
            by_side[side] = _measure(runs, noisy)
    sides = list(by_side)
    print(f"| | MB | {' | '.join(f'{s} x {s}' for s in sides)} | difference |")
    print(f"| --- | --: | {'--: | ' * len(sides)}--: |")
    for name, size in sizes.items():
        times = " | ".join(f"{by_side[s][name]['time_ratio']:.2f}" for s in sides)
        largest = max(by_side[s][name]["max_difference"] for s in sides)
        print(f"| {name} | {size / 1e6:.1f} | {times} | {largest:.0e} |")
    report = {
        "cores": NUM_CORES,
        "parameters": network.count_params(),
        "versions": {"keras": keras.__version__, "tensorflow": tf.__version__},
        "bytes": sizes,
        "by_side": by_side,
    }
    Path(FLAGS.output).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    flags.DEFINE_string("model", None, "The denoiser, a .keras file.")
    flags.DEFINE_string("output", "tools/results/formats.json", "JSON to write.")
    flags.DEFINE_list("sides", ["256", "512"], "Heights and widths of the pictures.")
    flags.DEFINE_integer("rounds", 7, "Turns.")
    app.run(_main)
