"""Exports a trained model for TF Serving, LiteRT or ONNX Runtime.

    export_model MODEL.keras --name NAME [--output saved_models] [--version N]
        [--format saved_model|litert|onnx] [--max_pixels N] [--card FILE]

writes the SavedModel OUTPUT/NAME/VERSION/, or with another format the file
OUTPUT/NAME/VERSION.tflite or .onnx; the version is the next free one by default. MODEL
is a prior (`best.keras` of train_prior; SavedModel only) or a denoiser
(`denoiser.keras` of train_denoiser). See tools/serving for what serves it.
"""

from __future__ import annotations

import os
from pathlib import Path

import keras
from absl import flags, logging

from tfflowdn import inference, serving
from tfflowdn.models import FlowPrior
from tfflowdn.scripts import command

__all__ = ["main"]

FLAGS = flags.FLAGS


def _load(path):
    if not os.path.isfile(path):
        raise ValueError(f"MODEL must be a .keras file. Received: {path!r}.")
    model = keras.models.load_model(path, compile=False)
    return model if isinstance(model, FlowPrior) else inference.load_denoiser(path)


def _card(path):
    """Returns the card that is named, or the one beside the model if there is one."""
    beside = Path(path).with_suffix(".md")
    return FLAGS.card or (beside if beside.is_file() else None)


def _main(argv):
    if len(argv) != 2:
        raise ValueError(f"One MODEL must be named. Received: {argv[1:]}.")
    path = inference.find_model(argv[1])
    target = serving.export_model(
        _load(path),
        FLAGS.output,
        FLAGS.name,
        FLAGS.version,
        format=FLAGS.format,
        max_pixels=FLAGS.max_pixels or None,
        card=_card(path),
    )
    logging.info("The model is in %s", target)


def main():
    """Runs the script."""
    flags.DEFINE_string("name", None, "Name of the served model.")
    flags.DEFINE_string("output", "saved_models", "Folder of the served models.")
    flags.DEFINE_integer("version", None, "Version; the next free one by default.")
    flags.DEFINE_enum("format", "saved_model", list(serving.FORMATS), "What to write.")
    flags.DEFINE_integer(
        "max_pixels",
        2**20,
        "Pixels of a tile of a denoiser's SavedModel; 0 for no tiles.",
        lower_bound=0,
    )
    flags.DEFINE_string(
        "card", None, "File to keep with a SavedModel; MODEL with .md by default."
    )
    flags.mark_flags_as_required(["name"])
    command.run(_main)


if __name__ == "__main__":
    main()
