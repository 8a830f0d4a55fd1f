"""Denoises files.

    denoise INPUT... --model DENOISER.keras --output DIR

Each INPUT is a PNG, JPEG, WebP or TIFF file or a folder of them, whose tree DIR
mirrors. The outputs keep name, format, bit depth, alpha, colour profile, resolution
and EXIF. Large pictures are denoised by tiles,
with the same result.
"""

from __future__ import annotations

from pathlib import Path

import keras
from absl import flags, logging

from tfflowdn import data, inference
from tfflowdn.scripts import command

__all__ = ["denoise_files", "main"]

FLAGS = flags.FLAGS


def denoise_files(
    inputs: list[str],
    output: str,
    model: str,
    overwrite: bool = False,
    max_pixels: int | None = None,
    **options,
) -> list[Path]:
    """Denoises files and the files of folders.

    Args:
      inputs: Files and folders.
      output: Folder to write, made if it is absent.
      model: Path of the denoiser's `.keras` file.
      overwrite: Whether files in `output` may be replaced.
      max_pixels: Pixels to give to the network at once, see `inference.Denoiser`.
      **options: `strength` and `self_ensemble`, see there.

    Returns:
      The paths written.

    Raises:
      ValueError: Before any work, for an input without pictures, two inputs of one
        output, or an output that exists; later, for a file that cannot be read.
    """
    pairs = [pair for path in inputs for pair in _plan(Path(path), Path(output))]
    _check_outputs([target for _, target in pairs], overwrite)
    denoiser = inference.Denoiser.from_pretrained(model, max_pixels=max_pixels)
    progress = keras.utils.Progbar(len(pairs), unit_name="picture")
    for source, target in pairs:
        denoised = denoiser(data.read_image(source), **options)
        target.parent.mkdir(parents=True, exist_ok=True)
        data.write_image(target, denoised, data.read_metadata(source))
        progress.add(1)
    return [target for _, target in pairs]


def _plan(path, output):
    """Returns the pairs of a file to read and a file to write of one input."""
    if path.is_file():
        return [(path, output / path.name)]
    found = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in data.IMAGE_SUFFIXES and file.is_file()
    )
    if not found:
        raise ValueError(
            "An input must be a picture or a folder with pictures "
            f"({', '.join(data.IMAGE_SUFFIXES)}). Received: {str(path)!r}."
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
        FLAGS.overwrite,
        FLAGS.max_pixels,
        strength=FLAGS.strength,
        self_ensemble=FLAGS.self_ensemble,
    )
    logging.info("%d pictures are in %s", len(written), FLAGS.output)


def main():
    """Runs the script."""
    flags.DEFINE_string("model", None, "The denoiser, a .keras file.")
    flags.DEFINE_string("output", None, "Folder to write.")
    flags.DEFINE_bool("overwrite", False, "Replace files in the output folder.")
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
