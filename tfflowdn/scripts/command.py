"""What the scripts share: flags, and errors as a line instead of a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from absl import app, flags
from ml_collections import config_flags

__all__ = ["define_training_flags", "run"]


def define_training_flags(script: str) -> None:
    """Defines `--config` and `--workdir`, both required."""
    config_flags.DEFINE_config_file(
        "config", None, "Python file with get_config(), see configs/.", lock_config=True
    )
    flags.DEFINE_string(
        "workdir", None, f"Directory of {script}'s outputs; a killed run resumes in it."
    )
    flags.mark_flags_as_required(["config", "workdir"])


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Runs `main(argv)` under absl; a bad input ends it with a message and code 1.

    `--help` shows the docstring of `main`'s module, however the script was started.
    """
    sys.modules["__main__"].__doc__ = sys.modules[main.__module__].__doc__

    def guarded(argv):
        try:
            main(argv)
        except (ValueError, ArithmeticError, OSError) as error:
            sys.exit(f"{type(error).__name__}: {error}")

    app.run(guarded)
