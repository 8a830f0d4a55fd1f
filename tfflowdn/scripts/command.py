"""Shared parts of the commands: flags, help, messages and exit codes.

A command's module imports TensorFlow only when its work begins, so that `--help` and
bad flags are answered at once.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import app, flags

import tfflowdn
from tfflowdn.scripts.command_line import own_flags, parse, require
from tfflowdn.scripts.configuration import UsageError
from tfflowdn.scripts.console import import_tensorflow, publish, speak_plainly
from tfflowdn.scripts.shared_flags import (
    define_channels_flag,
    define_denoiser_flags,
    define_pixel_flags,
    define_stack_flags,
    define_strategy_flag,
    define_training_flags,
    denoiser_options,
    make_deterministic,
)

__all__ = [
    "EXIT_RESUME",
    "EXIT_USAGE",
    "define_channels_flag",
    "define_denoiser_flags",
    "define_pixel_flags",
    "define_stack_flags",
    "define_strategy_flag",
    "define_training_flags",
    "denoiser_options",
    "make_deterministic",
    "publish",
    "require",
    "run",
    "sigterm_flag",
]

EXIT_RESUME = 128 + signal.SIGTERM
"""Code of a training that continues when the same command is given again.

A shell reports the same code for any process that SIGTERM has ended.
"""

EXIT_USAGE = 2
"""Code of a command line that is not valid."""


def sigterm_flag() -> Callable[[], bool]:
    """Returns whether SIGTERM was received, as a function.

    The default handler, which ends the process, is replaced.
    """
    came = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: came.set())
    return came.is_set


def run(
    main: Callable[[Sequence[str]], None],
    *,
    arguments: str = "",
    needs_tensorflow: bool = True,
) -> None:
    """Runs `main(argv)` with the parsed flags.

    `--help` shows the docstring of `main`'s module and the command's own flags. A bad
    command line ends with one line and code `EXIT_USAGE`. A bad input ends with one
    line and code 1, or with a traceback if `--traceback` is given. A training that was
    asked to stop, or whose other workers are gone, ends with `EXIT_RESUME`.

    Args:
      main: The work; it gets the name of the program and the arguments.
      arguments: The name of the positional argument: "NAME" for exactly one, "NAME..."
        for at least one, "" for none.
      needs_tensorflow: Whether to import TensorFlow first, without its messages.
    """
    flags.DEFINE_bool("traceback", False, "Show where in the code an error occurred.")
    module = sys.modules[main.__module__]
    own = own_flags()

    def parsed(argv):
        try:
            return parse(argv, own, module.__doc__, arguments)
        except UsageError as error:
            print(f"{error}\nSee {_name()} --help.", file=sys.stderr)
            sys.exit(EXIT_USAGE)

    def guarded(argv):
        speak_plainly()
        try:
            if needs_tensorflow:
                import_tensorflow()
            main(argv)
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)
        except Exception as error:
            code = _exit_code(error)
            if code is None or flags.FLAGS.traceback:
                raise
            print(_one_line(error), file=sys.stderr)
            sys.exit(code)

    app.run(guarded, flags_parser=parsed)


def _exit_code(error: Exception) -> int | None:
    """Returns the code of an error that gets one line; None for any other."""
    if isinstance(error, UsageError):
        return EXIT_USAGE
    known = (ValueError, ArithmeticError, OSError, ImportError, MemoryError)
    if isinstance(error, known):
        return 1
    from ml_collections import config_dict

    if isinstance(error, config_dict.RequiredValueError):
        return 1
    if "tensorflow" not in sys.modules:
        return None
    import tensorflow as tf

    resumable = (tfflowdn.training.PreemptionError, tf.errors.UnavailableError)
    if isinstance(error, resumable):
        return EXIT_RESUME
    return 1 if isinstance(error, tf.errors.OpError) else None


def _one_line(error: Exception) -> str:
    line = f"{type(error).__name__}: {error}"
    # Our own checks name the received value; any other error may be a bug.
    is_own = "Received:" in line or not isinstance(error, ValueError | ArithmeticError)
    return line if is_own else f"{line}\nGive --traceback to see where it occurred."


def _name() -> str:
    return Path(sys.argv[0]).stem
