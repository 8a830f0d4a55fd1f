"""Measures denoising by size: megapixels a second and peak memory.

    python tools/benchmark_inference.py --model DENOISER.keras

prints a Markdown table and adds it to `--output`. Without a model it takes the default
network with random weights, which costs the same. Each size runs in a process of its
own. Memory is the growth of the peak over what the process held before, picture and
result included, less these two arrays. "in one piece" is the speed without tiles over
that with them, in turns. Linux only (the peak is read from /proc).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from absl import app, flags

from tfflowdn import Denoiser, ResNetDenoiser

FLAGS = flags.FLAGS


def _status_mib(name):
    """Returns a line of this process's memory statistics, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


def _denoiser(max_pixels=None):
    if FLAGS.model:
        return Denoiser.from_pretrained(FLAGS.model, max_pixels=max_pixels)
    return Denoiser(ResNetDenoiser(), max_pixels=max_pixels)


def _measure(height, width):
    """Returns the figures of a picture of 8-bit pixels."""
    denoiser = _denoiser()
    channels = denoiser.channels
    denoiser(np.zeros((16, 16, channels), np.uint8))
    Path("/proc/self/clear_refs").write_text("5")  # The peak is that from here on.
    before = _status_mib("VmRSS")
    picture = np.random.default_rng(0).integers(
        256, size=(height, width, channels), dtype=np.uint8
    )
    start = time.perf_counter()
    result = denoiser(picture)
    seconds = time.perf_counter() - start
    arrays = (picture.nbytes + result.nbytes) / 2**20
    return {
        "megapixels": height * width / 1e6,
        "megapixels_per_second": height * width / 1e6 / seconds,
        "peak_mib": _status_mib("VmHWM") - before - arrays,
        "max_pixels": denoiser._affordable_pixels(),
    }


def _compare(height, width):
    """Returns how much faster a picture is in one piece than by tiles."""
    picture = np.zeros((height, width, _denoiser().channels), np.uint8)
    seconds = {}
    for _ in range(FLAGS.rounds):
        for name, max_pixels in (("tiles", None), ("piece", height * width)):
            denoiser = _denoiser(max_pixels)
            start = time.perf_counter()
            denoiser(picture)
            seconds.setdefault(name, []).append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {"in_one_piece": medians["tiles"] / medians["piece"]}


def _run(task, size):
    """Returns what a fresh process measures."""
    arguments = [
        f"--{name}={value}"
        for name, value in FLAGS.flag_values_dict().items()
        if name in ("model", "rounds") and value is not None
    ]
    command = [sys.executable, __file__, *arguments, f"--worker={task},{size},{size}"]
    return json.loads(subprocess.check_output(command, text=True).splitlines()[-1])


def _main(argv):
    del argv
    if FLAGS.worker:
        task, *size = FLAGS.worker.split(",")
        print(
            json.dumps({"size": _measure, "compare": _compare}[task](*map(int, size)))
        )
        return
    sides = [round(1000 * float(megapixels) ** 0.5) for megapixels in FLAGS.megapixels]
    results = [_run("size", side) for side in sides]
    compared = _run("compare", round(1000 * FLAGS.compared_megapixels**0.5))
    print("| megapixels | megapixels/s | peak memory |\n| --: | --: | --: |")
    for result in results:
        size, speed = result["megapixels"], result["megapixels_per_second"]
        print(f"| {size:.1f} | {speed:.2f} | {result['peak_mib']:.0f} MiB |")
    print(
        f"in one piece over by tiles, {FLAGS.compared_megapixels} megapixels: "
        f"{compared['in_one_piece']:.2f}"
    )
    report = {"sizes": results, **compared}
    Path(FLAGS.output).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    flags.DEFINE_string("model", None, "The denoiser, a .keras file.")
    flags.DEFINE_string("output", "tools/results/inference.json", "JSON to write.")
    flags.DEFINE_list("megapixels", ["0.25", "1", "4", "16", "100"], "Sizes.")
    flags.DEFINE_float("compared_megapixels", 6, "Size to compare in one piece.")
    flags.DEFINE_integer("rounds", 3, "Turns of the comparison.")
    flags.DEFINE_string("worker", None, "Task of a worker process (internal).")
    app.run(_main)
