"""Exports a trained model for TF Serving, LiteRT or ONNX Runtime.

    export_model MODEL --name NAME [--output saved_models] [--version N]
        [--format saved_model|litert|onnx] [--max_pixels N] [--max_request_pixels N]
        [--card FILE]

writes the SavedModel OUTPUT/NAME/VERSION/, or with another format the file
OUTPUT/NAME/VERSION.tflite or .onnx. MODEL is a prior (`best.keras` of train_prior; only
as a SavedModel) or a denoiser (`denoiser.keras` of train_denoiser). The command
denoise_client sends pictures to a server of the SavedModel.

Example:
    export_model denoiser_gray --name denoiser --output served
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from absl import flags, logging

import tfflowdn
from tfflowdn import serving
from tfflowdn.scripts import command

__all__ = ["main"]

FLAGS = flags.FLAGS


def _load(path: str | os.PathLike) -> Any:
    if not os.path.isfile(path):
        raise ValueError(f"MODEL must be a .keras file. Received: {str(path)!r}.")
    model = tfflowdn.inference.load_keras_file(path)
    if isinstance(model, tfflowdn.FlowPrior):
        return model
    return tfflowdn.load_denoiser(path)


def _card(path: str | os.PathLike) -> str | Path | None:
    """Returns the card that is named, or the file next to the model if it exists."""
    default = Path(path).with_suffix(".md")
    return FLAGS.card or (default if default.is_file() else None)


def _main(argv: list[str]) -> None:
    path = tfflowdn.inference.find_model(argv[1])
    target = serving.export_model(
        _load(path),
        FLAGS.output,
        FLAGS.name,
        FLAGS.version,
        format=FLAGS.format,
        max_pixels=FLAGS.max_pixels or None,
        max_request_pixels=FLAGS.max_request_pixels or None,
        card=_card(path),
    )
    logging.info("The model is in %s", target)


def main() -> None:
    """Runs the command."""
    flags.DEFINE_string("name", None, "Name of the served model.")
    flags.DEFINE_string("output", "saved_models", "Folder of the served models.")
    flags.DEFINE_integer("version", None, "Version; by default the next free one.")
    flags.DEFINE_enum(
        "format", "saved_model", list(serving.FORMATS), "Format of the output."
    )
    flags.DEFINE_integer(
        "max_pixels",
        2**20,
        "Pixels of a tile of a denoiser's SavedModel; 0 for no tiles.",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "max_request_pixels",
        serving.MAX_REQUEST_PIXELS,
        "Largest number of pixels of a request to a denoiser's SavedModel; 0 for no "
        "limit.",
        lower_bound=0,
    )
    flags.DEFINE_string(
        "card",
        None,
        "File to copy into a SavedModel; by default MODEL with the suffix .md.",
    )
    command.require("name")
    command.run(_main, arguments="MODEL")


if __name__ == "__main__":
    main()
