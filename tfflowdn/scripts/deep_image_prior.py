"""Denoises files by Deep Image Prior: a network is trained on each picture.

    deep_image_prior INPUT... --output DIR [--sigma SIGMA]

Each INPUT is a picture file or a folder of them. Inputs and outputs are as in
`denoise`. No model and no training pictures are needed, but each picture takes minutes.
The noise must be independent from pixel to pixel. The training of a picture stops at
the standard deviation of its noise, which is estimated if it is not given.

Example: a picture whose noise has a standard deviation of 25 gray levels (of 255):

    deep_image_prior photo.png --output denoised --sigma 25
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags, logging

import tfflowdn
from tfflowdn.scripts import command
from tfflowdn.scripts.denoise import denoise_files

__all__ = ["fit_files", "main"]

FLAGS = flags.FLAGS
WHOLE = 2**40  # Pixels; pictures are never cut into tiles.


def fit_files(
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    overwrite: bool = False,
    skip_existing: bool = False,
    reading: Mapping[str, Any] | None = None,
    **options: Any,
) -> list[Path]:
    """Denoises files and the files of folders, each by a network of its own.

    Args:
      inputs: Files and folders.
      output: Folder to write, made if it is absent.
      overwrite: Whether files in `output` may be replaced.
      skip_existing: Whether files that already have an output are left out.
      reading: `axes`, `pixel_range`, `percentiles_by`, `channels` and
        `remove_outliers` of `denoise_files`.
      **options: See `stages.DeepImagePrior`.

    Returns:
      The paths written.

    Raises:
      ValueError: See `denoise_files` and `stages.DeepImagePrior`.
    """
    networks = [
        tfflowdn.stages.DeepImagePrior(channels, **options) for channels in (1, 3)
    ]
    denoiser = tfflowdn.Denoiser(*networks, max_pixels=WHOLE)
    return denoise_files(
        inputs,
        output,
        denoiser,
        overwrite=overwrite,
        skip_existing=skip_existing,
        **(reading or {}),
    )


def _main(argv: Sequence[str]) -> None:
    written = fit_files(
        argv[1:],
        FLAGS.output,
        overwrite=FLAGS.overwrite,
        skip_existing=FLAGS.skip_existing,
        noise_sigma=None if FLAGS.sigma is None else FLAGS.sigma / 255,
        max_steps=FLAGS.max_steps,
        precision=tfflowdn.devices.faster_precision() or "float32",
        seed=FLAGS.seed,
        reading={
            "axes": FLAGS.axes,
            "pixel_range": FLAGS.range,
            "percentiles_by": FLAGS.percentiles_by,
            "channels": FLAGS.channels,
            "remove_outliers": FLAGS.remove_outliers or None,
        },
    )
    noun = "picture is" if len(written) == 1 else "pictures are"
    logging.info("%d %s in %s", len(written), noun, FLAGS.output)


def main() -> None:
    """Runs the command."""
    flags.DEFINE_string("output", None, "Folder to write.")
    flags.DEFINE_float(
        "sigma",
        None,
        "Standard deviation of the noise, where white is 255; by default it is "
        "estimated from each picture.",
        lower_bound=0.1,
        upper_bound=255,
    )
    flags.DEFINE_integer("max_steps", 2000, "Largest number of steps.", 1)
    flags.DEFINE_integer("seed", 0, "Seed of the network and of its input.")
    flags.DEFINE_bool("overwrite", False, "Replace files in the output folder.")
    flags.DEFINE_bool(
        "skip_existing",
        False,
        "Leave out files that have an output, to continue after a kill.",
    )
    command.define_stack_flags()
    command.define_pixel_flags()
    command.require("output")
    command.run(_main, arguments="INPUT...")


if __name__ == "__main__":
    main()
