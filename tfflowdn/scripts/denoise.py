"""Denoises files.

    denoise INPUT... --output DIR [--model MODEL]

Each INPUT is a PNG, JPEG, WebP, TIFF, BMP, GIF, MRC, FITS, DICOM or .npy file, or a
folder of them, whose tree is repeated in DIR. The outputs keep name, format, dtype,
alpha, color profile, resolution and EXIF. TIFF stacks are denoised page by page and
large pictures tile by tile, with the same result. Pixel values are scaled as in the
training of the model, or by --range, and scaled back. A file that cannot be denoised
does not stop the others; it is named at the end, and the exit code is 1. Files of a
folder that are not read, such as RAW files, are also named at the end.

Without --model each picture is looked at: JPEG photographs at the camera's own size get
denoiser_camera, and all others get the general model.

Example: all pictures of a folder:

    denoise photos --output denoised
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import tqdm
from absl import flags, logging

import tfflowdn
from tfflowdn.scripts import command, comparison, denoise_queue, failures
from tfflowdn.scripts.denoise_one import denoise_one
from tfflowdn.scripts.denoise_plan import check_outputs, log_renamed, plan
from tfflowdn.scripts.model_picker import AUTO, ModelPicker
from tfflowdn.scripts.std_maps import std_path

__all__ = ["denoise_files", "main", "summary_line"]

FLAGS = flags.FLAGS
DTYPES = (
    *("uint8", "int8", "uint16", "int16", "uint32", "int32"),
    *("float16", "float32", "float64"),
)
GENERAL = "general"
NUM_THREADS = 4


def denoise_files(
    inputs: list[str],
    output: str,
    model: str | tfflowdn.Denoiser | ModelPicker = GENERAL,
    *,
    overwrite: bool = False,
    skip_existing: bool = False,
    max_pixels: int | None = None,
    axes: str | None = None,
    pixel_range: str | None = None,
    transform: str = "none",
    gain: float | None = None,
    offset: float | None = None,
    dtype: str | None = None,
    percentiles_by: str = "file",
    channels: str = "auto",
    trust: bool = False,
    on_written: Callable[[Path, Path], None] | None = None,
    **options: Any,
) -> list[Path]:
    """Denoises files and the files of folders.

    Files below `output` are not inputs, unless `output` is the input folder itself.
    Files of folders that are not read are logged at the end with the reasons.

    Args:
      inputs: Files and folders.
      output: Folder to write, made if it is absent.
      model: A denoiser, or the name or path of one, see
        `inference.Denoiser.from_pretrained`; a `ModelPicker`, or "auto", looks at each
        picture.
      overwrite: Whether files in `output` may be replaced.
      skip_existing: Whether files that already have an output are left out.
      max_pixels: Pixels to give to the network at once, see `inference.Denoiser`;
        only for a model that is given by name or path.
      axes: The meaning of the axes of arrays and stacks, see `inference.Denoiser`. A
        file that does not have such axes fails.
      pixel_range: The values that become 0 and 1, see `data.check_range`, by default
        the range of the model. The percentiles of a stack are taken over all pages.
      transform: See `inference.find_scaling`; one transform for all pages of a stack.
      gain: The gain of the transform; None to estimate it from each file.
      offset: The offset of the transform; None to estimate it from each file.
      percentiles_by: Whether a stack has one range and transform for the whole "file",
        or each "page" its own.
      channels: "independent" denoises each channel of a picture as a gray picture;
        "auto" does so only for channels without a meaning. Pages along the axis C are
        channels for a network that takes so many, and no gray ones.
      dtype: The dtype of the outputs; by default the dtype of each file.
      trust: Whether to load any SavedModel, see `inference.SavedNetwork`.
      on_written: Called with each input and its output after the output is written.
        An error of this function is an error of the file.
      **options: `strength`, `self_ensemble`, `luminance_only`, `remove_outliers` and
        `return_std`, see `inference.Denoiser`. The standard deviations are written
        next to the outputs, see `std_maps`.

    Returns:
      The paths written.

    Raises:
      ValueError: Before any work, if an input has no pictures, two inputs have the
        same output, an output exists, or a range or option is not valid.
      BatchError: After the work, if some files could not be read, denoised or written;
        all others were.
    """
    tfflowdn.data.check_folder(output)
    pairs, omitted = plan(inputs, Path(output))
    if skip_existing:
        pairs = [(source, target) for source, target in pairs if not target.exists()]
    outputs = [target for _, target in pairs]
    if options.get("return_std"):
        outputs += [std_path(target) for target in outputs]
    check_outputs(outputs, overwrite)
    if model == AUTO and options.get("return_std"):
        model = GENERAL  # The model for cameras has no uncertainty.
    picker = ModelPicker(max_pixels) if model == AUTO else model
    denoiser = picker
    if isinstance(picker, ModelPicker):
        denoiser = picker.general
    elif not isinstance(model, tfflowdn.Denoiser):
        denoiser = tfflowdn.Denoiser.from_pretrained(
            model, max_pixels=max_pixels, trust=trust
        )
    scaling_options = {
        "pixel_range": pixel_range and tfflowdn.data.check_range(pixel_range),
        "transform": transform,
        "gain": gain,
        "offset": offset,
        "percentiles_by": percentiles_by,
    }
    # Validates the options early.
    denoiser([[0.0]], pixel_range="dtype", dtype=dtype, **options)
    together = () if channels == "independent" else denoiser.all_channels
    reading_options = {"axes": axes, "channels": together}
    progress = tfflowdn.progress.Progress(len(pairs), "picture")
    repairs = tfflowdn.inference.Repairs()

    def denoise(job: denoise_queue.Job) -> Callable[[], None]:
        chosen = denoiser
        if isinstance(picker, ModelPicker) and channels == "auto":
            chosen = picker(job.source, job.future)
        return denoise_one(
            job,
            chosen,
            options={**options, "dtype": dtype, "repairs": repairs},
            scaling_options=scaling_options,
            reading_options=reading_options,
            channels=channels,
            progress=progress,
        )

    written, failed = [], failures.Failures()
    with ThreadPoolExecutor(NUM_THREADS) as pool, progress:
        for job in denoise_queue.in_turn(pool, pairs, denoise, reading_options):
            try:
                job.future.result()
                if on_written is not None:
                    on_written(job.source, job.target)
            except Exception as error:  # It belongs to this file.
                failed.add(job.source, error)
            else:
                written.append(job.target)
    for sentence in repairs.sentences():
        logging.info("%s.", sentence)
    tfflowdn.data.log_omitted(omitted)
    log_renamed(pairs, written)
    failed.raise_any(len(pairs), output)
    return written


def _tell(source, target, picker):
    """Prints a line about a picture and writes its contact sheet, as the flags say."""
    if source.resolve() == target.resolve():
        return  # The input was replaced.
    if FLAGS.verbose:
        line = comparison.describe_pair(source, target, FLAGS.axes)
        if picker is not None and picker.describe(source):
            line = f"{line}; by {picker.describe(source)}"
        with tqdm.tqdm.external_write_mode():
            logging.info("%s", line)
    if FLAGS.compare:
        root, folder = Path(FLAGS.output), Path(FLAGS.compare)
        comparison.write_sheets([(source, target)], root, folder, FLAGS.axes)


def _main(argv):
    picker = ModelPicker(FLAGS.max_pixels) if FLAGS.model == AUTO else None
    written = denoise_files(
        argv[1:],
        FLAGS.output,
        picker or FLAGS.model,
        overwrite=FLAGS.overwrite,
        skip_existing=FLAGS.skip_existing,
        max_pixels=FLAGS.max_pixels,
        axes=FLAGS.axes,
        dtype=FLAGS.dtype,
        percentiles_by=FLAGS.percentiles_by,
        channels=FLAGS.channels,
        trust=FLAGS.trust_saved_model,
        return_std=FLAGS.std,
        on_written=functools.partial(_tell, picker=picker),
        **command.denoiser_options(FLAGS),
    )
    logging.info("%s", summary_line(written, FLAGS.output, picker))


def summary_line(
    written: Sequence[Path], output: str, picker: ModelPicker | None
) -> str:
    """Returns a sentence about the results and the models that were picked."""
    noun = "picture is" if len(written) == 1 else "pictures are"
    models = "; ".join(picker.summary()) if picker and written else ""
    by_model = f" ({models})" if models else ""
    return f"{len(written)} {noun} in {output}{by_model}"


def main() -> None:
    """Runs the command."""
    flags.DEFINE_string(
        "model",
        AUTO,
        "The denoiser: a .keras file, a SavedModel folder, or a name. auto looks "
        "at each picture: JPEG photographs at the camera's own size get "
        "denoiser_camera, and all others get the general model for gray and color.",
    )
    flags.DEFINE_string("output", None, "Folder to write.")
    flags.DEFINE_bool("overwrite", False, "Replace files in the output folder.")
    flags.DEFINE_bool(
        "skip_existing",
        False,
        "Leave out files that have an output, to continue after a kill.",
    )
    command.define_stack_flags()
    flags.DEFINE_bool(
        "std",
        False,
        "Write NAME.std.tif (NAME.std.npy) next to each output: the standard deviation "
        "of the error of each pixel, in the units of the picture. The model needs an "
        "uncertainty, see train_uncertainty.",
    )
    flags.DEFINE_bool(
        "verbose", False, "Print a line about each picture: how much was removed."
    )
    flags.DEFINE_string(
        "compare", None, "Folder for a PNG of each picture, noisy next to denoised."
    )
    command.define_denoiser_flags()
    command.define_channels_flag()
    flags.DEFINE_enum(
        "dtype",
        None,
        DTYPES,
        "Type of the output pixels, whose values stay in the units of the input; by "
        "default the type of the input. The format must hold it.",
    )
    flags.DEFINE_integer(
        "max_pixels", None, "Pixels of a tile; by default as many as memory allows.", 1
    )
    command.require("output")
    command.run(_main, arguments="INPUT...")


if __name__ == "__main__":
    main()
