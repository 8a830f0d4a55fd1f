"""Measures the flow engine: speed, first step, memory and precision.

    python tools/benchmark_engine.py --output tools/results/engine.json

prints Markdown tables and writes their figures; `--measure` picks some of them, and
the others stay in the file as they were. Every variant runs in a process of its own,
since the number of threads is set once a process, and only one of them works at a
time. Speeds are compared by the medians of runs in turns, so that the load of the
machine cancels; absolute times are those of one machine. Linux only (the peak of the
memory is read from /proc).
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

from tfflowdn import flows
from tfflowdn.models import FlowPrior
from tfflowdn.training.optimizer import GuardedAdam

FLAGS = flags.FLAGS
DEFAULTS = {
    "task": "serve",
    "hand_written": False,
    "num_steps": 4,
    "hidden_channels": 64,
    "channels": 1,
    "batch_size": 64,
    "recompute": False,
    "precision": None,
    "patch_gradients": False,
    "jit_compile": False,
    "num_shards": 1,
    "intra_op_threads": 0,
    "inter_op_threads": 0,
}
THREADS = {
    "whole batch": {},
    "2 shards": {"num_shards": 2, "intra_op_threads": 1},
}
ONE_THREAD = {"intra_op_threads": 1, "inter_op_threads": 1}
WORKS = ("gradient", "forward", "input_gradient", "sample")
SPEEDS = {
    "flow": {},
    "hand-written": {"hand_written": True},
    "recompute": {"recompute": True},
    "patch gradients": {"patch_gradients": True},
    "bfloat16": {"precision": "mixed_bfloat16"},
    "XLA": {"jit_compile": True},
}
FLOWS = {
    "12 steps, 64 wide, gray, batch 64": {},
    "96 steps, 128 wide, RGB, batch 16": {
        "num_steps": 32,
        "hidden_channels": 128,
        "channels": 3,
        "batch_size": 16,
    },
}
DEPTHS = {"24 steps": {"num_steps": 8}, "96 steps": {"num_steps": 32}}
PLAIN_OR_RECOMPUTE = {"plain": {}, "recompute": {"recompute": True}}


# What is measured: each returns a dictionary for the JSON and prints a table.


def _speed():
    """Images a second; and each variant's speed over the flow's and the other's."""
    variants = {
        f"{name}, {threads}": {**SPEEDS[name], **THREADS[threads]}
        for threads in THREADS
        for name in SPEEDS
        if (name, threads) != ("XLA", "2 shards")
    }
    seconds = _seconds_in_turns(variants, WORKS)
    rows = []
    for name, own in seconds.items():
        flow = seconds[f"flow, {name.split(', ')[1]}"]
        ratios = {work: flow[work] / own[work] for work in own}
        rows.append([name, *(f"{ratios.get(work, math.nan):.2f}" for work in WORKS)])
    _print_table(["speed over the flow's", *WORKS], rows)
    flow = {threads: seconds[f"flow, {threads}"] for threads in THREADS}
    hand = {threads: seconds[f"hand-written, {threads}"] for threads in THREADS}
    ratios = {
        threads: hand[threads]["gradient"] / flow[threads]["gradient"]
        for threads in THREADS
    }
    _print_table(
        ["speed of the gradient", *THREADS],
        [
            [
                "over the hand-written (at least 0.95)",
                *map("{:.2f}".format, ratios.values()),
            ]
        ],
    )
    return {"seconds": seconds, "gradient_over_hand_written": ratios}


def _input_gradient():
    """The speed of the gradient for the images alone over that of the weights'."""
    works = ["gradient", "input_gradient"]
    results = {}
    for name, settings in FLOWS.items():
        for threads, options in {**THREADS, "1 thread": ONE_THREAD}.items():
            variant = {f"{name}; {threads}": {**settings, **options}}
            ((title, seconds),) = _seconds_in_turns(variant, works).items()
            results[title] = {**seconds, "ratio": seconds[works[0]] / seconds[works[1]]}
    _print_table(
        ["input gradient", "speed over the gradient (at least 1.6)"],
        [[title, f"{result['ratio']:.2f}"] for title, result in results.items()],
    )
    return results


def _first_step():
    """Seconds of the first step, each in a fresh process."""
    results = {}
    for name, settings in FLOWS.items():
        settings = {**settings, "task": "first_step"}
        reports = [_report(settings) for _ in range(FLAGS.fresh_processes)]
        results[name] = {
            part: statistics.median(report[part] for report in reports)
            for part in reports[0]
        }
    parts = list(next(iter(results.values())))
    _print_table(
        ["seconds", *parts],
        [
            [name, *(f"{result[part]:.1f}" for part in parts)]
            for name, result in results.items()
        ],
    )
    return results


def _memory():
    """Peak memory of one gradient and its time, by depth, plain and recomputed."""
    settings = {"batch_size": FLAGS.memory_batch_size}
    peaks = {
        depth: {
            name: statistics.median(
                _report({**settings, **DEPTHS[depth], **options, "task": "memory"})[
                    "peak_mib"
                ]
                for _ in range(FLAGS.fresh_processes)
            )
            for name, options in PLAIN_OR_RECOMPUTE.items()
        }
        for depth in DEPTHS
    }
    variants = {
        f"{depth}, {name}": {**settings, **DEPTHS[depth], **options}
        for depth in DEPTHS
        for name, options in PLAIN_OR_RECOMPUTE.items()
    }
    seconds = _seconds_in_turns(variants, ["gradient"])
    times = {
        depth: seconds[f"{depth}, recompute"]["gradient"]
        / seconds[f"{depth}, plain"]["gradient"]
        for depth in DEPTHS
    }
    growth = {
        name: peaks["96 steps"][name] / peaks["24 steps"][name] - 1
        for name in PLAIN_OR_RECOMPUTE
    }
    rows = [
        [depth, *(f"{peak:.0f} MiB" for peak in peaks[depth].values()), f"{ratio:.2f}"]
        for depth, ratio in times.items()
    ]
    rows.append(["growth", *(f"{value:+.0%}" for value in growth.values()), ""])
    _print_table(["peak of a gradient", *PLAIN_OR_RECOMPUTE, "time of recompute"], rows)
    return {**settings, "peak_mib": peaks, "growth": growth, "time_ratio": times}


def _precision():
    """What bfloat16 conditioners do to the density and to the round trip."""
    result = _report({"task": "precision"})
    _print_table(["bfloat16", ""], [[k, f"{v:.2g}"] for k, v in result.items()])
    return result


MEASURES = {
    "speed": _speed,
    "input_gradient": _input_gradient,
    "first_step": _first_step,
    "memory": _memory,
    "precision": _precision,
}


class _Server:
    """A process that does a variant's work when it is told to."""

    def __init__(self, settings):
        self._process = _start(settings)
        self.works = json.loads(self._process.stdout.readline())

    def seconds(self, work, calls):
        self._process.stdin.write(f"{work} {calls}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline()) / calls

    def close(self):
        self._process.communicate()


def _seconds_in_turns(variants, works):
    """Returns for each variant and work the median seconds of a call."""
    servers = {name: _Server(settings) for name, settings in variants.items()}
    times = {name: {} for name in variants}
    turns = [
        (name, work)
        for work in works
        for name in servers
        if work in servers[name].works
    ]
    for _ in range(FLAGS.rounds):
        for name, work in turns:
            seconds = servers[name].seconds(work, FLAGS.calls)
            times[name].setdefault(work, []).append(seconds)
    for server in servers.values():
        server.close()
    return {
        name: {work: statistics.median(values) for work, values in by_work.items()}
        for name, by_work in times.items()
    }


def _report(settings):
    """Returns what a fresh process measures of itself."""
    output, _ = _start({**settings, "started": time.time()}).communicate()
    return json.loads(output)


def _start(settings):
    return subprocess.Popen(
        [sys.executable, __file__, "--worker", json.dumps(settings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _print_table(header, rows):
    rule = ["---", *["--:"] * (len(header) - 1)]
    for row in [header, rule, *rows]:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


# What a worker does: each answers on standard output.


def _serve(settings):
    works = _works(settings)
    print(json.dumps(list(works)), flush=True)
    for line in sys.stdin:
        work, calls = line.split()
        start = time.perf_counter()
        for _ in range(int(calls)):
            works[work]()
        print(time.perf_counter() - start, flush=True)


def _report_first_step(settings):
    imported = time.time()
    prior = _prior(settings)
    images = _images(settings)
    built = time.time()
    prior.initialize(images)
    initialized = time.time()
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, 1000, warmup_target=1e-3, warmup_steps=100
    )
    prior.compile(GuardedAdam(schedule, clip_norm=50.0))
    prior.fit(images, batch_size=len(images), verbose=0)
    times = {
        "import": imported - settings.started,
        "construction": built - imported,
        "initialize": initialized - built,
        "fit": time.time() - initialized,
    }
    print(json.dumps(times))


def _report_memory(settings):
    prior = _prior(settings)
    images = tf.constant(_images(settings))
    gradient = _gradient(prior.log_prob, prior.trainable_variables)
    prior.log_prob(images[:1])
    Path("/proc/self/clear_refs").write_text("5")  # The peak is that from here on.
    before = _status_mib("VmRSS")
    gradient(images)
    print(json.dumps({"peak_mib": _status_mib("VmHWM") - before}))


def _report_precision(settings):
    images = tf.constant(_images(settings))
    prior = _perturbed_prior(settings, images)
    rounded = FlowPrior.from_config(
        {
            **prior.get_config(),
            "flow_options": {**prior.flow_options, "precision": "mixed_bfloat16"},
        }
    )
    rounded.set_weights(prior.get_weights())
    bits = [model.bits_per_dim(images).numpy() for model in (prior, rounded)]
    report = {
        "float32, bits/dim": bits[0].mean(),
        "mean difference, bits/dim": abs(bits[0].mean() - bits[1].mean()),
        "largest difference of an image, bits/dim": np.abs(bits[0] - bits[1]).max(),
        "largest round-trip error, float32": _round_trip_error(prior, images),
        "largest round-trip error, bfloat16": _round_trip_error(rounded, images),
    }
    print(json.dumps({name: float(value) for name, value in report.items()}))


def _round_trip_error(prior, images):
    bijector = prior.distribution.bijector
    latents = tf.function(bijector.inverse)(images)
    again = tf.function(bijector.forward)(latents)
    return np.abs(again - images).max()


TASKS = {
    "serve": _serve,
    "first_step": _report_first_step,
    "memory": _report_memory,
    "precision": _report_precision,
}


def _works(settings):
    """Returns the settings' calls by name, each traced and warm."""
    images = tf.constant(_images(settings))
    prior = _perturbed_prior(settings, images)
    prior.num_shards = settings.num_shards
    jit_compile = settings.jit_compile
    if settings.hand_written:
        log_prob, weights = _hand_written_glow(prior)
        np.testing.assert_allclose(log_prob(images), prior.log_prob(images), rtol=1e-3)
        log_prob = _sharded(log_prob, settings.num_shards)
        functions = {"gradient": _gradient(log_prob, weights, jit_compile)}
        functions["forward"] = tf.function(log_prob, jit_compile=jit_compile)
    else:
        weights = prior.trainable_variables
        forward = prior.distribution.bijector.forward
        functions = {
            "gradient": _gradient(prior.log_prob, weights, jit_compile),
            "forward": tf.function(prior.log_prob, jit_compile=jit_compile),
            "sample": tf.function(forward, jit_compile=jit_compile),
        }
        _warm(functions, images)
        prior.trainable = False
        functions["input_gradient"] = _input_gradient(prior.log_prob, jit_compile)
    _warm(functions, images)
    return {
        name: lambda function=function: function(images)
        for name, function in functions.items()
    }


def _warm(functions, images):
    for function in functions.values():
        function(images)
        function(images)


def _gradient(log_prob, weights, jit_compile=False):
    @tf.function(jit_compile=jit_compile)
    def gradient(images):
        with tf.GradientTape() as tape:
            mean = tf.reduce_mean(log_prob(images))
        return tape.gradient(mean, weights)

    return gradient


def _input_gradient(log_prob, jit_compile):
    @tf.function(jit_compile=jit_compile)
    def gradient(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            total = tf.reduce_sum(log_prob(images))
        return tape.gradient(total, images)

    return gradient


def _sharded(log_prob, num_shards):
    def sharded(images):
        return tf.concat([log_prob(s) for s in tf.split(images, num_shards)], 0)

    return log_prob if num_shards == 1 else sharded


def _prior(settings):
    return FlowPrior(
        "glow",
        (32, 32, settings.channels),
        flow_options={
            "num_levels": 3,
            "num_steps": settings.num_steps,
            "hidden_channels": settings.hidden_channels,
            "recompute": settings.recompute,
            "precision": settings.precision,
            "patch_gradients": settings.patch_gradients,
        },
    )


def _perturbed_prior(settings, images):
    """Returns a prior whose weights are nowhere zero, as after training."""
    prior = _prior(settings)
    rng = np.random.default_rng(1)
    for weight in prior.trainable_variables:
        noise = rng.normal(size=weight.shape, scale=0.01)
        weight.assign_add(noise.astype(np.float32))
    prior.initialize(images)
    return prior


def _images(settings):
    """Returns smooth pictures with noise [batch, 32, 32, C]."""
    rng = np.random.default_rng(0)
    shape = (settings.batch_size, 4, 4, settings.channels)
    smooth = np.kron(rng.random(shape), np.ones((1, 8, 8, 1)))
    noisy = smooth + rng.normal(scale=0.05, size=smooth.shape)
    return np.clip(noisy, 0, 1).astype(np.float32)


def _status_mib(name):
    """Returns a line of this process's memory statistics, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(ln for ln in lines if ln.startswith(name)).split()[1]) / 1024


# The same Glow without bijectors and without layers.


def _hand_written_glow(prior):
    """Returns the prior's log_prob in plain TensorFlow, and copies of its weights."""
    layers = flows.layers_of(prior.distribution.bijector)
    stacks, split_priors = layers[::2], [*layers[1::2], None]
    weights = []

    def copy(variable, value):
        if not variable.trainable:
            return tf.constant(value)
        weights.append(tf.Variable(value))
        return weights[-1]

    levels = []
    for stack, split_prior in zip(stacks, split_priors, strict=True):
        arrays = [(variable, np.array(variable)) for variable in stack.stacks]
        steps = [
            [copy(variable, values[i]) for variable, values in arrays]
            for i in range(stack.num_copies)
        ]
        split_weights = split_prior and [copy(v, v) for v in split_prior.variables]
        levels.append((steps, split_weights))

    def log_prob(images):
        x, total = images - 0.5, 0.0
        for steps, split_weights in levels:
            x = tf.nn.space_to_depth(x, 2)
            for step in steps:
                x, ildj = _glow_step(x, *step)
                total += ildj
            if split_weights:
                x, ildj = _coupling(x, split_weights)
                x, latents = tf.split(x, 2, -1)
                total += ildj + _normal_log_prob(latents)
        return total + _normal_log_prob(x)

    return log_prob, weights


def _glow_step(
    x,
    shift,
    log_scale,
    _initialized,
    lower,
    upper,
    log_diagonal,
    permutation,
    sign,
    *conditioner,
):
    num_pixels = x.shape[1] * x.shape[2]
    x = (x + shift) * tf.exp(log_scale)
    lower = tf.linalg.set_diag(lower, tf.ones_like(sign))
    lower = tf.linalg.band_part(lower, -1, 0)
    upper = tf.linalg.set_diag(upper, sign * tf.exp(log_diagonal))
    upper = tf.linalg.band_part(upper, 0, -1)
    rows = tf.reshape(x, [-1, x.shape[-1]]) @ (permutation @ lower @ upper)
    x = tf.reshape(rows, [-1, *x.shape[1:]])
    x, ildj = _coupling(x, conditioner)
    return x, ildj + num_pixels * tf.reduce_sum(log_scale + log_diagonal)


def _coupling(x, conditioner):
    a, b = tf.split(x, 2, -1)
    *hidden_weights, last_kernel, last_bias = conditioner
    hidden = a
    if hidden_weights:
        first_kernel, first_bias, middle_kernel, middle_bias = hidden_weights
        hidden = tf.nn.relu(tf.nn.bias_add(_convolve(hidden, first_kernel), first_bias))
        rows = tf.reshape(hidden, [-1, hidden.shape[-1]])
        rows = tf.nn.relu(tf.nn.bias_add(rows @ middle_kernel, middle_bias))
        hidden = tf.reshape(rows, [-1, *hidden.shape[1:]])
    out = tf.nn.bias_add(_convolve(hidden, last_kernel), last_bias)
    shift, log_scale = tf.split(out, 2, -1)
    log_scale = 2 * tf.tanh(log_scale / 2)
    b = (b + shift) * tf.exp(log_scale)
    return tf.concat([a, b], -1), tf.reduce_sum(log_scale, [1, 2, 3])


def _convolve(images, kernel):
    return tf.nn.conv2d(images, kernel, 1, "SAME")


def _normal_log_prob(latents):
    squares = latents**2 + math.log(2 * math.pi)
    return -0.5 * tf.reduce_sum(squares, [1, 2, 3])


def _main(argv):
    del argv
    if FLAGS.worker:
        settings = SimpleNamespace(**{**DEFAULTS, **json.loads(FLAGS.worker)})
        threading = tf.config.threading
        threading.set_intra_op_parallelism_threads(settings.intra_op_threads)
        threading.set_inter_op_parallelism_threads(settings.inter_op_threads)
        TASKS[settings.task](settings)
        return
    path = Path(FLAGS.output)
    results = json.loads(path.read_text()) if path.exists() else {}
    for name in FLAGS.measure:
        results[name] = MEASURES[name]()
        path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    flags.DEFINE_string("output", "tools/results/engine.json", "JSON to write.")
    flags.DEFINE_multi_enum("measure", list(MEASURES), list(MEASURES), "What of it.")
    flags.DEFINE_integer("rounds", 15, "Turns of each variant.")
    flags.DEFINE_integer("calls", 2, "Calls of a turn.")
    flags.DEFINE_integer("fresh_processes", 3, "Fresh processes of a figure.")
    flags.DEFINE_integer("memory_batch_size", 64, "Batch of the memory's gradient.")
    flags.DEFINE_string("worker", None, "Settings of a worker process (internal).")
    app.run(_main)
