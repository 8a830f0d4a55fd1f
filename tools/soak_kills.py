"""Kills both trainings repeatedly and compares their results.

    python tools/soak_kills.py --kills 10 --output tools/results/soak_kills.json

trains a tiny prior and a tiny denoiser (its start and its objective) on waves, once
undisturbed and once killed by SIGKILL `--kills` times each. A kill comes after a random
number of steps and a random part of a step, so that some kills interrupt the writing of
a checkpoint. After each kill the checkpoint must be complete. In the end weights,
histories and the best prior must equal the results of the undisturbed runs; otherwise
the exit code is 1. A kill takes about 10 seconds.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import harness
import numpy as np
from absl import flags

checkpoint = harness.lazy("tfflowdn.training.checkpoint")
data = harness.lazy("tfflowdn.data")
keras = harness.lazy("keras")
models = harness.lazy("tfflowdn.models")
stages = harness.lazy("tfflowdn.stages")

FLAGS = flags.FLAGS
STAGES = ("prior", "denoiser")
TOLERANCE = 1e-5
STEPS_PER_EPOCH = 25


def _write_pictures(folder):
    rng = np.random.default_rng(0)
    rows, columns = np.meshgrid(np.arange(20), np.arange(24), indexing="ij")
    for pool, noise in (("clean", 0), ("held_out", 0), ("noisy", 0.1)):
        (folder / pool).mkdir()
        for index in range(5):
            picture = 0.5 + 0.4 * np.sin(rows / rng.uniform(2, 5) + columns / 4)
            picture = picture + noise * rng.standard_normal(picture.shape)
            path = folder / pool / f"{index}.tif"
            data.write_image(path, np.float32(picture[..., np.newaxis]))


def _config(name, num_steps, seconds):
    config = harness.config(name, "smoke")
    parts = [config] if name == "prior_glow" else [config.start, config.objective]
    for part in parts:
        part.training.num_steps = num_steps
        part.training.steps_per_epoch = STEPS_PER_EPOCH
        part.training.warmup_steps = STEPS_PER_EPOCH
        part.training.ema_momentum = 0.9
        part.training.checkpoint_seconds = seconds
    return config


class _Kill:
    """Kills this process after some steps and a delay; it is called after each step."""

    def __init__(self, steps, delay):
        self._steps = steps
        self._delay = delay

    def __call__(self):
        self._steps -= 1
        if self._steps == 0:
            kill = (os.getpid(), signal.SIGKILL)
            threading.Timer(self._delay, os.kill, kill).start()
        return False


def train(
    stage: str,
    folder: Path,
    workdir: Path,
    num_steps: int,
    seconds: float = 60.0,
    stop: Callable[[], bool] | None = None,
) -> None:
    """Trains a stage, or continues its training."""
    if stage == "prior":
        config = _config("prior_glow", num_steps, seconds)
        config.clean.spec = str(folder / "clean")
        config.validation.spec = str(folder / "held_out")
        stages.train_prior(config, workdir, num_shards=2, stop=stop)
        return
    # Its two stages together take as many steps as the prior.
    config = _config("denoiser_resnet", num_steps // 2, seconds)
    config.prior = str(folder / "untrained.keras")
    config.clean.spec, config.noisy.spec = str(folder / "clean"), str(folder / "noisy")
    stages.train_denoiser(config, workdir, num_shards=2, stop=stop)


def _checkpoints(workdir):
    return sorted(workdir.rglob("checkpoint.npz"))


def _kill_once(context, rng, arguments, most_steps):
    """Runs a training and kills it; returns its step, or None if it ended before."""
    kill = _Kill(rng.randint(1, most_steps), rng.uniform(0, 0.03))
    seconds = rng.choice([0.0, 0.0, 0.1])  # All steps saved, or not all.
    process = context.Process(target=train, args=(*arguments, seconds, kill))
    process.start()
    process.join()
    if process.exitcode == 0:
        return None
    if process.exitcode != -signal.SIGKILL:
        raise RuntimeError(f"The training failed with code {process.exitcode}.")
    workdir = arguments[2]
    return sum(_whole_step(path) for path in _checkpoints(workdir))


def _whole_step(path):
    """Returns the step of a checkpoint; all its arrays must be readable and finite."""
    with np.load(path) as file:
        if not all(np.isfinite(file[n]).all() for n in file.files if n != "state"):
            raise RuntimeError(f"{path} is not finite.")
    return checkpoint.Checkpoint(path).state()["step"]


def _difference(one, other):
    return max(
        float(np.abs(a - b).max(initial=0)) for a, b in zip(one, other, strict=True)
    )


def _weights(path):
    return keras.models.load_model(path, compile=False).get_weights()


def _history(workdir):
    """Returns all numbers of all histories of a work directory."""
    numbers = []
    for path in sorted(workdir.rglob("history.csv")):
        with path.open(newline="") as file:
            rows = [[float(v) for v in row.values()] for row in csv.DictReader(file)]
        numbers.append(np.array(rows))
    return numbers


def _soak(context, rng, stage, folder, num_kills, num_steps):
    whole, killed = folder / stage, folder / f"{stage}_killed"
    train(stage, folder, whole, num_steps)
    arguments, steps = (stage, folder, killed, num_steps), []
    while len(steps) < num_kills:
        step = _kill_once(context, rng, arguments, num_steps // num_kills)
        if step is None:
            break
        steps.append(step)
        print(
            f"{stage}: kill {len(steps)} with a checkpoint of step {step}", flush=True
        )
    train(*arguments)
    last = "best.keras" if stage == "prior" else "denoiser.keras"
    checkpoints = [_checkpoints(workdir) for workdir in (whole, killed)]
    variables = [
        [array for path in paths for array in _arrays(path)] for paths in checkpoints
    ]
    result = {
        "kills": len(steps),
        "steps_of_checkpoints": steps,
        "num_steps": num_steps,
        "variables_difference": _difference(*variables),
        "model_difference": _difference(
            _weights(whole / last), _weights(killed / last)
        ),
        "history_difference": _difference(_history(whole), _history(killed)),
    }
    differences = [result[f"{n}_difference"] for n in ("variables", "model", "history")]
    result["same"] = max(differences) < TOLERANCE and len(steps) == num_kills
    return result


def _arrays(path):
    with np.load(path) as file:
        return [file[name] for name in file.files if name != "state"]


def _main():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tfflowdn.stages"])
    rng = random.Random(FLAGS.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_pictures(folder)
        prior = models.FlowPrior(**_config("prior_glow", 0, 0).prior)
        prior.save(folder / "untrained.keras")
        results = {
            stage: _soak(context, rng, stage, folder, FLAGS.kills, FLAGS.num_steps)
            for stage in STAGES
            if stage == FLAGS.only or not FLAGS.only
        }
    harness.save(results, FLAGS.output)
    sys.exit(not all(result["same"] for result in results.values()))


if __name__ == "__main__":
    flags.DEFINE_integer("kills", 10, "Kills of each stage.")
    flags.DEFINE_enum("only", None, STAGES, "Stage to train; both by default.")
    flags.DEFINE_integer("num_steps", 200, "Steps of each stage.")
    flags.DEFINE_integer("seed", 0, "Seed of the times of the kills.")
    flags.DEFINE_string("output", None, "JSON file to write.")
    harness.run(_main)
