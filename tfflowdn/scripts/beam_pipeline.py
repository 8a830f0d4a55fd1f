"""The Apache Beam pipeline of `denoise_beam`: tiles of pictures on many workers."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import tempfile
import uuid
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.io import fileio
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.ml.inference.base import KeyedModelHandler, ModelHandler, RunInference

from tfflowdn import data
from tfflowdn.inference import Denoiser, Scaling, tiling
from tfflowdn.inference.local_mean import MEAN_RADIUS
from tfflowdn.scripts.beam_file import FileOptions, parts, write_result

__all__ = ["BROKEN_FILES", "FAILURES_FILE", "DenoiserHandler", "build", "num_broken"]

BROKEN_FILES = Metrics.counter("tfflowdn", "broken_files")
FAILURES = "failures"
FAILURES_FILE = "failures.txt"
"""The list of the files that failed, in the output folder."""


class Place(NamedTuple):
    """The place of a tile.

    Attributes:
      page: The number of the page.
      channel: The channel, or -1 for all.
      height: Rows of the page.
      width: Columns of the page.
      row: The rows of the tile.
      column: The columns of the tile.
      scaling: The map of the page to the units of the network.
      dtype: The dtype of the denoised page.
      together: The numbers of channels of the networks.
    """

    page: int
    channel: int
    height: int
    width: int
    row: tiling.Span
    column: tiling.Span
    scaling: Scaling
    dtype: str
    together: tuple[int, ...]


class Tile(NamedTuple):
    """A tile to denoise.

    Attributes:
      pixels: Stored pixels [H, W, C].
      options: Of the call of `Denoiser`: the scaling and others.
    """

    pixels: np.ndarray
    options: dict[str, Any]


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
        return [denoise(tile.pixels, **tile.options) for tile in batch]


class _CutIntoTiles(beam.DoFn):
    """Yields ((path, place), tile) for a file's path."""

    def __init__(self, handler: DenoiserHandler, max_pixels: int, options: FileOptions):
        self._handler = handler
        self._max_pixels = max_pixels
        self._options = options

    def setup(self):
        self._denoiser = self._handler.load_model()

    def process(self, path):
        with _fetched(path) as local:
            try:
                for part in parts(local, self._denoiser, self._options):
                    for place, tile in self._tiles(part):
                        yield (path, place), tile
            # An error of a decoder is an error of this file.
            except Exception as error:
                yield _failure(path, error)

    def _tiles(self, part):
        wanted = np.dtype(self._options.dtype or part.pixels.dtype.newbyteorder("="))
        scaling, is_integer = part.scaling, wanted.kind in "iu"
        keeps_means = scaling.is_low_count and is_integer
        # Integers that keep local means are rounded when the page is complete.
        dtype = np.dtype(np.float64) if keeps_means else wanted
        options = {"pixel_range": scaling, "dtype": dtype, "has_alpha": part.has_alpha}
        size = part.pixels.shape[:2]
        for row, column in tiling.tiles(
            *size,
            margin=self._denoiser.margin + MEAN_RADIUS * scaling.is_low_count,
            multiple=self._denoiser.multiple,
            max_pixels=self._max_pixels,
        ):
            tile = part.pixels[row.start : row.stop, column.start : column.stop]
            facts = (scaling, dtype.name, self._denoiser.all_channels)
            place = Place(part.page, part.channel, *size, row, column, *facts)
            yield place, Tile(np.ascontiguousarray(tile), options)


class _WritePicture(beam.DoFn):
    """Puts the denoised tiles of a file together, writes it and yields its path."""

    def __init__(self, root: str, output: str, options: FileOptions):
        self._root, self._output, self._options = root, output, options

    def process(self, element):
        path, tiles = element
        relative = data.result_name(path.removeprefix(self._root))
        target = f"{self._output.rstrip('/')}/{relative}"
        with _fetched(path) as local, tempfile.TemporaryDirectory() as folder:
            denoised, together = _put_together(tiles, folder)
            result = os.path.join(folder, relative.name)
            try:
                write_result(local, result, denoised, self._options, together)
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
    file_options: FileOptions | None = None,
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
      file_options: The range, transform, axes and dtype of files.
      trust: Whether to load any SavedModel, see `inference.SavedNetwork`.
      **options: `strength`, `self_ensemble` and `luminance_only` of `Denoiser`.
    """
    handler = KeyedModelHandler(DenoiserHandler(model, trust, **options))
    file_options = file_options or FileOptions()
    cut = _CutIntoTiles(DenoiserHandler(model, trust), max_pixels, file_options)
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
        >> beam.ParDo(
            _WritePicture(_fixed_part(pattern), output, file_options)
        ).with_outputs(FAILURES, main="paths")
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


def _put_together(tiles, folder):
    """Returns pixels and scalings by page and channel, and the networks' channels.

    The pixels are in files of a folder.
    """
    denoised, together = {}, ()
    for place, tile in tiles:
        key, row, column = (place.page, place.channel), place.row, place.column
        if key not in denoised:
            shape = (place.height, place.width, tile.shape[-1])
            path = os.path.join(folder, f"page_{place.page}_{place.channel}")
            array = np.memmap(path, np.dtype(place.dtype), "w+", shape=shape)
            denoised[key], together = (array, place.scaling), place.together
        denoised[key][0][row.begin : row.end, column.begin : column.end] = tile[
            row.begin - row.start : row.end - row.start,
            column.begin - column.start : column.end - column.start,
        ]
    return denoised, together


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
