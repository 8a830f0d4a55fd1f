"""What the scripts share: flags, and errors as a line instead of a traceback."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf
from absl import app, flags
from ml_collections import config_flags

__all__ = [
    "define_training_flags",
    "faster_precision",
    "publish",
    "run",
    "share_cores",
]


def define_training_flags(script: str) -> None:
    """Defines `--config` and `--workdir`, both required."""
    config_flags.DEFINE_config_file(
        "config", None, "Python file with get_config(), see configs/.", lock_config=True
    )
    flags.DEFINE_string(
        "workdir", None, f"Directory of {script}'s outputs; a killed run resumes in it."
    )
    flags.mark_flags_as_required(["config", "workdir"])


def publish(report: dict, output: str | None) -> None:
    """Prints a report as a table and, with `output`, writes it to a JSON file.

    Args:
      report: `mean`, a dictionary of scores, and `pictures`, one by name.
      output: Path of the file, written whole or not at all.
    """
    print(_table(report))
    if output:
        path = Path(output)
        temporary = path.with_name(f".tmp.{path.name}")
        temporary.write_text(json.dumps(report, indent=2) + "\n")
        os.replace(temporary, path)


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Runs `main(argv)` under absl; a bad input ends it with a message and code 1.

    `--help` shows the docstring of `main`'s module, however the script was started.
    """
    sys.modules["__main__"].__doc__ = sys.modules[main.__module__].__doc__

    def guarded(argv):
        try:
            main(argv)
        except (ValueError, ArithmeticError, OSError, ImportError) as error:
            sys.exit(f"{type(error).__name__}: {error}")

    app.run(guarded)


def share_cores() -> int:
    """Gives each core its part of a batch, where there is no GPU.

    Returns:
      The number of parts: that of the cores, each with one thread an operation; 1
      with a GPU.
    """
    if tf.config.list_physical_devices("GPU"):
        return 1
    tf.config.threading.set_intra_op_parallelism_threads(1)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def faster_precision() -> str | None:
    """Returns "mixed_bfloat16" if this device trains convolutions faster in it.

    Few processors have bfloat16, and the others take many times as long to imitate it.
    """
    seconds = {
        dtype: _seconds_of_convolution(dtype) for dtype in ("float32", "bfloat16")
    }
    return "mixed_bfloat16" if seconds["bfloat16"] < seconds["float32"] else None


def _seconds_of_convolution(dtype):
    """Returns the least time of a 3x3 convolution and its gradient, of ten."""

    @tf.function
    def gradient(images, kernel):
        with tf.GradientTape() as tape:
            tape.watch([images, kernel])
            result = tf.nn.conv2d(images, kernel, 1, "SAME")
        return tape.gradient(result, [images, kernel])

    def seconds():
        start = time.perf_counter()
        gradient(images, kernel)[1].numpy()
        return time.perf_counter() - start

    images, kernel = tf.ones((16, 32, 32, 64), dtype), tf.ones((3, 3, 64, 64), dtype)
    gradient(images, kernel)
    return min(seconds() for _ in range(10))


def _table(report):
    scores = list(report["mean"])
    rows = [*report["pictures"].items(), ("mean", report["mean"])]
    width = max(len(name) for name, _ in rows)
    columns = [max(10, len(score)) for score in scores]

    def line(name, cells):
        padded = [f"{c:>{w}}" for c, w in zip(cells, columns, strict=True)]
        return " ".join([f"{name:<{width}}", *padded])

    lines = [line(name, [f"{row[s]:.4f}" for s in scores]) for name, row in rows]
    return "\n".join([line("", scores), *lines])
