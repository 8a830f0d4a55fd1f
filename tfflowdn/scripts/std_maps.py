"""The maps of standard deviations that `denoise --std` writes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tifffile

import tfflowdn

__all__ = ["array_map", "page_maps", "std_path", "write_map"]

RGB = 3


def std_path(target: Path) -> Path:
    """Returns the path of the map next to an output: NAME.std.tif, or NAME.std.npy."""
    is_array = target.suffix.lower() == ".npy"
    return target.with_name(f"{target.name}.std{'.npy' if is_array else '.tif'}")


def write_map(target: Path, std: np.ndarray) -> None:
    """Writes the map of a picture, float32 [H, W, C], next to its output."""
    with page_maps(target) as add:
        add(std)


@contextlib.contextmanager
def page_maps(target: Path) -> Iterator[Callable[[np.ndarray], None]]:
    """Gives a function that adds the map [H, W, C] of the next page to a TIFF file.

    The file next to the output is written completely or not at all.

    Args:
      target: The output.
    """
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(_replaced(std_path(target)))
        writer = stack.enter_context(tifffile.TiffWriter(path, bigtiff=True))

        def add(std: np.ndarray) -> None:
            is_rgb = std.shape[-1] == RGB
            photometric = "rgb" if is_rgb else "minisblack"
            planes = std if is_rgb else np.moveaxis(std, -1, 0)
            writer.write(np.float32(planes), photometric=photometric, metadata=None)

        yield add


@contextlib.contextmanager
def array_map(target: Path, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Gives the array of a .npy file next to an output to be filled, float32.

    Args:
      target: The output.
      shape: The shape of the array.
    """
    with _replaced(std_path(target)) as path:
        array = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        yield array
        array.flush()


@contextlib.contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """Gives a temporary path that becomes `path` if there is no error."""
    with tfflowdn.files.temporary_folder(path.parent) as folder:
        temporary = folder / path.name
        yield temporary
        temporary.replace(path)
