"""One file of `denoise_beam`: its pages, their scalings, and the result."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from tfflowdn import data
from tfflowdn.inference import Denoiser, Repairs, Scaling
from tfflowdn.inference.scaled_batch import rounded_target

__all__ = ["FileOptions", "Part", "parts", "write_result"]

_ALL = -1
_ARRAY_SUFFIX = ".npy"


@dataclasses.dataclass(frozen=True)
class FileOptions:
    """The options of files, see `denoise_files`.

    Attributes:
      pixel_range: The values that become 0 and 1; None for the range of the model.
      axes: The axes of arrays and stacks.
      channels: "auto" or "independent".
      percentiles_by: "file" or "page".
      transform: See `inference.find_scaling`, as for the next ones.
      gain: The gain of the transform.
      offset: The offset of the transform.
      dtype: The dtype of the results, or None.
      remove_outliers: Whether isolated hot and dead pixels are replaced.
    """

    pixel_range: str | None = None
    axes: str | None = None
    channels: str = "auto"
    percentiles_by: str = "file"
    transform: str = "none"
    gain: float | None = None
    offset: float | None = None
    dtype: str | None = None
    remove_outliers: bool = False

    def reading(self, together: tuple[int, ...]) -> dict[str, Any]:
        """Returns the options of `data.open_picture`.

        Args:
          together: The numbers of channels of the networks.
        """
        is_auto = self.channels == "auto"
        return {"axes": self.axes, "channels": together if is_auto else ()}

    @property
    def scaling(self) -> dict[str, Any]:
        """The options of `Denoiser.find_scaling`."""
        names = ("pixel_range", "transform", "gain", "offset", "dtype")
        return {name: getattr(self, name) for name in names}


class Part(NamedTuple):
    """A picture that is denoised by itself: a page, or one of its channels.

    Attributes:
      page: The number of the page.
      channel: The channel, or -1 for all.
      pixels: [H, W, C], without missing pixels and, if asked for, outliers.
      scaling: The map to the units of the network.
      has_alpha: Whether the last channel is alpha.
    """

    page: int
    channel: int
    pixels: np.ndarray
    scaling: Scaling
    has_alpha: bool


def parts(path: str, denoiser: Denoiser, options: FileOptions) -> Iterator[Part]:
    """Yields the parts of a file, after all its pages have been read once.

    Args:
      path: The file, on this machine.
      denoiser: The denoiser.
      options: The options.

    Raises:
      ImageReadError: If the file cannot be read.
      ValueError: If an option does not fit it.
    """
    reading = options.reading(denoiser.all_channels)
    with data.open_picture(path, **reading) as picture:
        layout, count = picture.layout(), picture.num_pages
    has_alpha = layout.has_alpha
    if path.lower().endswith(_ARRAY_SUFFIX):  # Arrays declare no alpha.
        has_alpha = layout.channels in (2, 4) and not layout.is_independent
    is_joint = layout.channels in denoiser.all_channels
    is_split = layout.is_independent and not is_joint
    is_split = is_split or options.channels == "independent"
    is_array = path.lower().endswith(_ARRAY_SUFFIX)
    by_page = options.percentiles_by == "page" or (is_array and options.axes is None)
    by_page = by_page or is_split
    find = functools.partial(denoiser.find_scaling, **options.scaling)
    shared = None
    if not by_page:
        pages = list(range(count))
        stack = _Pages(path, reading, pages)
        shared = find(stack, has_alpha=has_alpha)
    scalings = {}
    for number, page in enumerate(_pages(path, reading)):
        for channel, pixels in _channels(page, is_split, has_alpha):
            data.count_gaps(data.split_alpha(pixels, has_alpha and not is_split)[0])
            scaling = shared or find([pixels], has_alpha=has_alpha and not is_split)
            scalings[number, channel] = scaling
    for number, page in enumerate(_pages(path, reading)):
        for channel, pixels in _channels(page, is_split, has_alpha):
            alpha = has_alpha and not is_split
            repaired = Repairs().repaired(pixels, alpha, options.remove_outliers)
            scaling = scalings[number, channel]
            yield Part(number, channel, repaired, scaling, alpha)


def write_result(
    path: str,
    result: str,
    denoised: Mapping[tuple[int, int], tuple[np.ndarray, Scaling]],
    options: FileOptions,
    together: tuple[int, ...],
) -> None:
    """Writes denoised parts in the format of a file.

    Args:
      path: The file, on this machine.
      result: The path to write.
      denoised: Pixels [H, W, C] and scaling by page and channel; floats where integers
        must keep local means.
      options: The options.
      together: The numbers of channels of the networks.

    Raises:
      ValueError: If the format cannot hold the pixels.
    """
    reading = options.reading(together)
    numbers = iter(range(len(denoised)))

    def fill(page, out):
        _fill(out, page, next(numbers), denoised)

    if data.is_stack_or_large(path, **reading):
        data.map_pages(path, result, fill, options.dtype, **reading)
        return
    page = data.read_image(path)
    out = np.empty(page.shape, options.dtype or page.dtype)
    fill(page, out)
    data.write_image(result, out, data.read_metadata(path))


def _fill(out, page, number, denoised):
    """Fills a page with its parts; what they do not hold, alpha, is copied."""
    channels = [channel for one, channel in denoised if one == number]
    out[...] = np.ma.getdata(page) if channels != [_ALL] else 0
    for channel in channels:
        pixels, scaling = denoised[number, channel]
        place = out if channel == _ALL else out[..., channel : channel + 1]
        rounded_target(place, scaling)[:] = pixels
    data.restore_gaps(out, page)


def _pages(path, reading, indices=None):
    """Yields the pixels of a picture, or of the pages of a stack."""
    if data.is_stack_or_large(path, **reading):
        yield from data.read_pages(path, os.path.dirname(path), indices, **reading)
    else:
        yield data.read_image(path)


def _channels(page, is_split, has_alpha):
    """Yields the number and the pixels of channels, or -1 and the page."""
    if not is_split:
        yield _ALL, page
        return
    for channel in range(page.shape[-1] - has_alpha):
        yield channel, page[..., channel : channel + 1]


class _Pages:
    """The pages of a file as a sequence, each read when it is asked for."""

    def __init__(self, path, reading, indices):
        self._path, self._reading, self._indices = path, reading, indices

    def __len__(self):
        return len(self._indices)

    def __getitem__(self, index):
        (page,) = _pages(self._path, self._reading, [self._indices[index]])
        return page

    def __iter__(self):
        return _pages(self._path, self._reading)
