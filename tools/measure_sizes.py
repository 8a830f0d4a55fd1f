"""Compares the quality and the speed of denoisers of several sizes.

    python tools/measure_sizes.py --pictures PICTURES --runs RUNS

PICTURES come from tools/prepare_protocol.py. Each size takes `--num_steps` steps of the
start (generic noise on the clean pictures) and is scored on the validation pictures at
sigma 25. Then all denoise a picture of a megapixel in turns, and the median of their
times is reported. `--output` gets the JSON file and, next to it, the curve as PNG. A
size that is in RUNS is not trained again.
"""

from __future__ import annotations

from pathlib import Path

import harness
import numpy as np
from absl import flags, logging

devices = harness.lazy("tfflowdn.devices")
evaluate = harness.lazy("tfflowdn.scripts.evaluate")
files = harness.lazy("tfflowdn.files")
inference = harness.lazy("tfflowdn.inference")
plots = harness.lazy("matplotlib.figure")
stages = harness.lazy("tfflowdn.stages")

FLAGS = flags.FLAGS
SIZES = ((3, 32), (4, 48), (5, 64), (6, 96))  # Blocks, channels.
SIDE = 1024


def _train(num_blocks, hidden_channels):
    """Returns the path of a trained denoiser."""
    config = harness.config("denoiser_resnet", "start")
    config.clean.spec = str(Path(FLAGS.pictures, "clean"))
    config.network.num_blocks = num_blocks
    config.network.hidden_channels = hidden_channels
    config.network.precision = devices.faster_precision() or "float32"
    config.start.training.num_steps = FLAGS.num_steps
    config.start.training.steps_per_epoch = FLAGS.num_steps // 2
    workdir = Path(FLAGS.runs, f"{num_blocks}x{hidden_channels}")
    logging.info("Training %s", workdir.name)
    return str(stages.train_denoiser(config, str(workdir)))


def _psnr(path):
    pictures = Path(FLAGS.pictures)
    noisy = str(pictures / "gaussian/validation_noisy")
    return evaluate.evaluate(noisy, str(pictures / "validation_clean"), path)["mean"][
        "psnr"
    ]


def _megapixels_per_second(paths):
    """Returns the speed of each denoiser, by the median of runs in turns."""
    picture = np.random.default_rng(0).random((SIDE, SIDE, 1), np.float32)
    denoisers = {path: inference.Denoiser.from_pretrained(path) for path in paths}
    tasks = {path: lambda d=d: d(picture) for path, d in denoisers.items()}
    harness.turns(tasks, 1)
    medians = harness.medians(harness.turns(tasks, FLAGS.repeats))
    return [SIDE**2 / 1e6 / seconds for seconds in medians.values()]


def _plot(rows, path):
    figure = plots.Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    speeds = [row["megapixels_per_second"] for row in rows.values()]
    psnrs = [row["psnr"] for row in rows.values()]
    axes.plot(speeds, psnrs, marker="o")
    for name, x, y in zip(rows, speeds, psnrs, strict=True):
        axes.annotate(name, (x, y), xytext=(6, 2), textcoords="offset points")
    axes.set(xscale="log", xlabel="megapixels per second", ylabel="PSNR, dB")
    axes.set_xticks(speeds, [f"{speed:.1f}" for speed in speeds])
    axes.minorticks_off()
    axes.margins(0.2)
    figure.savefig(path, format="png", dpi=120)


def _main():
    paths = [_train(*size) for size in SIZES]
    speeds = _megapixels_per_second(paths)
    rows = {
        f"{blocks} x {channels}": {
            "psnr": round(_psnr(path), 4),
            "megapixels_per_second": round(speed, 3),
            "weights": inference.load_denoiser(path).count_params(),
        }
        for (blocks, channels), path, speed in zip(SIZES, paths, speeds, strict=True)
    }
    harness.save({"num_steps": FLAGS.num_steps, "sizes": rows}, FLAGS.output)
    if FLAGS.output:
        picture = Path(FLAGS.output).with_suffix(".png")
        files.replace(picture, lambda path: _plot(rows, path))


if __name__ == "__main__":
    flags.DEFINE_string("pictures", None, "Folder of the pictures.", required=True)
    flags.DEFINE_string("runs", None, "Folder of the trainings.", required=True)
    flags.DEFINE_integer("num_steps", 1000, "Steps of each size, an even number.")
    flags.DEFINE_integer("repeats", 9, "Turns.")
    flags.DEFINE_string("output", None, "JSON file to write.")
    harness.run(_main)
