"""Shared parts of the formats whose files hold one array of planes."""

from __future__ import annotations

import abc
import functools
import importlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from tfflowdn.data.formats.base import (
    Layout,
    Metadata,
    PageFunction,
    Picture,
    reading,
)
from tfflowdn.data.pixel_range import check_finite

__all__ = ["ArrayPicture", "import_extra"]


class ArrayPicture(Picture):
    """A file with an array [..., H, W] or [..., H, W, 3].

    A format implements `_array` and `_write_like`.
    """

    is_stack_or_large = True

    @property
    def num_pages(self) -> int:
        """The number of planes."""
        with reading(self.path):
            return len(self._planes)

    @functools.cached_property
    def _planes(self) -> np.ndarray:
        """The planes [n, H, W, C], on disk where possible."""
        array, has_colors = self._array()
        array = array if has_colors else array[..., np.newaxis]
        if array.ndim < 3 or 0 in array.shape or array.dtype.kind not in "iuf":
            raise ValueError(
                "the file must hold planes of numbers. "
                f"Received: {array.shape=}, {array.dtype=!s}."
            )
        return array.reshape(-1, *array.shape[-3:])

    @abc.abstractmethod
    def _array(self) -> tuple[np.ndarray, bool]:
        """Returns the array, and whether its last axis holds the colors."""

    @abc.abstractmethod
    def _write_like(self, target: Path, planes: np.ndarray) -> None:
        """Writes a file with other planes [n, H, W, C] and the same header."""

    def _layout(self) -> Layout:
        if len(self._planes) != 1:
            num_pages = len(self._planes)
            raise ValueError(f"the file must hold one plane. Received: {num_pages=}.")
        return self._page_layouts()[0]

    def _page_layouts(self) -> list[Layout]:
        dtype = self._planes.dtype.newbyteorder("=")
        layout = Layout(*self._planes.shape[1:], dtype, 1)
        return [layout] * len(self._planes)

    def _pixels(self) -> np.ndarray:
        return self._view(0)

    def _metadata(self) -> Metadata:
        return Metadata()

    def _view(self, index: int) -> np.ndarray:
        return self._planes[index]

    def _pages(
        self, folder: str | os.PathLike, indices: Sequence[int] | None
    ) -> Iterator[np.ndarray]:
        del folder  # The pixels stay in the file.
        native = self._planes.dtype.newbyteorder("=")
        for index in range(len(self._planes)) if indices is None else indices:
            yield np.array(self._planes[index], native)

    def _map_pages(
        self,
        target: Path,
        function: PageFunction,
        dtype: np.typing.DTypeLike | None,
    ) -> int:
        planes = self._planes
        kind = np.dtype(planes.dtype.newbyteorder("=") if dtype is None else dtype)
        results = np.empty(planes.shape, kind)
        for result, plane in zip(results, self._pages("", None), strict=True):
            check_finite(plane)
            function(plane, result)
        self._write_like(target, results)
        return int(np.prod(planes.shape[:3]))


def import_extra(module: str, extra: str) -> ModuleType:
    """Imports the library of a format.

    Args:
      module: The module.
      extra: The extra of this package that installs it.

    Raises:
      ValueError: If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"reading the format needs a library: pip install 'tfflowdn[{extra}]'. "
            f"Received: {error}."
        ) from error
