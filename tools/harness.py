"""Parts that the tools share: flags, timed turns, fresh processes, tables and records.

It imports only absl and the standard library, because workers of other libraries use it
in environments without tfflowdn.
"""

from __future__ import annotations

import importlib
import itertools
import json
import logging
import os
import platform
import runpy
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from absl import app, flags
from absl import logging as absl_logging

__all__ = [
    "RESULTS",
    "ROOT",
    "Server",
    "config",
    "fresh",
    "lazy",
    "load",
    "machine",
    "markdown",
    "medians",
    "peak_mib",
    "print_table",
    "ratio",
    "run",
    "save",
    "seconds",
    "serve",
    "step_seconds",
    "turns",
    "write_text",
]

FLAGS = flags.FLAGS
ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "tools/results"
Task = Callable[[], object]


class _LazyModule:
    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


def lazy(name: str) -> Any:
    """Returns a module that is imported when it is first used.

    `--help` then needs neither TensorFlow nor an optional library.
    """
    return _LazyModule(name)


def run(main: Callable[[], None], worker: Callable[..., Any] | None = None) -> None:
    """Parses the flags and calls `main`.

    `--help` prints the docstring of the tool and its flags, and exits with code 0.

    Args:
      main: The work of the tool.
      worker: The work of the processes that `fresh` starts; it returns JSON types.
    """
    flags.DEFINE_string("worker", None, "Settings of a process that `fresh` starts.")

    def start(argv: Sequence[str]) -> None:
        if argv[1:]:
            raise app.UsageError(f"Arguments must be flags. Received: {argv[1:]}.")
        handler = absl_logging.get_absl_handler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        if worker is None or FLAGS.worker is None:
            main()
        else:
            print("\n" + json.dumps(worker(**json.loads(FLAGS.worker))), flush=True)

    app.run(start, flags_parser=_parse)


def _parse(argv: Sequence[str]) -> list[str]:
    if {"--help", "-h", "-help"} & set(argv):
        print(sys.modules["__main__"].__doc__, FLAGS.main_module_help(), sep="\n")
        sys.exit(0)
    return app.parse_flags_with_usage(argv)


def fresh(**settings: Any) -> Any:
    """Returns the result of the tool's worker in a new process with the same flags."""
    command = [sys.executable, *sys.argv, f"--worker={json.dumps(settings)}"]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(output.stdout.splitlines()[-1])


def config(name: str, variant: str = "") -> Any:
    """Returns the configuration `configs/NAME.py`, of a variant or of its default."""
    path = ROOT / "configs" / f"{name}.py"
    return runpy.run_path(str(path))["get_config"](*filter(None, [variant]))


# Times.


def seconds(task: Task) -> float:
    """Returns the duration of a call."""
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def turns(
    tasks: Mapping[str, Task], rounds: int, clock: Callable[[Any], float] = seconds
) -> dict[str, list[float]]:
    """Runs the tasks in turns, so that the load of the machine cancels in ratios.

    Args:
      tasks: The tasks by name; each should have run once before.
      rounds: Number of turns.
      clock: Runs a task and returns its duration.

    Returns:
      The durations by name, one for each round.
    """
    times = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            times[name].append(clock(task))
    return times


def medians(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Returns the median duration by name."""
    return {name: statistics.median(values) for name, values in times.items()}


def ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """Returns the median of the ratios of durations of the same turn."""
    return statistics.median(a / b for a, b in zip(times, others, strict=True))


def step_seconds(model: Any, *batch: Any, **options: Any) -> list[float]:
    """Returns the time from each step to the next one in `model.fit(*batch)`."""
    import keras

    ends = []

    def record(batch, logs):
        del batch, logs
        ends.append(time.perf_counter())

    timer = keras.callbacks.LambdaCallback(on_train_batch_end=record)
    model.fit(*batch, verbose=0, callbacks=[timer], **options)
    return [end - start for start, end in itertools.pairwise(ends)]


def peak_mib(task: Task) -> float:
    """Returns how far a call raises this process's peak memory, in MiB (Linux only)."""
    Path("/proc/self/clear_refs").write_text("5")  # Resets the peak.
    before = _status_mib("VmRSS")
    task()
    return _status_mib("VmHWM") - before


def _status_mib(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


# Processes that run tasks on request.


def serve(start: Callable[[], tuple[dict[str, Task], dict[str, Any]]]) -> None:
    """Answers the requests of a `Server` on standard input until it is closed.

    Everything else that this process prints goes to standard error.

    Args:
      start: Returns the tasks by name, and facts as JSON types. A task must end when
        its result is there.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    begin = time.perf_counter()
    tasks, facts = start()
    for task in tasks.values():
        task()
    facts = {**facts, "start_seconds": time.perf_counter() - begin}
    print(json.dumps({**facts, "tasks": list(tasks)}), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        task = tasks[request["task"]]
        times = [seconds(task) for _ in range(request["count"])]
        print(json.dumps(times), file=answers)


class Server:
    """A process that runs `serve`.

    Attributes:
      facts: The facts of `serve`, with `tasks` (the names) and `start_seconds`.
      pid: Number of the process.

    Args:
      command: The program and its arguments.
      verbose: Whether its standard error is shown.
    """

    def __init__(self, command: Sequence[str], verbose: bool = True):
        self._command = command
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if verbose else subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": _python_path()},
            text=True,
        )
        self.pid = self._process.pid
        self.facts = self._answer()

    def times(self, task: str, count: int) -> list[float]:
        """Returns the durations of `count` calls of a task, in seconds."""
        request = json.dumps({"task": task, "count": count})
        print(request, file=self._process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()

    def _answer(self) -> Any:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"The worker must answer. Received: command={self._command}."
            )
        return json.loads(line)


def _python_path() -> str:
    others = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join(filter(None, [str(ROOT / "tools"), others]))


# Tables and records.


def markdown(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Returns a Markdown table; floats have three digits, None is an empty cell."""
    rule = ["---", *["--:"] * (len(header) - 1)]
    lines = [header, rule, *([_cell(value) for value in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def print_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Prints a Markdown table."""
    print(markdown(header, rows), flush=True)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return "" if value is None else str(value)


def machine() -> dict[str, Any]:
    """Returns facts about this machine and its libraries."""
    facts = {"cores": len(os.sched_getaffinity(0)), "python": platform.python_version()}
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text().splitlines() if cpu_info.exists() else []
    names = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    facts["cpu"] = next(names, platform.machine())
    for library in ("tensorflow", "keras", "torch"):
        try:
            facts[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return facts


def load(path: str | Path | None) -> dict[str, Any]:
    """Returns the record in a JSON file, empty if there is no such file."""
    return json.loads(Path(path).read_text()) if path and Path(path).exists() else {}


def save(record: Mapping[str, Any], path: str | Path | None) -> None:
    """Writes a record and the facts of the machine to a JSON file; prints without."""
    text = json.dumps({**record, "machine": machine()}, indent=1) + "\n"
    if path:
        write_text(path, text)
    else:
        print(text, end="")


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file, whole or not at all, and its folder if there is none."""
    from tfflowdn import files

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, lambda temporary: temporary.write_text(text))
