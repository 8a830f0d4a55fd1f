"""Text that a command writes for its user: reports and messages."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from absl import logging

import tfflowdn

__all__ = ["import_tensorflow", "publish", "show", "speak_plainly"]


def publish(report: dict, output: str | None) -> None:
    """Prints a report as a table and, with `output`, writes it to a JSON file.

    Args:
      report: `mean`, a dictionary of scores, and `pictures`, one by name. `peak` may
        describe the peak of the PSNR. Numbers that are not finite are null in JSON.
      output: Path of the file. It is written whole or not at all.
    """
    print(_table(report))
    if "peak" in report:
        print(f"The peak of the PSNR is {report['peak']}.")
    if output:
        path = Path(output)
        text = tfflowdn.files.json_text(report)
        tfflowdn.files.replace(path, lambda temporary: temporary.write_text(text))


def _table(report: dict) -> str:
    scores = list(report["mean"])
    rows = [*report["pictures"].items(), ("mean", report["mean"])]
    width = max(len(name) for name, _ in rows)
    columns = [max(10, len(score)) for score in scores]

    def line(name, cells):
        padded = [f"{c:>{w}}" for c, w in zip(cells, columns, strict=True)]
        return " ".join([f"{name:<{width}}", *padded])

    lines = [line(name, [f"{row[s]:.4f}" for s in scores]) for name, row in rows]
    return "\n".join([line("", scores), *lines])


def speak_plainly() -> None:
    """Logs sentences without date, thread and file; warnings are marked."""
    logging.get_absl_handler().setFormatter(_Plain())
    logging.set_verbosity(max(logging.get_verbosity(), logging.INFO))


class _Plain(logging.PythonFormatter):
    """The message of a record, and its level unless it is only information."""

    def format(self, record):
        message = record.getMessage()
        if record.levelname == "INFO":
            return message
        return f"{record.levelname.capitalize()}: {message}"


def import_tensorflow() -> None:
    """Imports TensorFlow without the messages that it writes at its start.

    They are shown if the import fails, or if TF_CPP_MIN_LOG_LEVEL asks for them.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3") != "3":
        import tensorflow  # noqa: F401

        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with _held_stderr():
        import tensorflow  # noqa: F401


@contextlib.contextmanager
def _held_stderr() -> Iterator[None]:
    """Holds back the text on stderr of any code; shows it if there is an exception."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        shown = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            sys.stderr.flush()
            held.seek(0)
            os.write(shown, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(shown, 2)
            os.close(shown)


def show(text: str) -> None:
    """Prints a text, also to a program that reads only a part, such as `head`."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
