"""Processes that run Python without the seconds of importing TensorFlow.

Each is a fork of one process that has imported TensorFlow and the package and used
neither, which `devices.check_not_forked` allows. Tests of the import itself, or of
messages of TensorFlow, need `subprocess`.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["Fork", "run"]

ROOT = Path(__file__).parent.parent
PRELOAD = ("adapt", "inference", "models", "noise", "serving", "stages", "training")
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tensorflow", *(f"tfflowdn.{n}" for n in PRELOAD)])


def _become(arguments, folder, cwd, environment):
    """Runs in the fork what `python *arguments` would run."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(Path(folder, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    first, *rest = arguments
    if first == "-m":
        sys.argv = list(rest)
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(arguments)
        sys.path.insert(0, str(Path(first).parent))
        runpy.run_path(first, run_name="__main__")


class Fork:
    """A process like `subprocess.Popen([sys.executable, *arguments])`.

    Args:
      arguments: `-m`, a module and its arguments, or a script and its arguments.
      cwd: The current directory of the process.
      env: The environment of the process; this one's by default.
    """

    def __init__(
        self,
        arguments: Sequence[str | os.PathLike],
        cwd: str | os.PathLike = ROOT,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = Path(tempfile.mkdtemp())
        environment = dict(os.environ if env is None else env)
        words = [str(word) for word in arguments]
        values = (words, str(self._folder), str(cwd), environment)
        self._process = CONTEXT.Process(target=_become, args=values)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """The exit code, minus the number of the signal, or None while it runs."""
        return self._process.exitcode

    poll = returncode.fget

    def send_signal(self, number: int) -> None:
        """Sends a signal to the process if it still runs."""
        if self.returncode is None:
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        """Kills the process if it still runs."""
        self.send_signal(signal.SIGKILL)

    def communicate(self) -> tuple[str, str]:
        """Waits for the end; returns the standard output and the standard error.

        It is called once.
        """
        self._process.join()
        paths = [self._folder / name for name in ("stdout", "stderr")]
        texts = tuple(path.read_text() if path.exists() else "" for path in paths)
        shutil.rmtree(self._folder)
        return texts


def run(
    arguments: Sequence[str | os.PathLike], **options: object
) -> subprocess.CompletedProcess[str]:
    """Runs a `Fork` until its end."""
    fork = Fork(arguments, **options)
    stdout, stderr = fork.communicate()
    return subprocess.CompletedProcess(arguments, fork.returncode, stdout, stderr)
