"""Runs `adapt` as a user does, and scores its denoiser on pictures with references.

    python tools/measure_adapt.py --data DATA --runs RUNS --task w2s \
        --output tools/results/adapt/w2s.json

The tasks, each of which begins with the noisy pictures of `adapt`:

    w2s           real microscopy (DATA/w2s), with its unrelated clean averages
    w2s_alone     the same without `--clean`
    camera        the JPEG files of PolyU's Canon 600D, with BSDS as clean pictures
    camera_alone  the same without `--clean`
    correlated    BSDS with the correlated noise of the protocol, and unrelated clean
                  pictures of BSDS; RUNS/pictures is made by tools/prepare_protocol.py

References are read after the training only. A run that was killed continues. Each set
is a test set: choose on other pictures.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import harness
import measure_general
import numpy as np
from absl import flags

inference = harness.lazy("tfflowdn.inference")

FLAGS = flags.FLAGS


class Task(NamedTuple):
    """The folders that `adapt` gets, and the pairs (noisy, reference) of the test."""

    noisy: Path
    clean: Path | None
    pairs: Iterator[tuple[np.ndarray, np.ndarray]]


def w2s(data: Path, runs: Path) -> Task:
    """Returns the task of real microscopy."""
    del runs
    folder = data / "w2s"
    pairs = measure_general.microscope_pairs(folder)
    return Task(folder / "noisy", folder / "clean", pairs)


def camera(data: Path, runs: Path) -> Task:
    """Returns the task of a camera; adapt sees the noisy files of the test camera."""
    noisy = runs / "camera_noisy"
    noisy.mkdir(parents=True, exist_ok=True)
    for path in (data / "polyu").glob(f"{measure_general.TEST_CAMERA}*_real.JPG"):
        (noisy / path.name).write_bytes(path.read_bytes())
    pairs = measure_general.camera_pairs(data / "polyu")
    return Task(noisy, data / "bsds400_color", pairs)


def correlated(data: Path, runs: Path) -> Task:
    """Returns the task of the protocol's correlated noise."""
    pictures = runs / "pictures"
    if not (pictures / "clean").is_dir():
        script = harness.ROOT / "tools/prepare_protocol.py"
        arguments = [f"--data={data}", f"--output={pictures}", "--parts=gray"]
        subprocess.run([sys.executable, script, *arguments], check=True)
    pairs = measure_general.synthetic_pairs(data / "bsd68", "correlated")
    return Task(pictures / "correlated/noisy", pictures / "clean", pairs)


TASKS = {
    "w2s": w2s,
    "w2s_alone": lambda *folders: w2s(*folders)._replace(clean=None),
    "camera": camera,
    "camera_alone": lambda *folders: camera(*folders)._replace(clean=None),
    "correlated": correlated,
}
"""The tasks by name: functions of --data and --runs."""


def adapt(task: Task, folder: Path, minutes: float) -> dict[str, Any]:
    """Runs the command, and returns the record of its run.

    Raises:
      RuntimeError: If the command fails.
    """
    began = time.monotonic()
    command = [sys.executable, "-m", "tfflowdn.scripts.adapt", str(task.noisy)]
    command += [f"--output={folder / 'denoised'}", f"--workdir={folder / 'run'}"]
    command += [f"--minutes={minutes:g}", "--overwrite"]
    if task.clean is not None:
        command.append(f"--clean={task.clean}")
    code = subprocess.run(command, check=False).returncode
    if code not in (0, 3):  # 3: the starting model was better.
        raise RuntimeError(f"adapt must end with code 0 or 3. Received: {code}.")
    record = json.loads((folder / "run/config.json").read_text("utf-8"))
    minutes_taken = (time.monotonic() - began) / 60
    return {**record, "exit_code": code, "minutes_taken": minutes_taken}


def score(task: Task, models: dict[str, str]) -> dict[str, dict[str, float]]:
    """Returns the mean PSNR and SSIM of each model, and of the noisy pictures."""
    pairs, scores = list(task.pairs), {}
    for name, model in models.items():
        denoiser = inference.Denoiser.from_pretrained(model)
        rows = inference.score_pairs(pairs, lambda one, by=denoiser: by(one))
        for key, prefix in ((name, ""), ("noisy", "noisy_")):
            scores[key] = {
                kind: float(np.mean([row[f"{prefix}{kind}"] for row in rows]))
                for kind in ("psnr", "ssim")
            }
    return scores


def _main() -> None:
    task = TASKS[FLAGS.task](Path(FLAGS.data), Path(FLAGS.runs))
    folder = Path(FLAGS.runs, FLAGS.task)
    record = adapt(task, folder, FLAGS.minutes)
    start = record["decisions"]["start"]
    scores = score(
        task, {"start": start, "adapted": str(folder / "run/denoiser.keras")}
    )
    harness.print_table(
        ("", "psnr", "ssim"),
        [(name, row["psnr"], row["ssim"]) for name, row in scores.items()],
    )
    kept = ("decisions", "comparison", "exit_code", "minutes_taken")
    result = {name: record[name] for name in kept if name in record}
    result = {"task": FLAGS.task, "minutes": FLAGS.minutes, "scores": scores, **result}
    harness.save(result, FLAGS.output)


if __name__ == "__main__":
    flags.DEFINE_string("data", None, "Folder of the data.", required=True)
    flags.DEFINE_string("runs", None, "Folder of the runs.", required=True)
    flags.DEFINE_enum("task", None, list(TASKS), "Pictures and noise.", required=True)
    flags.DEFINE_float("minutes", 15.0, "Time that adapt gets, in minutes.", 0.1)
    flags.DEFINE_string("output", None, "JSON file to write; none by default.")
    harness.run(_main)
