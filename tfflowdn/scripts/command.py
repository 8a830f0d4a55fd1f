"""What the scripts share: flags, and errors as a line instead of a traceback."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import tensorflow as tf
from absl import app, flags
from ml_collections import config_dict, config_flags

from tfflowdn import devices, files, training

__all__ = [
    "EXIT_RESUME",
    "define_denoiser_flags",
    "define_strategy_flag",
    "define_training_flags",
    "denoiser_options",
    "make_deterministic",
    "publish",
    "run",
    "sigterm_flag",
]

EXIT_RESUME = 128 + signal.SIGTERM
"""Code of a training that goes on when the same command is given again.

It is what a shell says of any process that SIGTERM has ended.
"""


def define_training_flags(script: str) -> None:
    """Defines `--config` and `--workdir`, both required, and `--seed`."""
    config_flags.DEFINE_config_file(
        "config", None, "Python file with get_config(), see configs/.", lock_config=True
    )
    flags.DEFINE_string(
        "workdir", None, f"Directory of {script}'s outputs; a killed run resumes in it."
    )
    flags.DEFINE_integer(
        "seed",
        None,
        "Added to every seed of the configuration; with it, operations are "
        "deterministic, and a second run on this machine gives the same bits.",
    )
    flags.mark_flags_as_required(["config", "workdir"])


def define_strategy_flag() -> None:
    """Defines `--strategy`, see `devices.make_strategy`."""
    flags.DEFINE_enum(
        "strategy",
        "auto",
        devices.STRATEGIES,
        "Devices: all GPUs of this machine (mirrored), those of all machines in "
        "TF_CONFIG (multi_worker), or whichever there are several of (auto).",
    )


def make_deterministic(config: config_dict.ConfigDict, seed: int | None) -> None:
    """Adds a seed to every `seed` of `config`, and has operations be deterministic.

    Does nothing for None.
    """
    if seed is None:
        return
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    _add_to_seeds(config, seed)


def sigterm_flag() -> Callable[[], bool]:
    """Returns a function that says whether SIGTERM has come, which now ends nothing."""
    came = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: came.set())
    return came.is_set


def define_denoiser_flags() -> None:
    """Defines the flags that `denoiser_options` reads."""
    flags.DEFINE_float("strength", 1.0, "Part of the correction to apply, 0 to 1.")
    flags.DEFINE_bool(
        "self_ensemble", False, "Average over 8 flips and rotations; 8 times as long."
    )
    flags.DEFINE_bool(
        "luminance_only",
        False,
        "Denoise the luminance of colour pictures alone, and keep their chroma.",
    )
    flags.DEFINE_string(
        "range",
        None,
        "Pixel values that the network takes as 0 and 1: LOW,HIGH, percentiles "
        "LOW%,HIGH% of each picture or stack, or dtype; by default the model's own.",
    )


def denoiser_options(values: flags.FlagValues) -> dict[str, object]:
    """Returns the keyword arguments that the flags of a denoiser stand for."""
    return {
        "strength": values.strength,
        "self_ensemble": values.self_ensemble,
        "luminance_only": values.luminance_only,
        "pixel_range": values.range,
    }


def publish(report: dict, output: str | None) -> None:
    """Prints a report as a table and, with `output`, writes it to a JSON file.

    Args:
      report: `mean`, a dictionary of scores, and `pictures`, one by name.
      output: Path of the file, written whole or not at all.
    """
    print(_table(report))
    if output:
        path = Path(output)
        text = json.dumps(report, indent=2) + "\n"
        files.replace(path, lambda temporary: temporary.write_text(text))


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Runs `main(argv)` under absl; a bad input ends it with a message and code 1.

    A training that was asked to stop, or whose other workers are gone, ends with a
    message and `EXIT_RESUME`.

    `--help` shows the docstring of `main`'s module, however the script was started.
    """
    sys.modules["__main__"].__doc__ = sys.modules[main.__module__].__doc__

    def guarded(argv):
        try:
            main(argv)
        except (ValueError, ArithmeticError, OSError, ImportError) as error:
            sys.exit(f"{type(error).__name__}: {error}")
        except (training.PreemptionError, tf.errors.UnavailableError) as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            sys.exit(EXIT_RESUME)

    app.run(guarded)


def _add_to_seeds(config, seed):
    for name, value in config.items():
        if isinstance(value, config_dict.ConfigDict):
            _add_to_seeds(value, seed)
        elif name == "seed":
            config[name] = value + seed


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
