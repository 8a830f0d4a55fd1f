"""Denoises files.

    denoise INPUT... --output DIR [--model MODEL]

Each INPUT is a PNG, JPEG, WebP, TIFF, BMP, GIF, MRC, FITS, DICOM or .npy file, or a
folder of them, whose tree is repeated in DIR. The outputs keep name, format, dtype,
alpha, color profile, resolution and EXIF. TIFF stacks are denoised page by page and
large pictures tile by tile, with the same result. Pixel values are scaled as in the
training of the model, or by --range, and scaled back. A file that cannot be denoised
does not stop the others; it is named at the end, and the exit code is 1. Files of a
folder that are not read, such as RAW files, are also named at the end.

Example: all pictures of a folder, with the general model:

    denoise photos --output denoised
"""

from __future__ import annotations

import collections
import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import tqdm
from absl import flags, logging

import tfflowdn
from tfflowdn.scripts import command, comparison, failures

__all__ = ["denoise_files", "main"]

FLAGS = flags.FLAGS
ARRAY_SUFFIX = ".npy"
DTYPES = (
    *("uint8", "int8", "uint16", "int16", "uint32", "int32"),
    *("float16", "float32", "float64"),
)
GENERAL = "general"
INDEPENDENT = {"axes": "YXC", "percentiles_by": "page"}  # C counts gray planes.
NUM_THREADS, NUM_AHEAD, NUM_BEHIND = 4, 4, 4
MAX_WAITING_BYTES = 2**28


class _Job(NamedTuple):
    """A file that is being read or written: pixels and metadata, or their number."""

    source: Path
    target: Path
    num_bytes: int
    future: Future


def denoise_files(
    inputs: list[str],
    output: str,
    model: str | tfflowdn.Denoiser = GENERAL,
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
    """Denoises files and the files of folders; reads and writes others meanwhile.

    Files below `output` are not inputs, unless `output` is the input folder itself.
    Files of folders that are not read are logged at the end with the reasons.

    Args:
      inputs: Files and folders.
      output: Folder to write, made if it is absent.
      model: A denoiser, or the name or path of one, see
        `inference.Denoiser.from_pretrained`.
      overwrite: Whether files in `output` may be replaced.
      skip_existing: Whether files that already have an output are left out.
      max_pixels: Pixels to give to the network at once, see `inference.Denoiser`;
        only for a model that is given by name or path.
      axes: The meaning of the axes of .npy files, see `inference.Denoiser`.
      pixel_range: The values that become 0 and 1, see `data.check_range`, by default
        the range of the model. The percentiles of a stack are taken over all pages.
      transform: See `inference.find_scaling`; one transform for all pages of a stack.
      gain: The gain of the transform; None to estimate it from each file.
      offset: The offset of the transform; None to estimate it from each file.
      percentiles_by: Whether a stack has one range and transform for the whole "file",
        or each "page" its own.
      channels: "independent" denoises each channel of a picture as a gray picture;
        "auto" does so only for channels without a meaning.
      dtype: The dtype of the outputs; by default the dtype of each file.
      trust: Whether to load any SavedModel, see `inference.SavedNetwork`.
      on_written: Called with each input and its output when that is written; an error
        of it counts as one of the file.
      **options: `strength`, `self_ensemble` and `luminance_only`, see
        `inference.Denoiser`.

    Returns:
      The paths written.

    Raises:
      ValueError: Before any work, if an input has no pictures, two inputs have the
        same output, an output exists, or a range or option is not valid.
      BatchError: After the work, if some files could not be read, denoised or written;
        all others were.
    """
    tfflowdn.data.check_folder(output)
    pairs, omitted = _plan(inputs, Path(output))
    if skip_existing:
        pairs = [(source, target) for source, target in pairs if not target.exists()]
    _check_outputs([target for _, target in pairs], overwrite)
    denoiser = model
    if not isinstance(model, tfflowdn.Denoiser):
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
    if axes and any(source.suffix.lower() != ARRAY_SUFFIX for source, _ in pairs):
        logging.warning("--axes is for .npy files; each page of a TIFF is a picture.")
    progress = tfflowdn.progress.Progress(len(pairs), "picture")
    denoise = functools.partial(
        _denoise,
        denoise=functools.partial(denoiser, dtype=dtype, **options),
        find_scaling=functools.partial(denoiser.find_scaling, dtype=dtype),
        scaling_options=scaling_options,
        axes=axes,
        channels=channels,
        progress=progress,
    )
    written, failed = [], failures.Failures()
    with ThreadPoolExecutor(NUM_THREADS) as pool, progress:
        for job in _in_turn(pool, pairs, denoise):
            try:
                job.future.result()
                if on_written is not None:
                    on_written(job.source, job.target)
            except Exception as error:  # It belongs to this file.
                failed.add(job.source, error)
            else:
                written.append(job.target)
    tfflowdn.data.log_omitted(omitted)
    failed.raise_any(len(pairs), output)
    return written


def _in_turn(
    pool: ThreadPoolExecutor,
    pairs: Iterable[tuple[Path, Path]],
    denoise: Callable[[_Job], Callable[[], None]],
) -> Iterator[_Job]:
    """Denoises here, while the pool reads the next files and writes the last ones.

    A few files wait in memory, and only one if it takes more than `MAX_WAITING_BYTES`.
    """
    reading, writing = collections.deque(), collections.deque()
    upcoming = ((*pair, _num_bytes(pair[0])) for pair in pairs)
    ahead = next(upcoming, None)
    while ahead or reading:
        while ahead and len(reading) < NUM_AHEAD:
            source, target, num_bytes = ahead
            waiting = sum(job.num_bytes for job in (*reading, *writing)) + num_bytes
            if waiting > MAX_WAITING_BYTES and (reading or writing):
                break
            future = pool.submit(_read, source)
            reading.append(_Job(source, target, num_bytes, future))
            ahead = next(upcoming, None)
        if reading:
            job = reading.popleft()
            writing.append(job._replace(future=_start_writing(pool, job, denoise)))
        if len(writing) > NUM_BEHIND or not reading:
            yield writing.popleft()
    yield from writing


def _start_writing(pool, job, denoise):
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
        return pool.submit(denoise(job))
    except Exception as error:  # `denoise_files` gets it with the result.
        failed = Future()
        failed.set_exception(error)
        return failed


def _num_bytes(path):
    """Returns the bytes of a picture, 0 if it stays on disk or is broken."""
    try:
        header = tfflowdn.data.image_header(path)
    except tfflowdn.data.ImageReadError:
        return 0
    return header.height * header.width * header.channels * header.dtype.itemsize


def _read(path):
    """Returns pixels and metadata; None for a file that is read part by part."""
    if path.suffix.lower() == ARRAY_SUFFIX:
        return None
    with tfflowdn.data.open_picture(path) as picture:
        if picture.is_stack_or_large:
            return None
        metadata = picture.metadata()
        return picture.read(), metadata, picture.has_independent_channels()


def _denoise(job, denoise, find_scaling, scaling_options, axes, channels, progress):
    """Denoises a file, shows the progress, and returns a function that writes it."""
    gray_options = {k: v for k, v in scaling_options.items() if k != "percentiles_by"}
    read, is_array = job.future.result(), job.source.suffix.lower() == ARRAY_SUFFIX

    def find(pictures):
        options = {k: v for k, v in scaling_options.items() if k != "percentiles_by"}
        scaling = find_scaling(pictures, **options)
        for note in scaling.notes:
            logging.warning("%s: %s.", job.source, note)
        return scaling

    with _one_picture(progress) as on_share:
        if read is None and is_array:
            denoise = functools.partial(denoise, axes=axes, **scaling_options)
            _denoise_array(job, denoise, axes, on_share)
            return lambda: None
        if read is None:
            by_page = scaling_options["percentiles_by"] == "page"
            if channels == "independent" or _has_independent_channels(job.source):
                denoise = functools.partial(denoise, **INDEPENDENT, **gray_options)
                find, by_page = None, True
            _denoise_pages(job, denoise, find, by_page, on_share)
            return lambda: None
        pixels, metadata, is_independent = read
        if metadata.conversion:
            logging.warning("%s is converted: %s.", job.source, metadata.conversion)
        size = pixels.shape[0] * pixels.shape[1]
        if is_independent or channels == "independent":
            denoise = functools.partial(denoise, **INDEPENDENT, **gray_options)
            size *= pixels.shape[-1]
        else:
            denoise = functools.partial(denoise, pixel_range=find([pixels]))
        result = denoise(pixels, on_pixels=lambda n: on_share(n / size))
        return lambda: tfflowdn.data.write_image(job.target, result, metadata)


def _denoise_array(job, denoise, axes, on_share):
    """Denoises and writes an array, whose values are read where they are used."""

    def fill(array, out):
        size = array.size if axes else array.shape[0] * array.shape[1]
        denoise(array, out=out, on_pixels=lambda n: on_share(n / size))

    tfflowdn.data.map_array(job.source, job.target, fill, denoise.keywords["dtype"])


def _denoise_pages(job, denoise, find_scaling, by_page, on_share):
    """Denoises and writes a file whose pages are read one by one."""
    pages = _Pages(job.source, job.target.parent)
    shared = None if by_page else find_scaling(pages)

    def fill(page, out):
        if find_scaling is not None:
            scaling = shared or find_scaling([page])
            keywords = {"pixel_range": scaling}
        else:
            keywords = {}
        size = len(pages) * page.shape[0] * page.shape[1]
        on_pixels = lambda n: on_share(n / size)  # noqa: E731
        denoise(page, out=out, on_pixels=on_pixels, **keywords)

    dtype = denoise.keywords["dtype"]
    tfflowdn.data.map_pages(job.source, job.target, fill, dtype)


def _has_independent_channels(path):
    with tfflowdn.data.open_picture(path) as picture:
        return picture.has_independent_channels()


class _Pages(Sequence):
    """The pages of a file, each read when it is asked for."""

    def __init__(self, path, folder):
        self._path, self._folder = path, folder
        self._count = tfflowdn.data.num_pages(path)

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        (page,) = tfflowdn.data.read_pages(self._path, self._folder, [index])
        return page

    def __iter__(self):
        return tfflowdn.data.read_pages(self._path, self._folder)


@contextlib.contextmanager
def _one_picture(progress):
    """Gives a function that shows that a share of a picture is done; the end adds all.

    A picture that fails is also done.
    """
    left = 1.0

    def on_share(share):
        nonlocal left
        share = min(left, share)
        left -= share
        progress.update(share)

    try:
        yield on_share
    finally:
        progress.update(left)


def _plan(inputs, output):
    """Returns the pairs of a file to read and one to write, and what is left out."""
    pairs, omitted = [], {}
    for path in map(Path, inputs):
        if path.is_file():
            pairs.append((path, output / path.name))
            continue
        # An output folder below the input holds results of an earlier run.
        is_inside = output.resolve() != path.resolve()
        left_out = [output.resolve()] if is_inside else []
        listing = tfflowdn.data.list_pictures(path, left_out)
        omitted |= listing.omitted
        if not listing.pictures:
            tfflowdn.data.log_omitted(omitted)
            raise ValueError(
                "An input must be a picture or a folder with pictures "
                f"({', '.join(tfflowdn.data.PICTURE_SUFFIXES)}). "
                f"Received: {str(path)!r}."
            )
        pairs += [(file, output / file.relative_to(path)) for file in listing.pictures]
    return pairs, omitted


def _check_outputs(targets, overwrite):
    counts = collections.Counter(targets)
    twice = sorted(str(target) for target, count in counts.items() if count > 1)
    if twice:
        raise ValueError(f"Two inputs must not share an output. Received: {twice[:3]}.")
    existing = [str(target) for target in targets if target.exists()]
    if existing and not overwrite:
        raise ValueError(
            "Outputs must not exist, or --overwrite must be set. "
            f"Received: {existing[:3]}, {len(existing)} in all."
        )


def _tell(source, target):
    """Prints a line about a picture and writes its contact sheet, as the flags say."""
    if source.resolve() == target.resolve():
        return  # The input was replaced.
    if FLAGS.verbose:
        line = comparison.describe_pair(source, target, FLAGS.axes)
        with tqdm.tqdm.external_write_mode():
            logging.info("%s", line)
    if FLAGS.compare:
        root, folder = Path(FLAGS.output), Path(FLAGS.compare)
        comparison.write_sheets([(source, target)], root, folder, FLAGS.axes)


def _main(argv):
    written = denoise_files(
        argv[1:],
        FLAGS.output,
        FLAGS.model,
        overwrite=FLAGS.overwrite,
        skip_existing=FLAGS.skip_existing,
        max_pixels=FLAGS.max_pixels,
        axes=FLAGS.axes,
        dtype=FLAGS.dtype,
        percentiles_by=FLAGS.percentiles_by,
        channels=FLAGS.channels,
        trust=FLAGS.trust_saved_model,
        on_written=_tell,
        **command.denoiser_options(FLAGS),
    )
    noun = "picture is" if len(written) == 1 else "pictures are"
    logging.info("%d %s in %s", len(written), noun, FLAGS.output)


def main() -> None:
    """Runs the command."""
    flags.DEFINE_string(
        "model",
        GENERAL,
        "The denoiser: a .keras file, the folder of a SavedModel, or a name. The "
        "general model, for gray and color pictures, knows many kinds of noise.",
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
        "verbose", False, "Print a line about each picture: how much was removed."
    )
    flags.DEFINE_string(
        "compare", None, "Folder for a PNG of each picture, noisy next to denoised."
    )
    command.define_denoiser_flags()
    flags.DEFINE_enum(
        "channels",
        "auto",
        ("auto", "independent"),
        "independent: denoise each channel of a picture as a gray picture, as it is "
        "done for channels without a meaning, such as the dyes of a microscope.",
    )
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
