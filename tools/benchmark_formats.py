"""Compares the exported formats of a denoiser: size, speed and equality.

    python tools/benchmark_formats.py --model DENOISER.keras

exports SavedModel, LiteRT and ONNX, and runs each in its own runtime, in turns on the
same pictures. It prints a table: MB on disk, the time of a picture over the time of the
Keras model, and the largest difference from its result. Without a model it takes the
default network with random weights.
"""

from __future__ import annotations

import os
import tempfile

import harness
import numpy as np
from absl import flags

litert = harness.lazy("ai_edge_litert.interpreter")
onnxruntime = harness.lazy("onnxruntime")
serving = harness.lazy("tfflowdn.serving")
tf = harness.lazy("tensorflow")
tfflowdn = harness.lazy("tfflowdn")

FLAGS = flags.FLAGS
NUM_CORES = len(os.sched_getaffinity(0))


def _network():
    if FLAGS.model:
        return tfflowdn.load_denoiser(FLAGS.model)
    network, rng = tfflowdn.ResNetDenoiser(), np.random.default_rng(0)
    for weight in network.trainable_weights:
        weight.assign(0.02 * rng.standard_normal(weight.shape))
    return network


def _saved_model(path):
    signature = tf.saved_model.load(str(path)).signatures["serving_default"]
    return lambda noisy: signature(noisy=tf.constant(noisy))["denoised"].numpy()


def _litert(path):
    interpreter = litert.Interpreter(str(path), num_threads=NUM_CORES)
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


def _measure(runs, noisy):
    """Returns the time of every run over the time of Keras, and the differences."""
    results = {name: run(noisy) for name, run in runs.items()}
    tasks = {name: lambda run=run: run(noisy) for name, run in runs.items()}
    times = harness.turns(tasks, FLAGS.rounds)
    return {
        name: {
            "time_ratio": round(harness.ratio(times[name], times["keras"]), 3),
            "max_difference": float(np.abs(results[name] - results["keras"]).max()),
        }
        for name in runs
    }


def _main():
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
    rows = [
        [
            name,
            f"{size / 1e6:.1f}",
            *(results[name]["time_ratio"] for results in by_side.values()),
            max(results[name]["max_difference"] for results in by_side.values()),
        ]
        for name, size in sizes.items()
    ]
    titles = [f"{side} x {side}" for side in by_side]
    harness.print_table(["", "MB", *titles, "difference"], rows)
    record = {"parameters": network.count_params(), "bytes": sizes, "by_side": by_side}
    harness.save(record, FLAGS.output)


if __name__ == "__main__":
    flags.DEFINE_string("model", None, "Denoiser, a .keras file.")
    flags.DEFINE_string("output", None, "JSON file to write.")
    flags.DEFINE_list("sides", ["256", "512"], "Heights and widths of the pictures.")
    flags.DEFINE_integer("rounds", 7, "Turns.")
    harness.run(_main)
