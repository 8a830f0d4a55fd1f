"""The side of a worker of tools/benchmark_flows.py: runs a task when asked to."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

__all__ = ["TASKS", "serve"]

TASKS = ("gradient", "forward", "sample")


def serve(start: Callable[[], tuple[dict[str, Callable[[], object]], dict]]) -> None:
    """Answers requests on stdin until it is closed.

    Writes one line of JSON for the facts about the flow, with the seconds until every
    task had run once, and one for each request `{"task": name, "count": n}`: a list
    of n durations in seconds. Whatever else is printed goes to stderr.

    Args:
      start: Returns the tasks, functions of `TASKS` that end when their result is
        there, and the facts.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    begin = time.perf_counter()
    tasks, facts = start()
    for name in TASKS:
        tasks[name]()
    seconds = time.perf_counter() - begin
    print(json.dumps({**facts, "start_seconds": seconds}), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        times = [_seconds(tasks[request["task"]]) for _ in range(request["count"])]
        print(json.dumps(times), file=answers)


def _seconds(task):
    begin = time.perf_counter()
    task()
    return time.perf_counter() - begin
