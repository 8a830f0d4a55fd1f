"""Compares the speed of one Glow in tfflowdn, normflows, FrEIA and nflows.

    python -m venv PEERS
    PEERS/bin/pip install torch==2.13.0 normflows==1.7.3 FrEIA==0.2 nflows==0.14 absl-py
    python tools/benchmark_flows.py --torch_python PEERS/bin/python

times the gradient of the mean log_prob for all weights, only log_prob ("forward"), and
sampling. Steps, conditioners and crops are the same. Every library runs in its own
process, and the processes work in turns. The peers run in each memory format; the
faster one counts. A run waits until other processes pause, and is repeated when they
disturbed it (this reads Linux's /proc). The tool prints medians and ratios, and adds
them to `--output`.

The remaining differences favor the peers: tfflowdn has learned split priors, the
rotations of FrEIA are fixed, and nflows caches its 1x1 matrices in inference.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import sys
import time
from pathlib import Path

import harness
from absl import flags

FLAGS = flags.FLAGS
PEERS = Path(__file__).resolve().parent / "peers"
LIBRARIES = ("tfflowdn", "normflows", "FrEIA", "nflows")
TASKS = ("gradient", "forward", "sample")
SIZES = {
    "gray": {
        "image_shape": (32, 32, 1),
        "num_levels": 3,
        "num_steps": 4,
        "hidden_channels": 64,
        "batch_size": 64,
    },
    "rgb": {
        "image_shape": (32, 32, 3),
        "num_levels": 3,
        "num_steps": 32,
        "hidden_channels": 128,
        "batch_size": 16,
    },
}


class _Worker:
    """A process that runs the tasks of a library, and the times of its runs."""

    def __init__(self, library, variant, size):
        self.library, self.variant = library, variant
        arguments = ["--size", json.dumps(size), "--threads", str(FLAGS.threads)]
        if library == "tfflowdn":
            script, python = "tfflowdn_worker.py", sys.executable
            arguments += ["--prior_json", FLAGS.prior_json]
            arguments += ["--jit_compile"] if FLAGS.jit_compile else []
        else:
            script, python = "torch_worker.py", FLAGS.torch_python
            arguments += ["--library", library, "--variant", variant]
        command = [python, str(PEERS / script), *arguments]
        self.server = harness.Server(command, FLAGS.verbose)
        self.times = {task: [] for task in TASKS}

    def run(self, task):
        """Runs a task `--runs` times after one run to warm up, undisturbed."""
        attempts = []
        for _ in range(FLAGS.attempts):
            for _ in range(FLAGS.patience):
                if self._disturbance(lambda: time.sleep(1))[0] < FLAGS.max_disturbance:
                    break
            attempts.append(self._disturbance(lambda: self._timed(task)))
            if attempts[-1][0] < FLAGS.max_disturbance:
                break
        self.times[task] += min(attempts)[1]

    def median(self, task):
        """Returns the median time of a task in milliseconds."""
        return 1000 * statistics.median(self.times[task])

    def _timed(self, task):
        return self.server.times(task, FLAGS.runs + 1)[1:]

    def _disturbance(self, function):
        """Returns how many CPUs other processes used during a call, and its result."""
        before, start = self._foreign_seconds(), time.perf_counter()
        result = function()
        wall = time.perf_counter() - start
        return (self._foreign_seconds() - before) / wall, result

    def _foreign_seconds(self):
        """Returns the CPU seconds that all other processes have used."""
        stat = Path("/proc/stat")
        if not stat.exists():
            return 0.0
        fields = [int(n) for n in stat.read_text().splitlines()[0].split()[1:9]]
        busy = sum(fields) - fields[3] - fields[4]  # Not idle, not waiting for a disk.
        own = Path(f"/proc/{self.server.pid}/stat").read_text().rpartition(")")[2]
        busy -= sum(int(n) for n in own.split()[11:13])
        return busy / os.sysconf("SC_CLK_TCK")


def _measure(name):
    """Returns the results of a size by library and task."""
    variants = [("tfflowdn", "")]
    variants += itertools.product(LIBRARIES[1:], FLAGS.variants)
    workers = [_Worker(library, variant, SIZES[name]) for library, variant in variants]
    _check_parameters(workers)
    for turn in range(FLAGS.rounds):
        for task in TASKS:
            for index in range(len(workers)):
                workers[(index + turn) % len(workers)].run(task)
    results = {}
    for library in LIBRARIES:
        own = [worker for worker in workers if worker.library == library]
        results[library] = {task: _best(own, task) for task in TASKS}
        results[library]["facts"] = own[0].server.facts
    for library, task in itertools.product(LIBRARIES, TASKS):
        result, own = results[library][task], results["tfflowdn"][task]
        result["ratio"] = result["milliseconds"] / own["milliseconds"]
    for worker in workers:
        worker.server.close()
    return results


def _best(workers, task):
    """Returns the result of the fastest variant of a library."""
    worker = min(workers, key=lambda worker: worker.median(task))
    times = [1000 * seconds for seconds in worker.times[task]]
    return {
        "milliseconds": worker.median(task),
        "fastest_milliseconds": min(times),
        "slowest_milliseconds": max(times),
        "variant": worker.variant,
    }


def _check_parameters(workers):
    counts = {w.library: w.server.facts["num_parameters"] for w in workers}
    print("parameters:", counts)
    for library, count in counts.items():
        difference = abs(count / counts["tfflowdn"] - 1)
        assert difference < 0.06, f"{library} is another flow: {counts}"


def _print_table(name, results):
    """Prints medians in ms and, in parentheses, their ratio to the time of tfflowdn."""
    rows = []
    for library, result in results.items():
        cells = (
            f"{result[task]['milliseconds']:.1f} ({result[task]['ratio']:.2f})"
            for task in TASKS
        )
        rows.append([library, *cells])
    harness.print_table([f"{name}, ms", *TASKS], rows)


def _main():
    record = harness.load(FLAGS.output)
    for name in FLAGS.sizes:
        results = _measure(name)
        _print_table(name, results)
        record[name] = {"size": SIZES[name], "threads": FLAGS.threads} | results
        if FLAGS.output:
            harness.save(record, FLAGS.output)


if __name__ == "__main__":
    flags.DEFINE_string(
        "torch_python", None, "Interpreter of the peers.", required=True
    )
    flags.DEFINE_list("sizes", list(SIZES), f"Sizes, from {tuple(SIZES)}.")
    flags.DEFINE_list(
        "variants",
        ["contiguous_format", "channels_last"],
        'How the peers run; "compiled" (torch.compile) needs a C++ compiler.',
    )
    flags.DEFINE_string("prior_json", "{}", "JSON: further arguments of FlowPrior.")
    flags.DEFINE_bool("jit_compile", False, "Compile the gradient of tfflowdn by XLA.")
    flags.DEFINE_integer("threads", 2, "Threads of every library.")
    flags.DEFINE_integer("rounds", 5, "Turns of every library.")
    flags.DEFINE_integer("runs", 3, "Timed runs of a task in a turn.")
    flags.DEFINE_float("max_disturbance", 0.1, "Most CPUs that others may use.")
    flags.DEFINE_integer("patience", 60, "Seconds to wait until others pause.")
    flags.DEFINE_integer("attempts", 10, "Most attempts at an undisturbed turn.")
    flags.DEFINE_bool("verbose", False, "Show the output of the workers.")
    flags.DEFINE_string("output", None, "JSON file to add the results to.")
    harness.run(_main)
