"""Measures denoising: speed and memory by size, folders, gain of the self-ensemble.

    python tools/benchmark_inference.py --model DENOISER.keras \
        --noisy NOISY --reference CLEAN

prints tables and adds them to the JSON file of `--output`. Without a model it takes the
default network with random weights, which has the same cost. Each measurement runs in
its own processes; `--tasks` picks some of them:

- sizes: megapixels per second and peak memory of 8-bit pictures. The memory is the
  growth of the peak without the picture and its result.
- tiles: the speed by tiles over the speed in one piece, in turns.
- folder: the speed of `denoise` on files over the speed of the network on the same
  pictures in memory, in turns.
- ensemble: the gain in PSNR by the self-ensemble, for NOISY against CLEAN.

Linux only (the peak is read from /proc).
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path

import harness
import numpy as np
from absl import flags

data = harness.lazy("tfflowdn.data")
denoise = harness.lazy("tfflowdn.scripts.denoise")
inference = harness.lazy("tfflowdn.inference")
tfflowdn = harness.lazy("tfflowdn")

FLAGS = flags.FLAGS


def _denoiser(max_pixels=None):
    if FLAGS.model:
        return tfflowdn.Denoiser.from_pretrained(FLAGS.model, max_pixels=max_pixels)
    return tfflowdn.Denoiser(tfflowdn.ResNetDenoiser(), max_pixels=max_pixels)


def _ratio(task, other):
    """Returns how many times as long a task takes as another one."""
    times = harness.turns({"task": task, "other": other}, FLAGS.rounds)
    return harness.ratio(times["task"], times["other"])


def _measure_size(megapixels):
    megapixels = float(megapixels)
    side = round(1000 * megapixels**0.5)
    denoiser = _denoiser()
    channels = denoiser.channels
    denoiser(np.zeros((16, 16, channels), np.uint8))
    shape = (side, side, channels)
    picture = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    seconds = []
    peak = harness.peak_mib(
        lambda: seconds.append(harness.seconds(lambda: denoiser(picture)))
    )
    return {
        "megapixels": side**2 / 1e6,
        "megapixels_per_second": side**2 / 1e6 / seconds[0],
        "peak_mib": peak - picture.nbytes / 2**20,  # Without the result.
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
    """Returns the speed on files of noisy waves over the speed in memory."""
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
                denoise.denoise_files([str(source)], target, denoiser, overwrite=True)

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


def _main():
    subjects = {
        "sizes": FLAGS.megapixels,
        "tiles": [FLAGS.compared_megapixels],
        "folder": FLAGS.suffixes,
        "ensemble": ["all"] if FLAGS.noisy else [],
    }
    record = harness.load(FLAGS.output)
    for task in FLAGS.tasks:
        rows = [harness.fresh(task=task, subject=s) for s in subjects[task]]
        if rows:
            print(f"{task}\n")
            harness.print_table([*rows[0]], [row.values() for row in rows])
            record[task] = rows
            if FLAGS.output:
                harness.save(record, FLAGS.output)


if __name__ == "__main__":
    flags.DEFINE_string("model", None, "Denoiser, a .keras file.")
    flags.DEFINE_string("output", None, "JSON file to add the figures to.")
    flags.DEFINE_multi_enum("tasks", list(MEASURES), list(MEASURES), "Measurements.")
    flags.DEFINE_list("megapixels", ["0.25", "1", "4", "16", "100"], "Sizes.")
    flags.DEFINE_float("compared_megapixels", 6, "Size to compare in one piece.")
    flags.DEFINE_list("suffixes", [".png", ".jpg", ".tif"], "Formats of the files.")
    flags.DEFINE_integer("folder_count", 40, "Number of files in the folder.")
    flags.DEFINE_integer("folder_side", 512, "Their height and width.")
    flags.DEFINE_integer("rounds", 3, "Turns of a comparison.")
    flags.DEFINE_string("noisy", None, "Noisy pictures, for the self-ensemble.")
    flags.DEFINE_string("reference", None, "Their references.")
    harness.run(_main, lambda task, subject: MEASURES[task](subject))
