"""Compares every method on every noise of the protocol: one table and one JSON file.

    python tools/compare.py --pictures PICTURES --runs RUNS --output compare.json

PICTURES come from tools/prepare_protocol.py. A method first trains the models that RUNS
does not have yet. `--tests` and `--methods` choose cells of the table; by default all
are measured, which takes days. `--num_pictures 12` measures the first twelve pictures
of each test only, for slow methods.

RUNS/cells keeps the scores of each picture, and the denoised pictures as 8-bit PNG. The
same command continues after a kill, and takes more pictures when it is asked for more.
The JSON file holds all cells that RUNS has, and cells of `--reuse`, the results of
tools/measure_quality.py, where RUNS has none. `--table` also writes it as Markdown.

The table names the knowledge that a method gets. BM3D needs the package bm3d, whose
license permits research only; wavelets need PyWavelets. Times are of this machine,
which may do other work as well.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import compare_methods
import harness
import measure_quality
import numpy as np
import prepare_protocol
from absl import flags, logging

data = harness.lazy("tfflowdn.data")
devices = harness.lazy("tfflowdn.devices")
inference = harness.lazy("tfflowdn.inference")

FLAGS = flags.FLAGS
METHODS = compare_methods.METHODS
FIRST = 12  # Slow methods are compared on the first pictures of a test.
Pairs = Iterator[tuple[str, np.ndarray, np.ndarray]]
GRAY = (*prepare_protocol.SYNTHETIC, "microscope")
COLOR = (*prepare_protocol.SYNTHETIC, "paper", "real")


def tests() -> dict[str, tuple[str, str, str]]:
    """Returns (color, noise, folder of the noisy pictures) of every test by name."""
    found = {}
    for color, noises in (("gray", GRAY), ("color", COLOR)):
        for noise in noises:
            for folder in prepare_protocol.test_sigmas(noise):
                sigma = folder.removeprefix("test")
                found[f"{color}/{noise}{sigma}"] = (color, noise, folder)
    return found


class Test:
    """A test set and its trainings.

    Args:
      name: A key of `tests()`.
      pictures: Folder of the pictures.
      runs: Folder of trainings and cells.
      precision: Precision of the trainings.
      num_steps: Steps of each training; None for the steps of its configuration.
    """

    def __init__(
        self,
        name: str,
        pictures: str | Path,
        runs: str | Path,
        precision: str = "float32",
        num_steps: int | None = None,
    ):
        self.name = name
        color, self.noise, self._folder = tests()[name]
        self.runs = Path(runs) / color
        root = Path(pictures)
        if color == "color" and self.noise != "real":
            root = root / "color"
        self.protocol = measure_quality.Protocol(
            root,
            self.runs,
            self.noise,
            precision,
            prior=f"prior_{'gray' if color == 'gray' else 'rgb'}",
            num_steps=num_steps,
        )

    def pairs(self, count: int | None = None) -> Pairs:
        """Yields (name, noisy, clean) of the first pictures, float32 [H, W, C].

        Raises:
          ValueError: If the noisy and the clean pictures have different names.
        """
        folder = self.protocol.folder / self._folder
        noisy, clean = (
            sorted(path.iterdir()) for path in (folder, self.protocol.test_clean)
        )
        for one, other in list(zip(noisy, clean, strict=True))[:count]:
            if one.stem != other.stem:
                raise ValueError(
                    "Noisy and clean pictures must have the same names. "
                    f"Received: {one.name} and {other.name}."
                )
            yield one.stem, *(data.to_float(data.read_image(p)) for p in (one, other))


def measure(test: Test, method: str, count: int | None) -> dict[str, Any]:
    """Measures the pictures of a cell that are not measured yet.

    Args:
      test: The test.
      method: A key of `METHODS`.
      count: The number of pictures; None for all.

    Returns:
      The cell, see `cell`.
    """
    folder = test.runs / "cells" / test.name.split("/")[1] / method
    path = folder / "pictures.json"
    rows = harness.load(path).get("pictures", {})
    denoise = None
    for name, noisy, clean in test.pairs(count):
        if name in rows:
            continue
        if denoise is None:
            task = compare_methods.Task(test.protocol, lambda: _two(test), folder)
            denoise = METHODS[method].make(task)
        begin, cpu = time.perf_counter(), time.process_time()
        denoised = denoise(noisy, float(np.std(noisy - clean)))
        seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
        denoised = np.float32(denoised).reshape(noisy.shape)
        (row,) = inference.score_pairs([(denoised, clean)])
        rows[name] = {
            "psnr": round(row["noisy_psnr"], 4),
            "ssim": round(row["noisy_ssim"], 5),
            "seconds": round(seconds, 3),
            "cpu_seconds": round(cpu, 3),
            "megapixels": noisy.shape[0] * noisy.shape[1] / 1e6,
        }
        harness.save({"pictures": rows}, path)
        pixels = data.from_float(np.clip(denoised, 0, 1), np.uint8)
        data.write_image(folder / f"{name}.png", pixels)
    minutes = compare_methods.training_minutes(METHODS[method], test.runs, test.noise)
    harness.save({"pictures": rows, "training_minutes": minutes}, path)
    return cell(test.name, method, harness.load(path))


def _two(test: Test) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return ((noisy, clean) for _, noisy, clean in test.pairs())


def cell(test: str, method: str, record: dict[str, Any]) -> dict[str, Any]:
    """Returns a cell of the table.

    Args:
      test: Name of the test.
      method: Name of the method.
      record: `pictures`, the scores by name, and `training_minutes`.
    """
    rows = list(record["pictures"].values())
    first = [row["psnr"] for row in rows[:FIRST]]  # In the order of their names.
    totals = {key: sum(row[key] for row in rows) for key in rows[0]}
    return {
        "test": test,
        "method": method,
        "told": METHODS[method].told,
        "num_pictures": len(rows),
        "psnr": round(totals["psnr"] / len(rows), 3),
        "ssim": round(totals["ssim"] / len(rows), 4),
        "psnr_of_first": round(float(np.mean(first)), 3),
        "seconds_per_megapixel": round(totals["seconds"] / totals["megapixels"], 2),
        "cpu_seconds_per_megapixel": round(
            totals["cpu_seconds"] / totals["megapixels"], 2
        ),
        "training_minutes": record.get("training_minutes"),
    }


def collect(runs: Path, reuse: Path | None) -> list[dict[str, Any]]:
    """Returns all cells that were measured, and the cells of earlier results.

    Args:
      runs: The folder of the trainings and cells.
      reuse: Folder of the results of tools/measure_quality.py, or None.
    """
    cells = []
    for name, (color, noise, folder) in tests().items():
        for method in METHODS:
            part = f"{color}/cells/{name.split('/')[1]}/{method}/pictures.json"
            record = harness.load(runs / part)
            if record.get("pictures"):
                cells.append(cell(name, method, record))
            elif reuse and (color == "gray") == (noise != "real"):
                cells += _reused(name, method, noise, folder, reuse)
    return cells


def _reused(
    test: str, method: str, noise: str, folder: str, reuse: Path
) -> list[dict[str, Any]]:
    file = METHODS[method].file
    scores = harness.load(reuse / f"{noise}_{file}.json").get("scores", {})
    if file is None or folder not in scores:
        return []
    return [
        {
            "test": test,
            "method": method,
            "told": METHODS[method].told,
            "num_pictures": None,
            "psnr": round(scores[folder]["psnr"], 3),
            "ssim": round(scores[folder]["ssim"], 4),
            "source": f"{noise}_{file}.json of tools/measure_quality.py",
        }
    ]


def table(cells: list[dict[str, Any]]) -> str:
    """Returns the cells as a Markdown table: PSNR / SSIM, methods by tests."""
    found = {(one["test"], one["method"]): one for one in cells}
    columns = [name for name in tests() if any(test == name for test, _ in found)]
    lines = []
    for method, entry in METHODS.items():
        row = [_text(found.get((test, method))) for test in columns]
        if any(row):
            lines.append([entry.title, entry.told, *row])
    return harness.markdown(["", "told", *columns], lines)


def _text(one: dict[str, Any] | None) -> str:
    if one is None:
        return ""
    return f"{one['psnr']:.2f} / {one['ssim']:.3f}"


def _main() -> None:
    precision = FLAGS.precision or devices.faster_precision() or "float32"
    for name in FLAGS.tests or tests():
        test = Test(name, FLAGS.pictures, FLAGS.runs, precision, FLAGS.num_steps)
        for method in FLAGS.methods or METHODS:
            if method == "pairs" and name == "gray/microscope":
                continue  # Its noisy pool has no references.
            logging.info("%s, %s", name, method)
            logging.info("%s", measure(test, method, FLAGS.num_pictures))
    cells = collect(Path(FLAGS.runs), FLAGS.reuse and Path(FLAGS.reuse))
    titles = {name: method.title for name, method in METHODS.items()}
    harness.save({"cells": cells, "titles": titles}, FLAGS.output)
    print(table(cells))
    if FLAGS.table:
        harness.write_text(FLAGS.table, table(cells))


if __name__ == "__main__":
    flags.DEFINE_string("pictures", None, "Folder of the pictures.", required=True)
    flags.DEFINE_string("runs", None, "Folder of trainings and cells.", required=True)
    flags.DEFINE_multi_enum("tests", None, tuple(tests()), "Tests; may be repeated.")
    flags.DEFINE_multi_enum(
        "methods", None, tuple(METHODS), "Methods; may be repeated."
    )
    flags.DEFINE_integer("num_pictures", None, "Number of pictures of a test.", 1)
    flags.DEFINE_string("precision", None, "Precision of trainings; default: faster.")
    flags.DEFINE_integer("num_steps", None, "Steps of each training, for a trial.", 1)
    flags.DEFINE_string(
        "reuse", str(harness.RESULTS / "quality"), "Folder of earlier scores."
    )
    flags.DEFINE_string("output", None, "JSON file to write.")
    flags.DEFINE_string("table", None, "Markdown file to write.")
    harness.run(_main)
