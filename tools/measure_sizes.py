"""Trains denoisers of several sizes alike, and times them: quality against speed.

    python tools/measure_sizes.py --pictures PICTURES --runs RUNS

PICTURES are those of tools/prepare_protocol.py. Each size takes `--num_steps` steps of
the start (generic noise on the clean pool) and is scored on the validation pictures at
sigma 25; then all denoise a picture of a megapixel in turns, and the median of their
times counts. `--output` gets the JSON and, beside it, the curve as PNG. A size that was
trained is not trained again.
"""

from __future__ import annotations

import json
import runpy
import statistics
import time
from pathlib import Path

import numpy as np
from absl import app, flags, logging
from matplotlib.figure import Figure

from tfflowdn import devices, files, inference
from tfflowdn.scripts.evaluate import evaluate
from tfflowdn.stages import train_denoiser

FLAGS = flags.FLAGS
TOOLS = Path(__file__).resolve().parent
CONFIG = TOOLS.parent / "configs/denoiser_resnet.py"
SIZES = ((3, 32), (4, 48), (5, 64), (6, 96))  # Blocks, channels.
SIDE = 1024


def _train(num_blocks, hidden_channels):
    """Returns the path of a denoiser of a size."""
    config = runpy.run_path(str(CONFIG))["get_config"]("start")
    config.clean.spec = str(Path(FLAGS.pictures, "clean"))
    config.network.num_blocks = num_blocks
    config.network.hidden_channels = hidden_channels
    config.network.precision = devices.faster_precision() or "float32"
    config.start.training.num_steps = FLAGS.num_steps
    config.start.training.steps_per_epoch = FLAGS.num_steps // 2
    workdir = Path(FLAGS.runs, f"{num_blocks}x{hidden_channels}")
    logging.info("Training %s", workdir.name)
    return str(train_denoiser(config, str(workdir)))


def _psnr(path):
    pictures = Path(FLAGS.pictures)
    noisy = str(pictures / "gaussian/validation_noisy")
    return evaluate(noisy, str(pictures / "validation_clean"), path)["mean"]["psnr"]


def _megapixels_per_second(paths):
    """Returns the speed of each denoiser, by the median of runs in turns."""
    picture = np.random.default_rng(0).random((SIDE, SIDE, 1), np.float32)
    denoisers = [inference.Denoiser.from_pretrained(path) for path in paths]
    seconds = [[] for _ in denoisers]
    for denoiser in denoisers:
        denoiser(picture)
    for _ in range(FLAGS.repeats):
        for denoiser, times in zip(denoisers, seconds, strict=True):
            start = time.perf_counter()
            denoiser(picture)
            times.append(time.perf_counter() - start)
    return [SIDE**2 / 1e6 / statistics.median(times) for times in seconds]


def _plot(rows, path):
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    speeds = [row["megapixels_per_second"] for row in rows.values()]
    psnrs = [row["psnr"] for row in rows.values()]
    axes.plot(speeds, psnrs, marker="o")
    for name, x, y in zip(rows, speeds, psnrs, strict=True):
        axes.annotate(name, (x, y), xytext=(6, 2), textcoords="offset points")
    axes.set(xscale="log", xlabel="megapixels a second", ylabel="PSNR, dB")
    axes.set_xticks(speeds, [f"{speed:.1f}" for speed in speeds])
    axes.minorticks_off()
    axes.margins(0.2)
    figure.savefig(path, format="png", dpi=120)


def _main(argv):
    del argv
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
    report = {"num_steps": FLAGS.num_steps, "sizes": rows}
    text = json.dumps(report, indent=2) + "\n"
    output = Path(FLAGS.output)
    files.replace(output, lambda path: path.write_text(text))
    files.replace(output.with_suffix(".png"), lambda path: _plot(rows, path))
    print(text)


if __name__ == "__main__":
    flags.DEFINE_string("pictures", None, "Folder of the pictures.", required=True)
    flags.DEFINE_string("runs", None, "Folder of the trainings.", required=True)
    flags.DEFINE_integer("num_steps", 1000, "Steps of each size, an even number.")
    flags.DEFINE_integer("repeats", 9, "Runs in turns.")
    flags.DEFINE_string("output", str(TOOLS / "results/sizes.json"), "JSON to write.")
    app.run(_main)
