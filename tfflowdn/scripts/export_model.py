"""Exports a trained model as a SavedModel for TF Serving.

    export_model MODEL.keras --name NAME [--output saved_models] [--version N]

writes OUTPUT/NAME/VERSION/; the version is the next free one by default. MODEL is a
prior (`best.keras` of train_prior) or a denoiser (`denoiser.keras` of train_denoiser).
"""

from __future__ import annotations

import os

import keras
from absl import flags, logging

from tfflowdn import export, inference
from tfflowdn.models import FlowPrior
from tfflowdn.scripts import command

__all__ = ["main"]

FLAGS = flags.FLAGS


def _load(path):
    if not os.path.isfile(path):
        raise ValueError(f"MODEL must be a .keras file. Received: {path!r}.")
    model = keras.models.load_model(path, compile=False)
    return model if isinstance(model, FlowPrior) else inference.load_denoiser(path)


def _main(argv):
    if len(argv) != 2:
        raise ValueError(f"One MODEL must be named. Received: {argv[1:]}.")
    model = _load(argv[1])
    target = export.export_model(model, FLAGS.output, FLAGS.name, FLAGS.version)
    logging.info("The SavedModel is in %s", target)


def main():
    """Runs the script."""
    flags.DEFINE_string("name", None, "Name of the served model.")
    flags.DEFINE_string("output", "saved_models", "Folder of the served models.")
    flags.DEFINE_integer("version", None, "Version; the next free one by default.")
    flags.mark_flags_as_required(["name"])
    command.run(_main)


if __name__ == "__main__":
    main()
