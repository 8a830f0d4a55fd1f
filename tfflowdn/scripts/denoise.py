"""Denoises files.

    denoise INPUT... --model DENOISER.keras --output DIR

Each INPUT is a PNG, JPEG, WebP, TIFF or .npy file or a folder of them, whose tree DIR
mirrors. The outputs keep name, format, bit depth, alpha, colour profile, resolution
and EXIF. TIFF stacks are denoised page by page, large pictures by tiles, with the same
result. A file that cannot be denoised is named at the end, with code 1, and does not
stop the others.
"""

from __future__ import annotations

import collections
import functools
import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import tqdm
from absl import flags, logging

from tfflowdn import data, inference
from tfflowdn.scripts import command

__all__ = ["denoise_files", "main"]

FLAGS = flags.FLAGS
ARRAY_SUFFIX = ".npy"
SUFFIXES = (*data.IMAGE_SUFFIXES, ARRAY_SUFFIX)
NUM_READERS, NUM_AHEAD = 2, 3


def denoise_files(
    inputs: list[str],
    output: str,
    model: str,
    *,
    overwrite: bool = False,
    skip_existing: bool = False,
    max_pixels: int | None = None,
    axes: str | None = None,
    **options,
) -> list[Path]:
    """Denoises files and the files of folders, the next ones being read meanwhile.

    Args:
      inputs: Files and folders.
      output: Folder to write, made if it is absent.
      model: Path of the denoiser's `.keras` file, or of its SavedModel's folder.
      overwrite: Whether files in `output` may be replaced.
      skip_existing: Whether those that have an output already are left out.
      max_pixels: Pixels to give to the network at once, see `inference.Denoiser`.
      axes: The meaning of the axes of .npy files, see there.
      **options: `strength` and `self_ensemble`, see there.

    Returns:
      The paths written.

    Raises:
      ValueError: Before any work, for an input without pictures, two inputs of one
        output, or an output that exists; after it, for files that could not be read,
        denoised or written, while all others were.
    """
    pairs = [pair for path in inputs for pair in _plan(Path(path), Path(output))]
    if skip_existing:
        pairs = [(source, target) for source, target in pairs if not target.exists()]
    _check_outputs([target for _, target in pairs], overwrite)
    denoiser = inference.Denoiser.from_pretrained(model, max_pixels=max_pixels)
    denoise = functools.partial(denoiser, **options)
    written, failures, megapixels = [], [], 0.0
    progress = tqdm.tqdm(total=len(pairs), unit="picture")
    with ThreadPoolExecutor(NUM_READERS) as pool, progress:
        for source, target, reading in _read_ahead(pool, pairs):
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                read = reading.result()
                num_pixels = _denoise(read, source, target, denoise, axes)
            except (ValueError, OSError) as error:
                failures.append(f"{source}: {error}")
            else:
                written.append(target)
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


def _read_ahead(
    pool: ThreadPoolExecutor, pairs: Iterable[tuple[Path, Path]]
) -> Iterator[tuple[Path, Path, Future]]:
    """Yields the pairs with what the pool reads, few of them at a time."""
    waiting, pairs = collections.deque(), iter(pairs)
    while True:
        for source, target in itertools.islice(pairs, NUM_AHEAD - len(waiting)):
            waiting.append((source, target, pool.submit(_read, source)))
        if not waiting:
            return
        yield waiting.popleft()


def _read(path):
    """Returns pixels and metadata; None for what is read page by page."""
    if path.suffix.lower() == ARRAY_SUFFIX:
        return data.open_array(path), None
    if data.is_stack_or_large(path):
        return None
    return data.read_image(path), data.read_metadata(path)


def _denoise(read, source, target, denoise, axes):
    """Writes a denoised file and returns its number of pixels."""
    if read is None:
        return data.map_pages(
            source, target, lambda pixels, out: denoise(pixels, out=out)
        )
    array, metadata = read
    if metadata is None:
        data.save_array(target, denoise(array, axes=axes))
        return array.size
    if metadata.conversion:
        logging.warning("%s is converted: %s.", source, metadata.conversion)
    data.write_image(target, denoise(array), metadata)
    return array.shape[0] * array.shape[1]


def _plan(path, output):
    """Returns the pairs of a file to read and a file to write of one input."""
    if path.is_file():
        return [(path, output / path.name)]
    found = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in SUFFIXES and file.is_file()
    )
    if not found:
        raise ValueError(
            "An input must be a picture or a folder with pictures "
            f"({', '.join(SUFFIXES)}). Received: {str(path)!r}."
        )
    return [(file, output / file.relative_to(path)) for file in found]


def _check_outputs(targets, overwrite):
    twice = sorted({str(target) for target in targets if targets.count(target) > 1})
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
        strength=FLAGS.strength,
        self_ensemble=FLAGS.self_ensemble,
    )
    logging.info("%d pictures are in %s", len(written), FLAGS.output)


def main():
    """Runs the script."""
    flags.DEFINE_string("model", None, "The denoiser: .keras or SavedModel.")
    flags.DEFINE_string("output", None, "Folder to write.")
    flags.DEFINE_bool("overwrite", False, "Replace files in the output folder.")
    flags.DEFINE_bool(
        "skip_existing", False, "Leave out what has an output: go on after a kill."
    )
    flags.DEFINE_string(
        "axes", None, "Axes of .npy files, such as TZYX; S stands for colours."
    )
    flags.DEFINE_float("strength", 1.0, "Part of the correction to apply, 0 to 1.")
    flags.DEFINE_bool(
        "self_ensemble", False, "Average over 8 flips and rotations; 8 times as long."
    )
    flags.DEFINE_integer(
        "max_pixels", None, "Pixels of a tile; by default, what memory allows.", 1
    )
    flags.mark_flags_as_required(["model", "output"])
    command.run(_main)


if __name__ == "__main__":
    main()
