"""Kills commands by SIGKILL, and checks for partial files and different results."""

from __future__ import annotations

import os
import random
import signal
import time
from multiprocessing.context import BaseContext
from pathlib import Path

import harness
import numpy as np

__all__ = ["COMMANDS", "kill_command"]

data = harness.lazy("tfflowdn.data")
inference = harness.lazy("tfflowdn.inference")
models = harness.lazy("tfflowdn.models")
stages = harness.lazy("tfflowdn.stages")
tfflowdn = harness.lazy("tfflowdn")

NUM_PICTURES = 30
_MOST_TRIES = 4


def _write_pictures(folder):
    rng = np.random.default_rng(0)
    rows, columns = np.meshgrid(np.arange(20), np.arange(24), indexing="ij")
    for pool, noise, count in (
        ("clean", 0, 4),
        ("held_out", 0, 2),
        ("noisy", 0.1, NUM_PICTURES),
    ):
        (folder / pool).mkdir(parents=True)
        for index in range(count):
            picture = 0.5 + 0.4 * np.sin(rows / rng.uniform(2, 5) + columns / 4)
            picture = picture + noise * rng.standard_normal(picture.shape)
            path = folder / pool / f"{index}.tif"
            data.write_image(path, np.float32(picture[..., np.newaxis]))


def _config(name, folder, num_steps=30):
    config = harness.config(name, "smoke")
    config.clean.spec = str(folder / "clean")
    for part in ("start", "objective"):
        if part in config:
            config[part].training.num_steps = num_steps
            config[part].training.steps_per_epoch = 10
            config[part].training.checkpoint_seconds = 0.0
    if "training" in config:
        config.training.num_steps = num_steps
        config.training.steps_per_epoch = 10
        config.training.checkpoint_seconds = 0.0
    return config


def _denoise(folder, output):
    from tfflowdn.scripts.denoise import denoise_files

    denoiser = tfflowdn.Denoiser.from_pretrained(folder / "denoiser.keras")
    denoise_files(
        [str(folder / "noisy")], str(output), denoiser, skip_existing=output.exists()
    )


def _train_prior(folder, output):
    config = _config("prior_glow", folder)
    config.validation.spec = str(folder / "held_out")
    stages.train_prior(config, output)


def _train_denoiser(folder, output):
    config = _config("denoiser_resnet", folder)
    config.prior = str(folder / "prior.keras")
    config.noisy.spec = str(folder / "noisy")
    stages.train_denoiser(config, output)


def _train_noise(folder, output):
    config = _config("noise", folder)
    config.noisy.spec = str(folder / "noisy")
    config.denoiser = str(folder / "denoiser.keras")
    stages.train_noise(config, output)


def _export_model(folder, output):
    network = inference.load_denoiser(folder / "denoiser.keras")
    tfflowdn.export_model(network, output, "denoiser")


def _adapt(folder, output):
    """Runs `adapt` with few steps, whose number does not depend on the time."""
    from tfflowdn.adapt import plans, prepare
    from tfflowdn.scripts import adapt

    plans.NOISE, plans.MIN_STEPS, plans.MAX_STEPS = "noise:smoke", 8, 8
    plans.NOISE_PICTURES, prepare.CLEAN_SIDE, prepare.NUM_CLEAN = 2, 96, 4
    plans._seconds_per_step = lambda *_: 1.0
    adapt.adapt(
        str(folder / "adapt" / "noisy"),
        str(output / "out"),
        str(output / "run"),
        clean=str(folder / "adapt" / "clean"),
        overrides={"start": str(folder / "denoiser.keras")},
    )


COMMANDS = {
    "denoise": _denoise,
    "export_model": _export_model,
    "train_prior": _train_prior,
    "train_denoiser": _train_denoiser,
    "train_noise": _train_noise,
    "adapt": _adapt,
}


def run_command(name: str, folder: Path, output: Path) -> None:
    """Runs a command in this process; it continues the run in `output`."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    COMMANDS[name](folder, output)


def _write_large_pictures(folder):
    """Writes pictures that are large enough for estimates of their noise."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 1, 96)[:, None, None] * np.ones((1, 96, 1))
    for index in range(4):
        (folder / "noisy").mkdir(parents=True, exist_ok=True)
        (folder / "clean").mkdir(exist_ok=True)
        counts = np.uint16(rng.poisson(50 + 400 * ramp))
        data.write_image(folder / "noisy" / f"{index}.tif", counts)
        clean = np.uint16(ramp * 900 + index)
        data.write_image(folder / "clean" / f"{index}.tif", clean)


def prepare(folder: Path) -> None:
    """Writes the pictures and the models that the commands read."""
    _write_pictures(folder)
    _write_large_pictures(folder / "adapt")
    models.ResNetDenoiser(num_blocks=1, hidden_channels=4).save(
        folder / "denoiser.keras"
    )
    config = harness.config("prior_glow", "smoke")
    models.FlowPrior(**config.prior).save(folder / "prior.keras")


def kill_command(
    context: BaseContext, name: str, folder: Path, num_kills: int, seed: int = 0
) -> dict:
    """Kills a command at random times, lets it end, and compares the results.

    Args:
      context: Starts the processes.
      name: A key of `COMMANDS`.
      folder: The folder of `prepare`.
      num_kills: Number of kills; after each the same command is given again.
      seed: Seed of the times.
    """
    rng = random.Random(f"{name}{seed}")
    whole, killed = folder / f"{name}_whole", folder / f"{name}_killed"
    totals = {"kills": 0, "partial": 0, "wrong": 0, "tracebacks": 0, "leftovers": 0}
    start = time.monotonic()
    totals["tracebacks"] += _run(context, name, folder, whole) != 0
    duration = time.monotonic() - start
    for _ in range(_MOST_TRIES * num_kills):  # Some end before they are killed.
        if totals["kills"] == num_kills:
            break
        start = time.monotonic()
        code = _run(context, name, folder, killed, rng.uniform(0.2, 0.9) * duration)
        if code == 0:
            duration = min(duration, time.monotonic() - start)
        totals["kills"] += code == -signal.SIGKILL
        totals["tracebacks"] += code not in (0, -signal.SIGKILL)
        totals["partial"] += _num_partial(killed)
        if code == 0 and name == "denoise":  # Begin anew, for further kills.
            for path in killed.rglob("*.tif"):
                path.unlink()
    totals["tracebacks"] += _run(context, name, folder, killed) != 0
    totals["leftovers"] = len(list(killed.rglob(".tmp.*")))
    totals["wrong"] += not _is_same(name, whole, killed)
    return totals


def _run(context, name, folder, output, delay=None):
    """Returns the exit code of a command that is killed after some seconds."""
    process = context.Process(target=run_command, args=(name, folder, output))
    process.start()
    process.join(delay)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode


def _num_partial(output):
    """Returns the number of visible files that cannot be read."""
    num_partial = 0
    for path in output.rglob("*"):
        is_hidden = any(p.startswith(".") for p in path.relative_to(output).parts)
        if is_hidden or not path.is_file():
            continue
        try:
            if path.suffix in (".tif", ".png"):
                data.read_image(path)
            elif path.suffix == ".keras":
                inference.load_keras_file(path)
            elif path.suffix == ".npz":
                with np.load(path) as file:
                    for array in file.files:
                        file[array]
            elif path.name == "saved_model.pb":
                inference.load_denoiser(path.parent)
        except Exception:
            num_partial += 1
    return num_partial


def _is_same(name, whole, killed):
    if name == "export_model":
        versions = sorted((killed / "denoiser").glob("[0-9]*"))
        return all(
            inference.load_denoiser(version).channels == 1 for version in versions
        )
    kinds = {"denoise": ("*.tif",), "adapt": ("*.tif", "*.keras")}
    ours, others = (
        {
            path.relative_to(root)
            for kind in kinds.get(name, ("*.keras",))
            for path in root.rglob(kind)
        }
        for root in (whole, killed)
    )
    return ours == others and all(
        _same_file(whole / path, killed / path) for path in ours
    )


def _same_file(one, other):
    if one.suffix == ".tif":
        before, after = (data.read_image(path) for path in (one, other))
        return np.allclose(before, after, atol=1e-3 if before.dtype == "f4" else 1)
    weights = (inference.load_keras_file(path).get_weights() for path in (one, other))
    return all(np.allclose(a, b, atol=1e-5) for a, b in zip(*weights, strict=True))
