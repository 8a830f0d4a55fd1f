"""Measures the flow engine: speed, first step, memory and precision.

    python tools/benchmark_engine.py --output tools/results/engine.json

prints Markdown tables; `--output` gets their figures. `--measure` picks some of them,
and the others stay in the file as they were. Every variant runs in its own process,
because the number of threads is set once per process. Speeds are compared by medians of
runs in turns, so that the load of the machine cancels. Linux only (peak memory is read
from /proc).
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from types import SimpleNamespace

import harness
import numpy as np
from absl import flags

keras = harness.lazy("keras")
tf = harness.lazy("tensorflow")
models = harness.lazy("tfflowdn.models")
training = harness.lazy("tfflowdn.training.optimizer")

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


# The measurements: each returns a dictionary for the JSON and prints a table.


def _measure_speed():
    """Measures the speed of each variant, and of the flow over hand-written code."""
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
        ratios = (flow[w] / own[w] if w in own else None for w in WORKS)
        rows.append([name, *ratios])
    harness.print_table(["speed over the flow", *WORKS], rows)
    ratios = {
        threads: seconds[f"hand-written, {threads}"]["gradient"]
        / seconds[f"flow, {threads}"]["gradient"]
        for threads in THREADS
    }
    harness.print_table(
        ["speed of the gradient", *THREADS],
        [["over the hand-written (at least 0.95)", *ratios.values()]],
    )
    return {"seconds": seconds, "gradient_over_hand_written": ratios}


def _measure_input_gradient():
    """Measures the images' gradient over the weights' gradient."""
    works = ["gradient", "input_gradient"]
    results = {}
    for name, settings in FLOWS.items():
        for threads, options in {**THREADS, "1 thread": ONE_THREAD}.items():
            variant = {f"{name}; {threads}": {**settings, **options}}
            ((title, seconds),) = _seconds_in_turns(variant, works).items()
            results[title] = {**seconds, "ratio": seconds[works[0]] / seconds[works[1]]}
    harness.print_table(
        ["input gradient", "speed over the gradient (at least 1.6)"],
        [[title, result["ratio"]] for title, result in results.items()],
    )
    return results


def _measure_first_step():
    """Seconds of the first step, each in a fresh process."""
    results = {}
    for name, settings in FLOWS.items():
        reports = [
            harness.fresh(**settings, task="first_step", started=time.time())
            for _ in range(FLAGS.fresh_processes)
        ]
        times = {part: [report[part] for report in reports] for part in reports[0]}
        results[name] = harness.medians(times)
    parts = list(next(iter(results.values())))
    harness.print_table(
        ["seconds", *parts],
        [[name, *result.values()] for name, result in results.items()],
    )
    return results


def _measure_memory():
    """Measures peak memory and time of one gradient, by depth, plain and recomputed."""
    settings = {"batch_size": FLAGS.memory_batch_size}
    variants = {
        (depth, name): {**settings, **DEPTHS[depth], **options}
        for depth in DEPTHS
        for name, options in PLAIN_OR_RECOMPUTE.items()
    }
    peaks = {depth: {} for depth in DEPTHS}
    for (depth, name), variant in variants.items():
        peaks[depth][name] = statistics.median(
            harness.fresh(**variant, task="memory")["peak_mib"]
            for _ in range(FLAGS.fresh_processes)
        )
    seconds = _seconds_in_turns(variants, ["gradient"])
    times = {
        depth: seconds[depth, "recompute"]["gradient"]
        / seconds[depth, "plain"]["gradient"]
        for depth in DEPTHS
    }
    growth = {
        name: peaks["96 steps"][name] / peaks["24 steps"][name] - 1
        for name in PLAIN_OR_RECOMPUTE
    }
    rows = [
        [depth, *(f"{peak:.0f} MiB" for peak in peaks[depth].values()), times[depth]]
        for depth in DEPTHS
    ]
    rows.append(["growth", *(f"{value:+.0%}" for value in growth.values()), None])
    harness.print_table(
        ["peak of a gradient", *PLAIN_OR_RECOMPUTE, "time of recompute"], rows
    )
    return {**settings, "peak_mib": peaks, "growth": growth, "time_ratio": times}


def _measure_precision():
    """Measures the effect of bfloat16 on the density and the round trip."""
    result = harness.fresh(task="precision")
    harness.print_table(["bfloat16", ""], result.items())
    return result


MEASURES = {
    "speed": _measure_speed,
    "input_gradient": _measure_input_gradient,
    "first_step": _measure_first_step,
    "memory": _measure_memory,
    "precision": _measure_precision,
}


def _seconds_in_turns(variants, works):
    """Returns for each variant and work the median seconds of a call."""
    servers = {}
    for name, settings in variants.items():
        worker = f"--worker={json.dumps(settings)}"
        servers[name] = harness.Server([sys.executable, *sys.argv, worker])
    turns = {
        (name, work): (server, work)
        for work in works
        for name, server in servers.items()
        if work in server.facts["tasks"]
    }
    times = harness.turns(
        turns,
        FLAGS.rounds,
        clock=lambda turn: statistics.fmean(turn[0].times(turn[1], FLAGS.calls)),
    )
    for server in servers.values():
        server.close()
    results = {name: {} for name in variants}
    for (name, work), median in harness.medians(times).items():
        results[name][work] = median
    return results


# The work of the other processes.


def _work(**settings):
    settings = SimpleNamespace(**{**DEFAULTS, **settings})
    threading = tf.config.threading
    threading.set_intra_op_parallelism_threads(settings.intra_op_threads)
    threading.set_inter_op_parallelism_threads(settings.inter_op_threads)
    return TASKS[settings.task](settings)


def _serve(settings):
    harness.serve(lambda: (_works(settings), {}))


def _first_step(settings):
    models.FlowPrior  # noqa: B018 (imports it)
    imported = time.time()
    prior = _prior(settings)
    images = _images(settings)
    built = time.time()
    prior.initialize(images)
    initialized = time.time()
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, 1000, warmup_target=1e-3, warmup_steps=100
    )
    prior.compile(training.GuardedAdam(schedule, clip_norm=50.0))
    prior.fit(images, batch_size=len(images), verbose=0)
    return {
        "import": imported - settings.started,
        "construction": built - imported,
        "initialize": initialized - built,
        "fit": time.time() - initialized,
    }


def _memory(settings):
    prior = _prior(settings)
    images = tf.constant(_images(settings))
    gradient = _gradient(prior.log_prob, prior.trainable_variables)
    prior.log_prob(images[:1])
    return {"peak_mib": harness.peak_mib(lambda: gradient(images))}


def _precision(settings):
    images = tf.constant(_images(settings))
    prior = _perturbed_prior(settings, images)
    rounded = _prior(
        SimpleNamespace(**{**vars(settings), "precision": "mixed_bfloat16"})
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
    return {name: float(value) for name, value in report.items()}


def _round_trip_error(prior, images):
    bijector = prior.distribution.bijector
    latents = tf.function(bijector.inverse)(images)
    again = tf.function(bijector.forward)(latents)
    return np.abs(again - images).max()


TASKS = {
    "serve": _serve,
    "first_step": _first_step,
    "memory": _memory,
    "precision": _precision,
}


def _works(settings):
    """Returns the calls of the settings by name, each traced and warm."""
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
    return models.FlowPrior(
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


# The same Glow without bijectors and without layers.


def _hand_written_glow(prior):
    """Returns the prior's log_prob in plain TensorFlow, and copies of its weights."""
    layers = prior.flow_layers
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


def _main():
    record = harness.load(FLAGS.output)
    for name in FLAGS.measure:
        record[name] = MEASURES[name]()
        if FLAGS.output:
            harness.save(record, FLAGS.output)


if __name__ == "__main__":
    flags.DEFINE_string("output", None, "JSON file to add the figures to.")
    flags.DEFINE_multi_enum("measure", list(MEASURES), list(MEASURES), "Measurements.")
    flags.DEFINE_integer("rounds", 15, "Turns of each variant.")
    flags.DEFINE_integer("calls", 2, "Calls in a turn.")
    flags.DEFINE_integer("fresh_processes", 3, "Fresh processes for a figure.")
    flags.DEFINE_integer("memory_batch_size", 64, "Batch of the gradient for memory.")
    harness.run(_main, _work)
