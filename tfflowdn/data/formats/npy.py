"""NumPy's .npy files: one array of any shape, mapped as a single page."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from tfflowdn.data import memory
from tfflowdn.data.axes import seen_together, split_pictures
from tfflowdn.data.formats.base import (
    Codec,
    Layout,
    Metadata,
    PageFunction,
    Picture,
    reading,
)
from tfflowdn.data.memory import check_fits

__all__ = ["NPY"]

_BFLOAT16_AS_STORED = np.dtype("V2")


class _NpyArray(Picture):
    is_stack_or_large = True
    has_all_axes = True

    @property
    def num_pages(self) -> int:
        """The number of planes."""
        with reading(self.path):
            return len(self._planes)

    def _layout(self) -> Layout:
        if len(self._planes) != 1:
            raise ValueError(
                "an array must hold one picture to be read as a whole. "
                f"Received: num_pages={len(self._planes)}."
            )
        return self._page_layouts()[0]

    def _page_layouts(self) -> list[Layout]:
        kind = self._pixels().dtype
        return [
            Layout(*plane.shape, kind, 1, plane.shape[-1] in self._together)
            for plane in self._planes
        ]

    @functools.cached_property
    def _planes(self) -> list[np.ndarray]:
        return split_pictures(self._pixels(), self.axes, self._together)

    @property
    def _together(self) -> tuple[int, ...]:
        return seen_together(self.channels, self.axes)

    def _view(self, index: int) -> np.ndarray:
        return self._planes[index]

    def _pages(
        self, folder: str | os.PathLike, indices: Sequence[int] | None
    ) -> Iterator[np.ndarray]:
        del folder  # The pixels stay in the file.
        chosen = range(len(self._planes)) if indices is None else indices
        yield from (np.array(self._planes[index]) for index in chosen)

    def read(self) -> np.ndarray:
        """See `Picture`."""
        with reading(self.path):
            layout = self._layout()
            check_fits(layout[:3], layout.dtype)
            return np.ascontiguousarray(self._planes[0])

    def _pixels(self) -> np.ndarray:
        array = np.lib.format.open_memmap(self.path, "r")
        if array.dtype == _BFLOAT16_AS_STORED:
            return array.view(ml_dtypes.bfloat16).astype(np.float32)
        return array

    def _metadata(self) -> Metadata:
        return Metadata()

    def _map_pages(
        self,
        target: Path,
        function: PageFunction,
        dtype: np.typing.DTypeLike | None,
    ) -> int:
        def fill(array: np.ndarray, result: np.ndarray) -> None:
            del array  # Its planes are used.
            results = split_pictures(result, self.axes, self._together)
            for plane, place in zip(self._planes, results, strict=True):
                function(plane, place)

        return self.map_array(target, fill, dtype)

    def map_array(
        self,
        target: Path,
        function: PageFunction,
        dtype: np.typing.DTypeLike | None = None,
    ) -> int:
        """Writes a file with the result of `function` for the whole array.

        Args:
          target: The file to write.
          function: Takes the array and one of the same shape, which it fills.
          dtype: The dtype of the result, by default the dtype of the array.

        Returns:
          The number of values.
        """
        with reading(self.path):
            return self._map_array(target, function, dtype)

    def _map_array(
        self,
        target: Path,
        function: PageFunction,
        dtype: np.typing.DTypeLike | None,
    ) -> int:
        array = self._pixels()
        stored = np.lib.format.open_memmap(self.path, "r").dtype
        if stored == _BFLOAT16_AS_STORED and dtype is None:
            result = np.empty(array.shape, np.float32)
            function(array, result)
            _write(target, result.astype(ml_dtypes.bfloat16), {})
            return array.size
        dtype = np.dtype(array.dtype if dtype is None else dtype)
        if not memory.is_large(array.size * dtype.itemsize):
            result = np.empty(array.shape, dtype)
            function(array, result)
            _write(target, result, {})
            return array.size
        result = np.lib.format.open_memmap(target, "w+", dtype=dtype, shape=array.shape)
        with target.open("r+b") as file:
            memory.reserve(file.fileno(), target.stat().st_size)
        function(array, result)
        result.flush()
        return array.size


def _write(path: Path, array: np.ndarray, values: Mapping[str, Any]) -> None:
    del values  # An array has no metadata.
    with path.open("wb") as file:
        np.save(file, array)


NPY = Codec(
    name="NPY",
    family="npy",
    suffixes=(".npy",),
    magics=(b"\x93NUMPY",),
    open=_NpyArray,
    write=_write,
    kinds={},
)
