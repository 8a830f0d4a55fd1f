"""The Apache Beam pipeline of `denoise_beam`: tiles of pictures on many workers."""

from __future__ import annotations

import collections
import contextlib
import functools
import logging
import os
import re
import tempfile
import uuid
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.io import fileio
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.ml.inference.base import KeyedModelHandler, ModelHandler, RunInference

from tfflowdn import data
from tfflowdn.inference import Denoiser, tiling

__all__ = ["BROKEN_FILES", "FAILURES_FILE", "DenoiserHandler", "build", "num_broken"]

BROKEN_FILES = Metrics.counter("tfflowdn", "broken_files")
FAILURES = "failures"
FAILURES_FILE = "failures.txt"
"""The list of the files that failed, in the output folder."""


# Every worker can unpickle plain tuples. The place of a tile: page, height and width
# of the page, rows, columns. A tile: stored pixels [H, W, C], range of the picture.
Place = tuple[int, int, int, tiling.Span, tiling.Span]
Tile = tuple[np.ndarray, str | tuple[float, float]]


class DenoiserHandler(ModelHandler[Tile, np.ndarray, Denoiser]):
    """Denoises tiles with a SavedModel and the options of a call of `Denoiser`."""

    def __init__(self, model: str, trust: bool = False, **options: Any):
        super().__init__()
        self._model = model
        self._trust = trust
        self._options = options

    def load_model(self) -> Denoiser:
        """Loads the SavedModel, once for each worker."""
        with tempfile.TemporaryDirectory() as folder:
            copy = _local_copy(self._model, folder)
            return Denoiser.from_pretrained(copy, trust=self._trust)

    def run_inference(
        self, batch: Sequence[Tile], model: Denoiser, inference_args: Any = None
    ) -> Iterable[np.ndarray]:
        """Denoises tiles, which may differ in size."""
        del inference_args
        denoise = functools.partial(_in_one_piece(model), **self._options)
        return [denoise(pixels, pixel_range=limits) for pixels, limits in batch]


class _CutIntoTiles(beam.DoFn):
    """Yields ((path, place), tile) for a file's path."""

    def __init__(
        self, handler: DenoiserHandler, max_pixels: int, pixel_range: str | None
    ):
        self._handler = handler
        self._max_pixels = max_pixels
        self._pixel_range = pixel_range

    def setup(self):
        denoiser = self._handler.load_model()
        self._pixel_range = self._pixel_range or denoiser.pixel_range
        self._grid = {
            "margin": denoiser.margin,
            "multiple": denoiser.multiple,
            "max_pixels": self._max_pixels,
        }

    def process(self, path):
        with _fetched(path) as local:
            try:
                limits = self._checked_limits(local)
            except (
                Exception
            ) as error:  # An error of a decoder is an error of this file.
                yield _failure(path, error)
                return
            for page, pixels in enumerate(map(data.fill_gaps, _pages(local))):
                size = pixels.shape[:2]
                for row, column in tiling.tiles(*size, **self._grid):
                    tile = pixels[row.start : row.stop, column.start : column.stop]
                    place: Place = (page, *size, row, column)
                    yield (path, place), (np.ascontiguousarray(tile), limits)

    def _checked_limits(self, local):
        """Reads all pages, and returns the range of their pixels."""
        pages = map(data.fill_gaps, _pages(local))
        count = data.num_pages(local) if data.is_stack_or_large(local) else 1
        limits = data.find_limits(self._pixel_range, pages, count)
        collections.deque(pages, maxlen=0)
        return limits or "dtype"


class _WritePicture(beam.DoFn):
    """Puts the denoised tiles of a file together, writes it and yields its path."""

    def __init__(self, root: str, output: str):
        self._root, self._output = root, output

    def process(self, element):
        path, tiles = element
        target = f"{self._output.rstrip('/')}/{path.removeprefix(self._root)}"
        with _fetched(path) as local, tempfile.TemporaryDirectory() as folder:
            pages = _put_together(tiles, folder)
            result = os.path.join(folder, PurePosixPath(path).name)
            try:
                _write_result(local, result, pages)
            except ValueError as error:  # The format cannot hold the pixels.
                yield _failure(path, error)
                return
            temporary = (
                f"{target}.{uuid.uuid4().hex}.tmp"  # Two workers may do the same work.
            )
            _make_folder(os.path.dirname(target))
            _copy(result, temporary)
            FileSystems.rename([temporary], [target])
        yield target


def build(
    pipeline: beam.Pipeline,
    pattern: str,
    output: str,
    model: str,
    max_pixels: int,
    pixel_range: str | None = None,
    trust: bool = False,
    **options: Any,
) -> beam.PCollection:
    """Adds the steps to a pipeline and returns the paths that are written.

    Args:
      pipeline: The pipeline.
      pattern: Pattern of the files to denoise.
      output: Folder to write; paths below the fixed part of the pattern are kept.
      model: The folder of a SavedModel.
      max_pixels: Pixels of a tile.
      pixel_range: The values that become 0 and 1; by default the range of the model.
      trust: Whether to load any SavedModel, see `inference.SavedNetwork`.
      **options: `strength`, `self_ensemble` and `luminance_only` of `Denoiser`.
    """
    handler = KeyedModelHandler(DenoiserHandler(model, trust, **options))
    cut = _CutIntoTiles(DenoiserHandler(model, trust), max_pixels, pixel_range)
    tiles = (
        pipeline
        | "Match" >> fileio.MatchFiles(pattern)
        | "Path" >> beam.Map(lambda match: match.path)
        | "ShareFiles" >> beam.Reshuffle()
        | "Cut" >> beam.ParDo(cut).with_outputs(FAILURES, main="tiles")
    )
    written = (
        tiles.tiles
        | "ShareTiles" >> beam.Reshuffle()
        | "Denoise" >> RunInference(handler)
        | "ByFile" >> beam.MapTuple(lambda key, tile: (key[0], (key[1], tile)))
        | "Gather" >> beam.GroupByKey()
        | "Write"
        >> beam.ParDo(_WritePicture(_fixed_part(pattern), output)).with_outputs(
            FAILURES, main="paths"
        )
    )
    _ = (
        (tiles[FAILURES], written[FAILURES])
        | "Failures" >> beam.Flatten()
        | "ListFailures" >> beam.combiners.ToList()
        | "WriteFailures" >> beam.Map(_write_failures, output)
    )
    return written.paths


def num_broken(result: beam.runners.runner.PipelineResult) -> int:
    """Returns the number of files that failed in a pipeline that is done."""
    counters = result.metrics().query(
        MetricsFilter().with_name(BROKEN_FILES.metric_name.name)
    )["counters"]
    return sum(counter.result for counter in counters)


def _failure(path, error):
    """Counts and logs a file that failed; returns its line of the list."""
    BROKEN_FILES.inc()
    line = f"{path}: {type(error).__name__}: {error}"
    logging.error("%s", line)
    return beam.pvalue.TaggedOutput(FAILURES, line)


def _write_failures(lines, output):
    """Writes the list of the files that failed, or deletes an old list."""
    path = f"{output.rstrip('/')}/{FAILURES_FILE}"
    if not lines:
        with contextlib.suppress(BeamIOError):
            FileSystems.delete([path])
        return
    _make_folder(output)
    with FileSystems.create(path) as file:
        file.write("".join(f"{line}\n" for line in sorted(lines)).encode())


def _write_result(local, result, pages):
    """Writes pages in the format of the file `local` to `result`."""
    if data.is_stack_or_large(local):
        in_order = iter(sorted(pages))

        def fill(page, out):
            out[:] = pages[next(in_order)]
            data.restore_gaps(out, page)

        data.map_pages(local, result, fill)
    else:
        data.restore_gaps(pages[0], data.read_image(local))
        data.write_image(result, pages[0], data.read_metadata(local))


def _pages(path):
    """Yields the pixels of a picture, or of the pages of a stack."""
    if data.is_stack_or_large(path):
        yield from data.read_pages(path, os.path.dirname(path))
    else:
        yield data.read_image(path)


def _put_together(tiles, folder):
    """Returns the pages by number, put together from tiles in files of a folder."""
    pages = {}
    for (number, height, width, row, column), tile in tiles:
        if number not in pages:
            shape = (height, width, tile.shape[-1])
            path = os.path.join(folder, f"page_{number}")
            pages[number] = np.memmap(path, tile.dtype, "w+", shape=shape)
        pages[number][row.begin : row.end, column.begin : column.end] = tile[
            row.begin - row.start : row.end - row.start,
            column.begin - column.start : column.end - column.start,
        ]
    return pages


def _in_one_piece(denoiser):
    return Denoiser(*denoiser.networks, max_pixels=2**62)


def _fixed_part(pattern):
    """Returns the folder up to the first wildcard, with its slash."""
    fixed = re.split(r"[*?[]", pattern, maxsplit=1)[0]
    return fixed[: fixed.rfind("/") + 1]


@contextlib.contextmanager
def _fetched(path):
    """Gives the path of a copy on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, PurePosixPath(path).name)
        _copy(path, local)
        yield local


def _local_copy(folder, target):
    """Copies a SavedModel to this machine, where TensorFlow reads it."""
    (match,) = FileSystems.match([f"{folder.rstrip('/')}/**"])
    for file in match.metadata_list:
        relative = file.path.removeprefix(folder.rstrip("/") + "/")
        local = os.path.join(target, relative)
        os.makedirs(os.path.dirname(local), exist_ok=True)
        _copy(file.path, local)
    return target


def _make_folder(folder):
    if not FileSystems.exists(folder):
        FileSystems.mkdirs(folder)


def _copy(source, target):
    with FileSystems.open(source) as reader, FileSystems.create(target) as writer:
        while chunk := reader.read(2**20):
            writer.write(chunk)
