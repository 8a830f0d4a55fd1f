"""Denoises a file pattern on many machines: an Apache Beam pipeline.

    pip install 'tfflowdn[beam]'
    python tools/denoise_beam.py --input 'PICTURES/**.tif' --output DENOISED \
        --model saved_models/denoiser/1

runs on this machine; `--runner DataflowRunner`, `FlinkRunner` or `SparkRunner` and that
runner's own options run it on a cluster. Patterns, outputs and the model may lie
wherever Beam has a file system (`gs://`, `s3://`, `hdfs://`). Every picture is cut into
tiles of `--max_pixels`, which the workers denoise by RunInference; the result is that
of `denoise` with the same SavedModel and `--max_pixels`, bit by bit. A broken file is
logged, not written, and counted as `broken_files`. Stacks are not cut into pages.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import apache_beam as beam
import numpy as np
from apache_beam.io import fileio
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import KeyedModelHandler, ModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions

from tfflowdn import Denoiser, data, tiling

BROKEN_FILES = Metrics.counter("tfflowdn", "broken_files")


class DenoiserHandler(ModelHandler[np.ndarray, np.ndarray, Denoiser]):
    """Denoises tiles of stored pixels [H, W, C] by a SavedModel."""

    def __init__(self, model: str):
        super().__init__()
        self._model = model

    def load_model(self) -> Denoiser:
        """Loads the SavedModel, once a worker."""
        with tempfile.TemporaryDirectory() as folder:
            return Denoiser.from_pretrained(_local_copy(self._model, folder))

    def run_inference(
        self, batch: Sequence[np.ndarray], model: Denoiser, inference_args=None
    ) -> Iterable[np.ndarray]:
        """Denoises tiles, which may differ in size."""
        del inference_args
        return [_in_one_piece(model)(tile) for tile in batch]


class _CutIntoTiles(beam.DoFn):
    """Yields ((file, row, column), tile) for a file's path."""

    def __init__(self, model: str, max_pixels: int):
        self._handler = DenoiserHandler(model)
        self._max_pixels = max_pixels

    def setup(self):
        denoiser = self._handler.load_model()
        self._grid = {"margin": denoiser.margin, "multiple": denoiser.multiple}

    def process(self, path):
        try:
            with _fetched(path) as local:
                picture = data.read_image(local)
        except data.ImageReadError as error:
            BROKEN_FILES.inc()
            logging.error("%s", error)
            return
        grid = {**self._grid, "max_pixels": self._max_pixels}
        for row, column in tiling.tiles(*picture.shape[:2], **grid):
            tile = picture[row.start : row.stop, column.start : column.stop]
            yield (path, row, column), np.ascontiguousarray(tile)


class _WritePicture(beam.DoFn):
    """Puts the denoised tiles of a file together, writes it and yields its path."""

    def __init__(self, root: str, output: str):
        self._root, self._output = root, output

    def process(self, element):
        path, tiles = element
        tiles = list(tiles)
        height = max(row.end for row, _, _ in tiles)
        width = max(column.end for _, column, _ in tiles)
        first = tiles[0][-1]
        result = np.empty((height, width, first.shape[-1]), first.dtype)
        for row, column, tile in tiles:
            result[row.begin : row.end, column.begin : column.end] = tile[
                row.begin - row.start : row.end - row.start,
                column.begin - column.start : column.end - column.start,
            ]
        target = f"{self._output.rstrip('/')}/{path.removeprefix(self._root)}"
        with _fetched(path) as local:
            metadata = data.read_metadata(local)
        _write(target, result, metadata)
        yield target


def build(
    pipeline: beam.Pipeline, pattern: str, output: str, model: str, max_pixels: int
) -> beam.PCollection:
    """Adds the steps to a pipeline and returns the paths that are written.

    Args:
      pipeline: The pipeline.
      pattern: Of the files to denoise.
      output: Folder to write; paths below the pattern's fixed part are kept.
      model: The folder of a SavedModel.
      max_pixels: Pixels of a tile.
    """
    handler = KeyedModelHandler(DenoiserHandler(model))
    return (
        pipeline
        | "Match" >> fileio.MatchFiles(pattern)
        | "Path" >> beam.Map(lambda match: match.path)
        | "ShareFiles" >> beam.Reshuffle()
        | "Cut" >> beam.ParDo(_CutIntoTiles(model, max_pixels))
        | "ShareTiles" >> beam.Reshuffle()
        | "Denoise" >> RunInference(handler)
        | "ByFile" >> beam.MapTuple(lambda key, tile: (key[0], (*key[1:], tile)))
        | "Gather" >> beam.GroupByKey()
        | "Write" >> beam.ParDo(_WritePicture(_fixed_part(pattern), output))
    )


def _in_one_piece(denoiser):
    return Denoiser(denoiser.network, max_pixels=2**62)


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


def _write(path, pixels, metadata):
    with tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, PurePosixPath(path).name)
        data.write_image(local, pixels, metadata)
        temporary = f"{path}.tmp"
        _make_folder(os.path.dirname(path))
        _copy(local, temporary)
        FileSystems.rename([temporary], [path])


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


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the pipeline; arguments that are not its own are the runner's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", required=True, help="Pattern of the files.")
    parser.add_argument("--output", required=True, help="Folder to write.")
    parser.add_argument("--model", required=True, help="Folder of a SavedModel.")
    parser.add_argument("--max_pixels", type=int, default=2**20, help="Of a tile.")
    own, rest = parser.parse_known_args(argv)
    options = PipelineOptions(rest)
    options.view_as(SetupOptions).save_main_session = True
    with beam.Pipeline(options=options) as pipeline:
        build(pipeline, own.input, own.output, own.model, own.max_pixels)


if __name__ == "__main__":
    main()
