"""Repeats a trial with damaged files, kills, hostile requests and hostile answers.

    python tools/soak_hostile.py --output tools/results/soak_hostile.json

tries many inputs of strangers and failures of machines:

- `pictures`: mutated files of every format that is read, and bombs, in batches of
  `denoise`. Each file is written whole or named, and the others are denoised.
- `models`: mutated `.keras` files; each is loaded or refused by a ValueError.
- `kills`: SIGKILL at random times of denoise, export_model and the trainings. No file
  is partial, and in the end the results equal the results of undisturbed runs.
- `requests`: threads ask a served model; a third of the requests is hostile.
- `answers`: the client of a server most of whose answers are wrong.

The exit code is 1 if there was a traceback, a partial or lost file, a wrong answer, or
memory that grows. The kills run next to the other parts. A run takes half an hour on
two cores.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import harness
import numpy as np
import psutil
from absl import flags

FLAGS = flags.FLAGS
PARTS = ("pictures", "models", "requests", "answers", "kills")
FAULTS = ("tracebacks", "partial", "lost", "wrong", "failed", "leftovers", "unbounded")
_GROWTH, _SLACK_MIB = 1.1, 128  # Of the last quarter, relative to the second one.


def _pictures(folder):
    from hostile import files

    return files.damaged_pictures(folder, FLAGS.files, FLAGS.seed)


def _models(folder):
    from hostile import files

    return files.damaged_models(folder, FLAGS.models, FLAGS.seed)


def _requests(folder):
    from hostile import server

    return server.hostile_requests(folder, 60 * FLAGS.minutes, FLAGS.threads)


def _answers(folder):
    from hostile import server

    return server.hostile_server(folder, FLAGS.files, FLAGS.seed)


def _kills(folder):
    from hostile import kills

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["hostile.kills", "tensorflow", "keras"])
    kills.prepare(folder)
    names = FLAGS.commands or list(kills.COMMANDS)
    return {
        name: kills.kill_command(context, name, folder, share, FLAGS.seed)
        for name, share in zip(names, _shares(FLAGS.kills, len(names)), strict=True)
    }


def _shares(total, count):
    return [total // count + (index < total % count) for index in range(count)]


def _faults(report):
    """Returns the number of faults in a report with reports in it."""
    inner = sum(_faults(value) for value in report.values() if isinstance(value, dict))
    return inner + sum(int(report.get(name, 0)) for name in FAULTS)


class _Memory(threading.Thread):
    """Measures the memory of this process."""

    def __init__(self):
        super().__init__(daemon=True)
        self._end, self._samples = threading.Event(), []

    def run(self):
        while not self._end.wait(0.5):
            self._samples.append(psutil.Process().memory_info().rss / 2**20)

    def report(self):
        """Ends the measurement and returns its results."""
        self._end.set()
        self.join()
        if len(self._samples) < 8:
            return {}
        parts = np.array_split(self._samples, 4)
        quarters = [round(float(np.median(part))) for part in parts]
        is_unbounded = quarters[3] > _GROWTH * quarters[1] + _SLACK_MIB
        return {
            "memory_mib_by_quarter": quarters,
            "peak_mib": round(max(self._samples)),
            "unbounded": int(is_unbounded),
        }


def _run(name):
    """Returns the report of a part."""
    tasks = dict(zip(PARTS, (_pictures, _models, _requests, _answers, _kills)))  # noqa: B905
    with tempfile.TemporaryDirectory() as folder:
        start, memory = time.monotonic(), _Memory()
        memory.start()
        report = tasks[name](Path(folder) / name) | memory.report()
        report["seconds_in_all"] = round(time.monotonic() - start)
    print(f"{name}: {report}", flush=True)
    return report


def _start_kills(path):
    """Starts the part `kills` as another process, next to the other parts."""
    names = [f"--commands={name}" for name in FLAGS.commands or ()]
    options = [f"--kills={FLAGS.kills}", f"--seed={FLAGS.seed}", f"--output={path}"]
    command = [sys.executable, __file__, "--parts=kills", *options, *names]
    return subprocess.Popen(command)


def _main():
    parts, report = FLAGS.parts or PARTS, {}
    with tempfile.TemporaryDirectory() as folder:
        record, process = Path(folder) / "kills.json", None
        if "kills" in parts and len(parts) > 1:
            process = _start_kills(record)
        for name in parts:
            if name == "kills" and process is not None:
                process.wait()
                report[name] = harness.load(record).get("kills", {"failed": 1})
            else:
                report[name] = _run(name)
            report["faults"] = _faults({n: report[n] for n in parts if n in report})
            harness.save(report, FLAGS.output)
    sys.exit(report["faults"] > 0)


if __name__ == "__main__":
    flags.DEFINE_integer("files", 1000, "Mutated pictures, and files for the client.")
    flags.DEFINE_integer("models", 300, "Mutated models.")
    flags.DEFINE_integer("kills", 30, "Kills of all commands together.")
    flags.DEFINE_multi_string("commands", None, "Commands to kill; by default all.")
    flags.DEFINE_float("minutes", 10.0, "Duration of the requests.")
    flags.DEFINE_integer("threads", 16, "Threads that send requests.")
    flags.DEFINE_integer("seed", 0, "Seed of the mutations and of the times of kills.")
    flags.DEFINE_multi_enum("parts", None, PARTS, "Parts to run; by default all.")
    flags.DEFINE_string("output", None, "JSON file to write.")
    harness.run(_main)
