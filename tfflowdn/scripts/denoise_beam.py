"""Denoises a file pattern on many machines: an Apache Beam pipeline.

    denoise_beam --input PATTERN --output DIR --model SAVED_MODEL [runner's flags]

runs on this machine. With --runner DataflowRunner, FlinkRunner or SparkRunner and the
flags of this runner, it runs on a cluster, whose workers need tfflowdn. Patterns,
outputs and the model may be in any file system of Beam (gs://, s3://, hdfs://). Every
picture and every page of a TIFF stack is cut into tiles of --max_pixels, which the
workers denoise; the result is equal to the result of `denoise` with the same SavedModel
and flags. A broken file does not stop the others: it is logged, counted as
`broken_files` and listed in DIR/failures.txt, and the exit code is 1. Needs
`pip install 'tfflowdn[beam]'`.

Example:
    denoise_beam --input 'pictures/**.tif' --output denoised --model served/denoiser/1
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from typing import Any

import tfflowdn

__all__ = ["main"]

DTYPES = (
    *("uint8", "int8", "uint16", "int16", "uint32", "int32"),
    *("float16", "float32", "float64"),
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="denoise_beam",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--input", required=True, help="Pattern of the files.")
    parser.add_argument("--output", required=True, help="Folder to write.")
    parser.add_argument("--model", required=True, help="Folder of a SavedModel.")
    parser.add_argument(
        "--max_pixels",
        type=int,
        default=2**20,
        help="Pixels of a tile (default: %(default)s).",
    )
    _add_file_options(parser)
    parser.add_argument(
        "--strength",
        type=float,
        default=1.0,
        help="Part of the correction, 0 to 1 (default: %(default)s).",
    )
    for option in ("--self_ensemble", "--luminance_only"):
        parser.add_argument(option, action="store_true", help="See denoise --help.")
    parser.add_argument(
        "--trust_saved_model",
        action="store_true",
        help="Load any SavedModel, which is a program, see denoise --help.",
    )
    parser.add_argument(
        "--version", action="version", version=f"tfflowdn {tfflowdn.__version__}"
    )
    return parser


def _add_file_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--range", help="Pixel values that become 0 and 1.")
    parser.add_argument("--axes", help="Axes of arrays and stacks, such as TZCYX.")
    parser.add_argument("--gain", type=float, help="Of the transform.")
    parser.add_argument("--offset", type=float, help="Of the transform.")
    parser.add_argument("--dtype", choices=DTYPES, help="Type of the output pixels.")
    choices = {
        "percentiles_by": ("file", "page"),
        "channels": ("auto", "independent"),
        "transform": ("none", "anscombe", "asinh", "log"),
    }
    for name, values in choices.items():
        words = "See denoise --help (default: %(default)s)."
        parser.add_argument(f"--{name}", choices=values, default=values[0], help=words)
    parser.add_argument(
        "--remove_outliers",
        action="store_true",
        help="Replace isolated hot and dead pixels, see denoise --help.",
    )


def _file_options(own: argparse.Namespace) -> dict[str, Any]:
    names = ("axes", "gain", "offset", "dtype", "percentiles_by", "channels")
    names += ("transform", "remove_outliers")
    return {"pixel_range": own.range} | {name: getattr(own, name) for name in names}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the pipeline; flags that are not its own go to the runner."""
    own, rest = _parser().parse_known_args(argv)
    if importlib.util.find_spec("apache_beam") is None:
        sys.exit("Apache Beam is required: pip install 'tfflowdn[beam]'.")
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    from tfflowdn.scripts import beam_pipeline

    pipeline = beam.Pipeline(options=PipelineOptions(rest))
    beam_pipeline.build(
        pipeline,
        own.input,
        own.output,
        own.model,
        own.max_pixels,
        beam_pipeline.FileOptions(**_file_options(own)),
        trust=own.trust_saved_model,
        strength=own.strength,
        self_ensemble=own.self_ensemble,
        luminance_only=own.luminance_only,
    )
    result = pipeline.run()
    result.wait_until_finish()
    if num_broken := beam_pipeline.num_broken(result):
        sys.exit(
            f"{num_broken} files failed; they are listed in "
            f"{own.output}/{beam_pipeline.FAILURES_FILE}."
        )


if __name__ == "__main__":
    main()
