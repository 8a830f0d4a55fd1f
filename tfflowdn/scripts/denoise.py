"""Denoises files.

    denoise INPUT... [--model DENOISER.keras] --output DIR

Each INPUT is a PNG, JPEG, WebP, TIFF or .npy file or a folder of them, whose tree DIR
mirrors. The outputs keep name, format, dtype, alpha, colour profile, resolution and
EXIF. TIFF stacks are denoised page by page, large pictures by tiles, with the same
result. Pixel values are scaled as in the model's training, or by --range, and back. A
file that cannot be denoised is named at the end, with code 1, and does not stop the
others.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tqdm
from absl import flags, logging

from tfflowdn import data, inference
from tfflowdn.scripts import command

__all__ = ["denoise_files", "main"]

FLAGS = flags.FLAGS
ARRAY_SUFFIX = ".npy"
SUFFIXES = (*data.IMAGE_SUFFIXES, ARRAY_SUFFIX)
NUM_THREADS, NUM_AHEAD, NUM_BEHIND = 4, 4, 4
MAX_WAITING_BYTES = 2**28
FAILURES = (ValueError, OSError, MemoryError)


class _Job(NamedTuple):
    """A file that is being read or written: pixels and metadata, or their number."""

    source: Path
    target: Path
    num_bytes: int
    future: Future


def denoise_files(
    inputs: list[str],
    output: str,
    model: str | inference.Denoiser = inference.GENERAL,
    *,
    overwrite: bool = False,
    skip_existing: bool = False,
    max_pixels: int | None = None,
    axes: str | None = None,
    pixel_range: str | None = None,
    **options,
) -> list[Path]:
    """Denoises files and the files of folders; reads and writes others meanwhile.

    Args:
      inputs: Files and folders.
      output: Folder to write, made if it is absent.
      model: A denoiser, or the name or path of one, see
        `inference.Denoiser.from_pretrained`.
      overwrite: Whether files in `output` may be replaced.
      skip_existing: Whether those that have an output already are left out.
      max_pixels: Pixels to give at once to the network of a path, see
        `inference.Denoiser`.
      axes: The meaning of the axes of .npy files, see there.
      pixel_range: The values that become 0 and 1, see `data.check_range`, by default
        the model's; percentiles are those of a stack's pages together.
      **options: `strength`, `self_ensemble` and `luminance_only`, see there.

    Returns:
      The paths written.

    Raises:
      ValueError: Before any work, for an input without pictures, two inputs of one
        output, an output that exists, or a bad range or option; after it, for files
        that could not be read, denoised or written, while all others were.
    """
    pairs = [pair for path in inputs for pair in _plan(Path(path), Path(output))]
    if skip_existing:
        pairs = [(source, target) for source, target in pairs if not target.exists()]
    _check_outputs([target for _, target in pairs], overwrite)
    denoiser = model
    if not isinstance(model, inference.Denoiser):
        denoiser = inference.Denoiser.from_pretrained(model, max_pixels=max_pixels)
    pixel_range = data.check_range(pixel_range or denoiser.pixel_range)
    denoiser(np.zeros((1, 1), np.uint8), pixel_range="dtype", **options)  # Good ones?
    denoise = functools.partial(
        _denoise,
        denoise=functools.partial(denoiser, **options),
        pixel_range=pixel_range,
        axes=axes,
    )
    written, failures, megapixels = [], [], 0.0
    progress = tqdm.tqdm(total=len(pairs), unit="picture")
    with ThreadPoolExecutor(NUM_THREADS) as pool, progress:
        for job in _in_turn(pool, pairs, denoise):
            try:
                num_pixels = job.future.result()
            except FAILURES as error:
                failures.append(f"{job.source}: {error}")
            else:
                written.append(job.target)
                megapixels += num_pixels / 1e6
            progress.update()
            rate = megapixels / max(progress.format_dict["elapsed"], 1e-3)
            progress.set_postfix({"megapixels/s": f"{rate:.2f}"}, refresh=False)
    if failures:
        shown = "\n".join(failures[:20])
        raise ValueError(
            f"{len(failures)} of {len(pairs)} pictures failed, the others are in "
            f"{output}. Received:\n{shown}"
        )
    return written


def _in_turn(
    pool: ThreadPoolExecutor,
    pairs: Iterable[tuple[Path, Path]],
    denoise: Callable[[_Job], Callable[[], int]],
) -> Iterator[_Job]:
    """Denoises here, while the pool reads the next files and writes the last ones.

    Few files wait, or but one where it takes more than `MAX_WAITING_BYTES`.
    """
    reading, writing = collections.deque(), collections.deque()
    upcoming = ((*pair, _num_bytes(pair[0])) for pair in pairs)
    ahead = next(upcoming, None)
    while ahead or reading:
        while ahead and len(reading) < NUM_AHEAD:
            source, target, num_bytes = ahead
            waiting = sum(job.num_bytes for job in (*reading, *writing)) + num_bytes
            if waiting > MAX_WAITING_BYTES and (reading or writing):
                break
            future = pool.submit(_read, source)
            reading.append(_Job(source, target, num_bytes, future))
            ahead = next(upcoming, None)
        if reading:
            job = reading.popleft()
            writing.append(job._replace(future=_start_writing(pool, job, denoise)))
        if len(writing) > NUM_BEHIND or not reading:
            yield writing.popleft()
    yield from writing


def _start_writing(pool, job, denoise):
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
        return pool.submit(denoise(job))
    except FAILURES as error:
        failed = Future()
        failed.set_exception(error)
        return failed


def _num_bytes(path):
    """Returns the bytes of a picture, 0 for what stays on disk or is broken."""
    try:
        header = data.image_header(path)
    except data.ImageReadError:
        return 0
    return header.height * header.width * header.channels * header.dtype.itemsize


def _read(path):
    """Returns pixels and metadata; None for what is read bit by bit."""
    if path.suffix.lower() == ARRAY_SUFFIX or data.is_stack_or_large(path):
        return None
    return data.read_image(path), data.read_metadata(path)


def _denoise(job, denoise, pixel_range, axes):
    """Returns a function that writes the file and returns its number of pixels."""
    source, target, read = job.source, job.target, job.future.result()
    if read is None:
        if source.suffix.lower() == ARRAY_SUFFIX:
            denoise = functools.partial(denoise, axes=axes, pixel_range=pixel_range)
            map_parts = data.map_array
        else:
            pages = data.read_pages(source, target.parent)
            limits = data.find_limits(pixel_range, pages, data.num_pages(source))
            denoise = functools.partial(denoise, pixel_range=limits or "dtype")
            map_parts = data.map_pages
        num_pixels = map_parts(
            source, target, lambda pixels, out: denoise(pixels, out=out)
        )
        return lambda: num_pixels
    pixels, metadata = read
    if metadata.conversion:
        logging.warning("%s is converted: %s.", source, metadata.conversion)
    result = denoise(pixels, pixel_range=pixel_range)

    def write():
        data.write_image(target, result, metadata)
        return result.shape[0] * result.shape[1]

    return write


def _plan(path, output):
    """Returns the pairs of a file to read and a file to write of one input."""
    if path.is_file():
        return [(path, output / path.name)]
    found = sorted(file for file in path.rglob("*") if _is_input(file, path))
    if not found:
        raise ValueError(
            "An input must be a picture or a folder with pictures "
            f"({', '.join(SUFFIXES)}). Received: {str(path)!r}."
        )
    return [(file, output / file.relative_to(path)) for file in found]


def _is_input(file, root):
    parts = file.relative_to(root).parts
    hidden = any(part.startswith(".") for part in parts)
    return file.suffix.lower() in SUFFIXES and not hidden and file.is_file()


def _check_outputs(targets, overwrite):
    counts = collections.Counter(targets)
    twice = sorted(str(target) for target, count in counts.items() if count > 1)
    if twice:
        raise ValueError(f"Two inputs must not share an output. Received: {twice[:3]}.")
    existing = [str(target) for target in targets if target.exists()]
    if existing and not overwrite:
        raise ValueError(
            "Outputs must not exist, or --overwrite must be set. "
            f"Received: {existing[:3]}, {len(existing)} in all."
        )


def _main(argv):
    if len(argv) < 2:
        raise ValueError("Received: no INPUT. Name a picture or a folder of them.")
    written = denoise_files(
        argv[1:],
        FLAGS.output,
        FLAGS.model,
        overwrite=FLAGS.overwrite,
        skip_existing=FLAGS.skip_existing,
        max_pixels=FLAGS.max_pixels,
        axes=FLAGS.axes,
        **command.denoiser_options(FLAGS),
    )
    logging.info("%d pictures are in %s", len(written), FLAGS.output)


def main():
    """Runs the script."""
    flags.DEFINE_string(
        "model",
        inference.GENERAL,
        "The denoiser: a .keras file, a SavedModel, or a name; the general ones, for "
        "gray and for colour, know noise of many kinds.",
    )
    flags.DEFINE_string("output", None, "Folder to write.")
    flags.DEFINE_bool("overwrite", False, "Replace files in the output folder.")
    flags.DEFINE_bool(
        "skip_existing", False, "Leave out what has an output: go on after a kill."
    )
    flags.DEFINE_string(
        "axes", None, "Axes of .npy files, such as TZYX; S stands for colours."
    )
    command.define_denoiser_flags()
    flags.DEFINE_integer(
        "max_pixels", None, "Pixels of a tile; by default, what memory allows.", 1
    )
    flags.mark_flag_as_required("output")
    command.run(_main)


if __name__ == "__main__":
    main()
