"""Exports a trained model for TF Serving, LiteRT or ONNX Runtime.

    export_model MODEL --name NAME [--output saved_models] [--version N]
        [--format saved_model|litert|onnx] [--max_pixels N] [--card FILE]

writes the SavedModel OUTPUT/NAME/VERSION/, or with another format the file
OUTPUT/NAME/VERSION.tflite or .onnx; the version is the next free one by default. MODEL
is a prior (`best.keras` of train_prior; SavedModel only) or a denoiser
(`denoiser.keras` of train_denoiser).

Example:
    export_model denoiser_gray --name denoiser --output served
"""

from __future__ import annotations

import os
from pathlib import Path

from absl import flags, logging

import tfflowdn
from tfflowdn.scripts import command

__all__ = ["main"]

FLAGS = flags.FLAGS
FORMATS = ("saved_model", "litert", "onnx")


def _load(path):
    if not os.path.isfile(path):
        raise ValueError(f"MODEL must be a .keras file. Received: {path!r}.")
    import keras

    tfflowdn.inference  # Registers the classes of the models.  # noqa: B018
    model = keras.models.load_model(path, compile=False)
    if isinstance(model, tfflowdn.FlowPrior):
        return model
    return tfflowdn.load_denoiser(path)


def _card(path):
    """Returns the card that is named, or the one next to the model if there is one."""
    beside = Path(path).with_suffix(".md")
    return FLAGS.card or (beside if beside.is_file() else None)


def _main(argv):
    path = tfflowdn.inference.find_model(argv[1])
    target = tfflowdn.export_model(
        _load(path),
        FLAGS.output,
        FLAGS.name,
        FLAGS.version,
        format=FLAGS.format,
        max_pixels=FLAGS.max_pixels or None,
        card=_card(path),
    )
    logging.info("The model is in %s", target)


def main() -> None:
    """Runs the command."""
    flags.DEFINE_string("name", None, "Name of the served model.")
    flags.DEFINE_string("output", "saved_models", "Folder of the served models.")
    flags.DEFINE_integer("version", None, "Version; the next free one by default.")
    flags.DEFINE_enum("format", "saved_model", FORMATS, "Format to write.")
    flags.DEFINE_integer(
        "max_pixels",
        2**20,
        "Pixels of a tile of a denoiser's SavedModel; 0 for no tiles.",
        lower_bound=0,
    )
    flags.DEFINE_string(
        "card", None, "File to keep with a SavedModel; MODEL with .md by default."
    )
    command.require("name")
    command.run(_main, arguments="MODEL")


if __name__ == "__main__":
    main()
