"""Denoises files and folders by a client of a server."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfflowdn import files
from tfflowdn.serving.answers import as_array
from tfflowdn.serving.requests import RequestError, ServerError

if TYPE_CHECKING:
    from tfflowdn.serving.client import Client

__all__ = ["denoise_folder", "find_omitted", "find_targets"]

SENT_SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
)  # The server decodes these itself.
CONVERTED_SUFFIXES = (".webp", ".tif", ".tiff")
SUFFIXES = (*SENT_SUFFIXES, *CONVERTED_SUFFIXES)
MAX_SILENT_FILES = 5


def denoise_folder(
    client: Client,
    sources: Sequence[Path],
    output: Path,
    *,
    parallel: int = 4,
    report: Callable[[], None] = lambda: None,
    on_failure: Callable[[Path, Exception], None] | None = None,
) -> dict[Path, str]:
    """Denoises files into a folder, several at a time.

    PNG and JPEG files are sent as they are, and the result is a PNG of the same name.
    TIFF and WebP files are read here, which imports TensorFlow: the pages of a TIFF are
    sent as PNG one by one, and the result is a TIFF with the same metadata; the result
    of a WebP file is a PNG.

    Args:
      client: The client of the server.
      sources: Files and folders of PNG, JPEG, TIFF and WebP files.
      output: Folder to write; it is made if it is absent.
      parallel: Number of requests at the same time.
      report: Is called after each file.
      on_failure: Is called for each file that failed, at the end, with the error.

    Returns:
      The files that failed, with the reason. After `MAX_SILENT_FILES` files in a row
      without an answer, the rest is not sent.

    Raises:
      ValueError: If two files have the same output path, there is no file, or a file
        that is named has an unsupported suffix.
    """
    targets = find_targets(sources, output)
    silent, lock = _SilentFiles(), threading.Lock()

    def denoise(target):
        try:
            silent.check()
            target.parent.mkdir(parents=True, exist_ok=True)
            _denoise_one(client, targets[target], target)
        except ServerError as error:
            silent.add()
            return error
        except Exception as error:  # An error of one file does not stop the others.
            silent.reset()
            return error
        finally:
            with lock:
                report()
        silent.reset()
        return None

    with concurrent.futures.ThreadPoolExecutor(parallel) as executor:
        errors = list(executor.map(denoise, targets))
    results = zip(targets.values(), errors, strict=True)
    failures = {source: error for source, error in results if error is not None}
    for source, error in failures.items():
        if on_failure is not None:
            on_failure(source, error)
    return {source: _reason(error) for source, error in failures.items()}


def _reason(error):
    known = isinstance(error, (RequestError, OSError, ValueError))
    return str(error) if known else f"{type(error).__name__}: {error}"


class _SilentFiles:
    """Counts files in a row that got no answer."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = threading.Lock()

    def check(self) -> None:
        if self._count >= MAX_SILENT_FILES:
            raise ServerError(
                f"The file was not sent, because {MAX_SILENT_FILES} files in a row "
                "got no answer."
            )

    def add(self) -> None:
        with self._lock:
            self._count += 1

    def reset(self) -> None:
        with self._lock:
            self._count = 0


def _denoise_one(client, source, target):
    if source.suffix.lower() in SENT_SUFFIXES:
        (denoised,) = client.denoise_files([source.read_bytes()])
        files.replace(target, lambda temporary: temporary.write_bytes(denoised))
    else:
        _denoise_converted(client, source, target)


def _denoise_converted(client, source, target):
    """Denoises a file that the server cannot decode."""
    from tfflowdn import data

    with data.open_picture(source) as picture:
        is_independent = picture.layout().is_independent

    def denoise(pixels, out):
        out[:] = _denoise_page(client, pixels, is_independent)

    try:
        if data.is_stack_or_large(source):
            data.map_pages(source, target, denoise)
            return
    except data.ImageReadError as error:
        if isinstance(error.__cause__, (RequestError, ServerError)):
            raise error.__cause__ from None
        raise
    metadata = data.read_metadata(source)
    pixels = _denoise_page(client, data.read_image(source), is_independent)
    data.write_image(target, pixels, metadata)


def _denoise_page(client, pixels, is_independent):
    """Denoises [H, W, C] without missing pixels, and puts these back.

    Channels without a meaning are sent one by one.
    """
    from tfflowdn import data

    filled = data.fill_gaps(pixels)
    if is_independent:
        channels = np.split(filled, filled.shape[-1], -1)
        denoised = [_denoise_pixels(client, channel) for channel in channels]
        result = np.concatenate(denoised, -1)
    else:
        result = np.array(_denoise_pixels(client, filled))
    data.restore_gaps(result, pixels)
    return result


def _denoise_pixels(client, pixels):
    """Denoises [H, W, C] of 8 or 16 bits by way of PNG."""
    import tensorflow as tf

    if pixels.dtype not in (np.uint8, np.uint16):
        raise RequestError(
            "The server takes unsigned pixels of 8 or 16 bits; the command denoise "
            f"takes others. Received: dtype={pixels.dtype}."
        )
    pixels = np.ascontiguousarray(pixels)
    (denoised,) = client.denoise_files([tf.io.encode_png(pixels).numpy()])
    denoised = tf.io.decode_png(denoised, dtype=pixels.dtype).numpy()
    return as_array(denoised, pixels)


def find_targets(sources: Iterable[Path], output: Path) -> dict[Path, Path]:
    """Returns the file to denoise by the path to write, see `denoise_folder`.

    Raises:
      ValueError: If two files have the same output path, there is no file, or a file
        that is named has an unsupported suffix.
    """
    targets = {}
    for source in sources:
        root = source if source.is_dir() else source.parent
        for path in _pictures(source, output):
            target = output / path.relative_to(root)
            if path.suffix.lower() not in (".tif", ".tiff"):
                target = target.with_suffix(".png")
            if target in targets:
                raise ValueError(
                    "The files must have different names. "
                    f"Received: {targets[target]} and {path}, both for {target}."
                )
            targets[target] = path
    if not targets:
        raise ValueError(
            f"There must be pictures ({', '.join(SUFFIXES)}). "
            f"Received: {[*map(str, sources)]}."
        )
    return targets


def find_omitted(sources: Iterable[Path], output: Path) -> list[Path]:
    """Returns the files of folders that `denoise_folder` does not send.

    Args:
      sources: Files and folders.
      output: The folder of the results, which is not looked at.
    """
    return sorted(
        path
        for source in sources
        if source.is_dir()
        for path in source.rglob("*")
        if path.is_file()
        and path.suffix.lower() not in SUFFIXES
        and not path.name.startswith(".")
        and output not in path.parents
    )


def _pictures(source, output):
    """Returns a file, or the pictures of a folder that are not in `output`."""
    if source.is_dir():
        return sorted(
            path
            for path in source.rglob("*")
            if path.suffix.lower() in SUFFIXES
            and not path.name.startswith(".")
            and output not in path.parents
        )
    if source.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"A file must be a picture ({', '.join(SUFFIXES)}). "
            f"Received: {str(source)!r}."
        )
    return [source]
