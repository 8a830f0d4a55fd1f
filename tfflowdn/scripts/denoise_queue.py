"""Reads the files of `denoise` ahead, and writes results during the next ones."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import tfflowdn

__all__ = ["ARRAY_SUFFIX", "Job", "in_turn", "read"]

ARRAY_SUFFIX = ".npy"
NUM_AHEAD, NUM_BEHIND = 4, 4
MAX_WAITING_BYTES = 2**28


class Job(NamedTuple):
    """A file that is being read or written: pixels and metadata, or their number."""

    source: Path
    target: Path
    num_bytes: int
    future: Future


def in_turn(
    pool: ThreadPoolExecutor,
    pairs: Iterable[tuple[Path, Path]],
    denoise: Callable[[Job], Callable[[], None]],
    reading_options: Mapping[str, Any] | None = None,
) -> Iterator[Job]:
    """Denoises here, while the pool reads the next files and writes the last ones.

    A few files wait in memory, and only one if it takes more than `MAX_WAITING_BYTES`.

    Args:
      pool: Reads and writes.
      pairs: The paths of the inputs and outputs.
      denoise: Denoises a job, and returns the function that writes its result.
      reading_options: `axes` and `channels` of `data.open_picture`.
    """
    options = reading_options or {}
    reading, writing = collections.deque(), collections.deque()
    upcoming = ((*pair, _num_bytes(pair[0], options)) for pair in pairs)
    ahead = next(upcoming, None)
    while ahead or reading:
        while ahead and len(reading) < NUM_AHEAD:
            source, target, num_bytes = ahead
            waiting = sum(job.num_bytes for job in (*reading, *writing)) + num_bytes
            if waiting > MAX_WAITING_BYTES and (reading or writing):
                break
            future = pool.submit(read, source, options)
            reading.append(Job(source, target, num_bytes, future))
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


def _num_bytes(path, options):
    """Returns the bytes of a picture, 0 if it stays on disk or is broken."""
    try:
        header = tfflowdn.data.image_header(path, **options)
    except tfflowdn.data.ImageReadError:
        return 0
    return header.height * header.width * header.channels * header.dtype.itemsize


def read(path: Path, options: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Returns pixels and metadata; None for a file that is read part by part.

    Args:
      path: The file.
      options: `axes` and `channels` of `data.open_picture`.
    """
    if path.suffix.lower() == ARRAY_SUFFIX:
        return None
    with tfflowdn.data.open_picture(path, **options) as picture:
        if picture.is_stack_or_large:
            return None
        metadata = picture.metadata()
        return picture.read(), metadata, picture.layout()
