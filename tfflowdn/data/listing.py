"""The picture files of a folder, and the reasons why others are left out."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from absl import logging

from tfflowdn.data.formats import FOLDER_SUFFIXES, FORMATS, RAW_SUFFIXES, raw

__all__ = [
    "PICTURE_SUFFIXES",
    "Listing",
    "check_folder",
    "is_picture",
    "list_pictures",
    "log_omitted",
]

PICTURE_SUFFIXES = tuple(suffix for codec in FORMATS for suffix in codec.suffixes)
_MOST_SHOWN = 100
_RAW = "RAW is not supported; convert it to TIFF or pip install 'tfflowdn[raw]'"
_REASONS = dict.fromkeys(RAW_SUFFIXES, _RAW) | {
    **dict.fromkeys(
        (".jxl", ".lif", ".oib", ".oif", ".lsm", ".vsi", ".svs", ".psd", ".exr"),
        "the format is not supported; convert the file to TIFF",
    ),
    ".npz": "an .npz holds several arrays; save each as .npy",
}
_NO_PICTURE = "no picture format"


class Listing(NamedTuple):
    """The files of a folder.

    Attributes:
      pictures: The pictures, sorted.
      omitted: The reasons why other files and links are left out.
    """

    pictures: list[Path]
    omitted: Mapping[Path, str]


def check_folder(output: str | os.PathLike) -> None:
    """Checks that the name of a folder for pictures is not the name of a picture.

    Raises:
      ValueError: If it ends like a picture file and is not a folder that exists.
    """
    if Path(output).suffix.lower() in PICTURE_SUFFIXES and not Path(output).is_dir():
        raise ValueError(
            "output must be a folder; the pictures in it keep the names of the inputs. "
            f"Received: output={str(output)!r}, the name of a picture file."
        )


def is_picture(path: Path) -> bool:
    """Returns whether a path is a file, or a folder that holds one picture."""
    return path.is_file() or path.suffix.lower() in FOLDER_SUFFIXES and path.is_dir()


def list_pictures(folder: Path, left_out: Collection[Path] = ()) -> Listing:
    """Returns the pictures below a folder; links to folders are followed.

    Hidden files are neither returned nor named.

    Args:
      folder: The folder.
      left_out: Folders that are not entered, resolved.
    """
    pictures, omitted = [], {}
    for path, reason in _walk(folder, (), left_out):
        if reason is None and _is_read(path.suffix.lower()):
            pictures.append(path)
        else:
            omitted[path] = reason or reason_of(path)
    return Listing(sorted(pictures), omitted)


def reason_of(path: Path) -> str:
    """Returns why a file with such a name is not read."""
    return _REASONS.get(path.suffix.lower(), _NO_PICTURE)


def log_omitted(omitted: Mapping[Path, str]) -> None:
    """Logs the files that were left out, if there are any, with the reasons."""
    if not omitted:
        return
    lines = [f"  {path}: {reason}" for path, reason in omitted.items()]
    # Files that look like pictures come first.
    lines.sort(key=lambda line: (line.endswith(_NO_PICTURE), line))
    more = len(lines) - _MOST_SHOWN
    tail = [f"  and {more} more"] if more > 0 else []
    noun = "file was" if len(lines) == 1 else "files were"
    shown = "\n".join([*lines[:_MOST_SHOWN], *tail])
    logging.warning("%d %s not read:\n%s", len(lines), noun, shown)


def _is_read(suffix: str) -> bool:
    if suffix in RAW_SUFFIXES and not raw.is_installed():
        return False
    return suffix in PICTURE_SUFFIXES


def _walk(
    folder: Path, parents: tuple[Path, ...], left_out: Collection[Path]
) -> Iterator[tuple[Path, str | None]]:
    """Yields files, and the reasons of files that cannot be read."""
    real = folder.resolve()
    if real in left_out:
        return
    if real in parents:
        yield folder, "a link to a folder that contains it"
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield folder, f"the folder cannot be read: {error.strerror}"
        return
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith("."):
            continue
        if is_picture(path):
            yield path, None
        elif path.is_dir():
            yield from _walk(path, (*parents, real), left_out)
        else:
            is_link = path.is_symlink()
            yield path, "a link to nothing" if is_link else "not a regular file"
