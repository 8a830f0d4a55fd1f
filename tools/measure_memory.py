"""Measures the memory of training and denoising on a stack larger than the memory.

    python tools/measure_memory.py --megabytes 4096 --output MEMORY.json

writes a sparse `.npy` stack, reads batches of crops and single pages from it, and
prints the peak of the resident memory after each step, which must not grow with the
stack.
"""

from __future__ import annotations

import importlib
import resource
import tempfile
from pathlib import Path

import harness
import numpy as np
from absl import flags

data = harness.lazy("tfflowdn.data")
inference = harness.lazy("tfflowdn.inference")
models = harness.lazy("tfflowdn.models")

FLAGS = flags.FLAGS
SIDE = 1024


def measure(path: Path, megabytes: int, num_batches: int = 30) -> dict[str, int]:
    """Returns the peak memory in MB after each step.

    Args:
      path: The stack to write.
      megabytes: Its size.
      num_batches: Batches of 16 crops to read.
    """
    shape = (megabytes * 2**20 // (2 * SIDE**2), SIDE, SIDE)
    np.lib.format.open_memmap(path, "w+", np.uint16, shape).flush()
    # However much memory is free.
    importlib.import_module("tfflowdn.data.picture_pool").is_large = lambda _: True
    source = data.open_source(str(path), channels=1, axes="ZYX", pixel_range="0,4095")
    peaks = {"stack": megabytes, "opened": _peak()}
    crops = data.RandomCrops(source, crop_size=64, batch_size=16)
    for _ in crops().take(num_batches):
        pass
    peaks["trained"] = _peak()
    denoiser = inference.Denoiser(
        models.ResNetDenoiser(num_blocks=1, hidden_channels=4)
    )
    for index in range(0, len(source), max(1, len(source) // 4)):
        denoiser(source.stored(index), pixel_range="0,4095")
    peaks["denoised"] = _peak()
    return peaks


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _main():
    with tempfile.TemporaryDirectory() as folder:
        peaks = measure(Path(folder, "stack.npy"), FLAGS.megabytes)
    harness.save(peaks, FLAGS.output)


if __name__ == "__main__":
    flags.DEFINE_integer("megabytes", 4096, "Size of the stack.")
    flags.DEFINE_string("output", None, "JSON file to write.")
    harness.run(_main)
