"""Pictures whose channels are stored as pages, such as the dyes of a microscope."""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from tfflowdn.data import memory
from tfflowdn.data.axes import seen_together
from tfflowdn.data.formats.base import Layout, Metadata, PageFunction, Picture

__all__ = ["ChannelPages", "with_axes"]


def with_axes(
    picture: Picture, axes: str | None, channels: Collection[int] | None
) -> Picture:
    """Returns a picture with the meaning of its axes.

    Args:
      picture: The open picture.
      axes: One letter for each axis, such as "TCYX"; S is the axis of the samples of a
        pixel and may be left out. Axes of length 1 may be absent in the file. None for
        the axes that the file names.
      channels: The numbers of channels that are seen together; None for any.

    Returns:
      The picture, or one whose pages along the axis C are channels.

    Raises:
      ValueError: If the axes do not fit the pages of the file.
    """
    picture.axes, picture.channels = axes, channels
    if picture.has_all_axes:
        return picture
    letters, shape = "", ()
    if axes is not None:
        letters, shape = _named(picture, axes.upper(), channels)
    elif channels is None or (len(channels) and 1 not in channels):
        letters, shape = picture.page_axes()
    place = letters.find("C")
    together = seen_together(channels, letters)
    if place < 0 or 1 in together or shape[place] not in together:
        return picture
    return ChannelPages(picture, shape[place], math.prod(shape[place + 1 :]))


class ChannelPages(Picture):
    """A picture with the pages of another one as channels.

    Args:
      pages: The other picture, with gray pages.
      count: The number of channels.
      stride: The distance between the pages of two channels.
    """

    is_stack_or_large = True

    def __init__(self, pages: Picture, count: int, stride: int) -> None:
        super().__init__(pages.path, None)
        self.axes, self.channels = pages.axes, pages.channels
        self._pages_of_file, self._count, self._stride = pages, count, stride
        self.notes = pages.notes

    @property
    def num_pages(self) -> int:
        """The number of pictures."""
        return self._pages_of_file.num_pages // self._count

    def close(self) -> None:
        """Closes the file."""
        self._pages_of_file.close()

    def crop(self, index: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """See `Picture.crop`."""
        pages = self._pages_of_file
        return _joined([pages.crop(i, rows, columns) for i in self._group(index)])

    def _group(self, index: int) -> range:
        """Returns the pages of a picture."""
        block, place = divmod(index, self._stride)
        first = block * self._count * self._stride + place
        return range(first, first + self._count * self._stride, self._stride)

    def _layout(self) -> Layout:
        if (num_pages := self.num_pages) != 1:
            raise ValueError(f"the file must hold one picture. Received: {num_pages=}.")
        return self._page_layouts()[0]

    @functools.cached_property
    def _layouts(self) -> list[Layout]:
        headers = self._pages_of_file.page_headers()
        layouts = []
        for index in range(self.num_pages):
            kinds = {headers[page] for page in self._group(index)}
            header = headers[self._group(index)[0]]
            if len(kinds) != 1 or header.channels != 1:
                raise ValueError(
                    "pages that are the channels of a picture must be gray, and have "
                    f"one size and dtype. Received: {sorted(map(tuple, kinds))}."
                )
            size = (header.height, header.width, self._count)
            layouts.append(Layout(*size, header.dtype, 1, True))
        return layouts

    def _page_layouts(self) -> list[Layout]:
        return self._layouts

    def _view(self, index: int) -> np.ndarray:
        layout = self._layouts[index]
        memory.check_fits(layout[:3], layout.dtype)
        pages = self._pages_of_file
        return _joined([pages.view(page) for page in self._group(index)])

    def _pixels(self) -> np.ndarray:
        return self._view(0)

    def _metadata(self) -> Metadata:
        return self._pages_of_file.metadata()

    def _pages(
        self, folder: str | os.PathLike, indices: Sequence[int] | None
    ) -> Iterator[np.ndarray]:
        del folder  # One picture must fit into memory.
        for index in range(self.num_pages) if indices is None else indices:
            yield self._view(index)

    def _map_pages(
        self,
        target: Path,
        function: PageFunction,
        dtype: np.typing.DTypeLike | None,
    ) -> int:
        """Writes the pages of the file in their order.

        The results of some pictures are kept until their last channel is written: of
        one picture, or of all that lie between two channels of the same one.
        """
        results = {}
        for index, layout in enumerate(self._layouts[: self._stride]):
            kind = np.dtype(layout.dtype if dtype is None else dtype)
            num_bytes = self._stride * math.prod(layout[:3]) * kind.itemsize
            if memory.is_large(num_bytes):
                shape, folder = layout[:3], os.path.dirname(os.path.abspath(target))
                results[index] = memory.mapped_array(shape, kind, folder)
            else:
                results[index] = np.empty(layout[:3], kind)
        numbers = itertools.count()

        def fill(page: np.ndarray, out: np.ndarray) -> None:
            del page  # It is read again with the other channels.
            number = next(numbers)
            block, place = divmod(number, self._count * self._stride)
            channel, place = divmod(place, self._stride)
            if channel == 0:
                picture = self._view(block * self._stride + place)
                results[place] = _like(results[place], picture)
                function(picture, results[place])
            out[...] = results[place][..., channel, np.newaxis]

        return self._pages_of_file.map_pages(target, fill, dtype)


def _like(result: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Returns an array to fill in the shape of a picture."""
    is_equal = result.shape == picture.shape
    return result if is_equal else np.empty(picture.shape, result.dtype)


def _joined(pages: Sequence[np.ndarray]) -> np.ndarray:
    """Returns gray pages [..., 1] as channels, with their masks."""
    is_masked = any(map(np.ma.isMaskedArray, pages))
    join = np.ma.concatenate if is_masked else np.concatenate
    return join(pages, -1)


def _named(
    picture: Picture, axes: str, channels: Collection[int] | None
) -> tuple[str, tuple[int, ...]]:
    """Returns letters and lengths of the axes of the pages, as the user names them."""
    own, shape = picture.page_axes()
    samples, count = picture.layout().channels, picture.num_pages
    received = f"Received: {axes=}, {count} pages with {samples} samples for a pixel"
    letters = "".join(axis for axis in axes if axis not in "YXS")
    if samples > 1 and "S" not in axes:  # The file says which samples a pixel has.
        letters = letters.replace("C", "")
    is_valid = len(set(axes)) == len(axes) and set("YX") <= set(axes)
    if not is_valid or (count > 1 and not letters):
        raise ValueError(
            "axes must name each axis of the file by a different letter, among them "
            f"Y and X. {received}."
        )
    if len(letters) == len(shape):
        return letters, shape
    if count == 1 or "C" not in letters:
        return letters, (1,) * len(letters)
    if len(letters) == 1:
        return letters, (count,)
    if "".join(axis for axis in letters if axis in own) == own:
        return own, shape
    together = seen_together(channels, axes)
    place, one = letters.find("C"), together[0] if together else 1
    if len(together) > 1 or count % one or place not in (0, len(letters) - 1):
        raise ValueError(
            "axes must fit the file, which does not store the lengths of its axes: C "
            "must then be the first or the last axis of the pages, with as many "
            f"channels as the model. {received}, channels={together}."
        )
    rest = count // one
    return ("CR", (one, rest)) if place == 0 else ("RC", (rest, one))
