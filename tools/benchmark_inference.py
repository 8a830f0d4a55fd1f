"""Measures denoising: speed and memory by size, folders, the self-ensemble's gain.

    python tools/benchmark_inference.py --model DENOISER.keras \
        --noisy NOISY --reference CLEAN

prints Markdown and adds it to the JSON of `--output`. Without a model it takes the
default network with random weights, which costs the same. Each task runs in processes
of its own; `--tasks` names some of them:

- sizes: megapixels a second and peak memory of 8-bit pictures. Memory is the growth of
  the peak over what the process held before, less picture and result.
- tiles: the speed by tiles over that in one piece, in turns.
- folder: the speed of `denoise` on files over that of the network on the same pictures
  in memory, in turns.
- ensemble: PSNR with the self-ensemble less that without it, of NOISY against CLEAN.

Linux only (the peak is read from /proc).
"""

from __future__ import annotations

import contextlib
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import app, flags

from tfflowdn import Denoiser, ResNetDenoiser, data, inference
from tfflowdn.scripts.denoise import denoise_files

FLAGS = flags.FLAGS


def _status_mib(name):
    """Returns a line of this process's memory statistics, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


def _denoiser(max_pixels=None):
    if FLAGS.model:
        return Denoiser.from_pretrained(FLAGS.model, max_pixels=max_pixels)
    return Denoiser(ResNetDenoiser(), max_pixels=max_pixels)


def _seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _ratio(first, second):
    """Returns how many times as long the first one takes: median of pairs in turns."""
    pairs = [(_seconds(first), _seconds(second)) for _ in range(FLAGS.rounds)]
    return statistics.median(a / b for a, b in pairs)


def _measure_size(megapixels):
    side = round(1000 * megapixels**0.5)
    denoiser = _denoiser()
    channels = denoiser.channels
    denoiser(np.zeros((16, 16, channels), np.uint8))
    Path("/proc/self/clear_refs").write_text("5")  # The peak is that from here on.
    before = _status_mib("VmRSS")
    shape = (side, side, channels)
    picture = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    seconds = _seconds(lambda: denoiser(picture))
    arrays = 2 * picture.nbytes / 2**20
    return {
        "megapixels": side**2 / 1e6,
        "megapixels_per_second": side**2 / 1e6 / seconds,
        "peak_mib": _status_mib("VmHWM") - before - arrays,
        "max_pixels": denoiser._affordable_pixels(),
    }


def _measure_tiles(megapixels):
    side = round(1000 * megapixels**0.5)
    by_tiles, in_one_piece = _denoiser(), _denoiser(max_pixels=side**2)
    picture = np.zeros((side, side, by_tiles.channels), np.uint8)
    in_one_piece(picture[:256, :256])
    return {
        "megapixels": side**2 / 1e6,
        "speed_over_one_piece": _ratio(
            lambda: in_one_piece(picture), lambda: by_tiles(picture)
        ),
    }


def _measure_folder(suffix):
    """Returns how fast files are denoised, of noisy waves."""
    denoiser, rng = _denoiser(), np.random.default_rng(0)
    ramp = np.linspace(0, 1, FLAGS.folder_side)
    clean = 0.5 + 0.4 * np.sin(9 * ramp[:, None, None] + 20 * ramp[:, None] ** 2)
    shape = (FLAGS.folder_side, FLAGS.folder_side, denoiser.channels)
    pictures = [
        data.from_float(clean + rng.normal(0, 0.1, shape).astype("f4"), np.uint8)
        for _ in range(FLAGS.folder_count)
    ]

    def denoise_arrays():
        for picture in pictures:
            denoiser(picture)

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in"), Path(folder, "out")
        source.mkdir()
        for index, picture in enumerate(pictures):
            data.write_image(source / f"{index}{suffix}", picture)

        def denoise_folder():
            with contextlib.redirect_stderr(io.StringIO()):
                denoise_files([str(source)], target, denoiser, overwrite=True)

        denoiser(pictures[0])
        ratio = _ratio(denoise_arrays, denoise_folder)
    return {
        "suffix": suffix,
        "pictures": FLAGS.folder_count,
        "side": FLAGS.folder_side,
        "speed_over_network": ratio,
    }


def _measure_ensemble(_):
    denoiser = _denoiser()
    noisy, reference = (
        data.open_source(spec, channels=denoiser.channels)
        for spec in (FLAGS.noisy, FLAGS.reference)
    )
    pairs = list(data.paired_images(noisy, reference).as_numpy_iterator())
    plain, ensemble = (
        inference.summarize(
            inference.score_pairs(
                pairs, lambda picture, on=on: denoiser(picture, self_ensemble=on)
            )
        )["psnr"]
        for on in (False, True)
    )
    return {
        "pictures": len(pairs),
        "psnr": plain,
        "psnr_of_ensemble": ensemble,
        "gain_db": ensemble - plain,
    }


MEASURES = {
    "sizes": _measure_size,
    "tiles": _measure_tiles,
    "folder": _measure_folder,
    "ensemble": _measure_ensemble,
}


def _run(task, subject):
    """Returns what a fresh process measures."""
    passed = ("model", "rounds", "noisy", "reference", "folder_count", "folder_side")
    arguments = [
        f"--{name}={FLAGS[name].value}" for name in passed if FLAGS[name].value
    ]
    command = [sys.executable, __file__, *arguments, f"--worker={task},{subject}"]
    return json.loads(subprocess.check_output(command, text=True).splitlines()[-1])


def _table(rows):
    head = f"| {' | '.join(rows[0])} |\n|{' --: |' * len(rows[0])}"
    cells = (
        [f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()]
        for row in rows
    )
    return "\n".join([head, *(f"| {' | '.join(line)} |" for line in cells)])


def _main(argv):
    del argv
    if FLAGS.worker:
        task, subject = FLAGS.worker.split(",")
        subject = float(subject) if task in ("sizes", "tiles") else subject
        print(json.dumps(MEASURES[task](subject)))
        return
    subjects = {
        "sizes": FLAGS.megapixels,
        "tiles": [FLAGS.compared_megapixels],
        "folder": FLAGS.suffixes,
        "ensemble": ["all"] if FLAGS.noisy else [],
    }
    output = Path(FLAGS.output)
    for task in FLAGS.tasks:
        rows = [_run(task, subject) for subject in subjects[task]]
        if rows:
            print(f"{task}\n\n{_table(rows)}\n", flush=True)
            report = json.loads(output.read_text()) if output.exists() else {}
            output.write_text(json.dumps({**report, task: rows}, indent=1) + "\n")


if __name__ == "__main__":
    flags.DEFINE_string("model", None, "The denoiser, a .keras file.")
    flags.DEFINE_string("output", "tools/results/inference.json", "JSON to write.")
    flags.DEFINE_multi_enum("tasks", list(MEASURES), list(MEASURES), "What to measure.")
    flags.DEFINE_list("megapixels", ["0.25", "1", "4", "16", "100"], "Sizes.")
    flags.DEFINE_float("compared_megapixels", 6, "Size to compare in one piece.")
    flags.DEFINE_list("suffixes", [".png", ".jpg", ".tif"], "Kinds of files.")
    flags.DEFINE_integer("folder_count", 40, "Files of a folder.")
    flags.DEFINE_integer("folder_side", 512, "Their height and width.")
    flags.DEFINE_integer("rounds", 3, "Turns of a comparison.")
    flags.DEFINE_string("noisy", None, "Noisy pictures, for the self-ensemble.")
    flags.DEFINE_string("reference", None, "Their references.")
    flags.DEFINE_string("worker", None, "Task of a worker process (internal).")
    app.run(_main)
