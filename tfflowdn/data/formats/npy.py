"""NumPy's .npy files: one array of any shape, mapped as a single page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfflowdn.data import memory
from tfflowdn.data.formats.base import Codec, Layout, Metadata, PageFunction, Picture

__all__ = ["NPY"]


class _NpyArray(Picture):
    is_stack_or_large = True

    def _layout(self) -> Layout:
        raise ValueError("an array must be given the meaning of its axes.")

    def _pixels(self) -> np.ndarray:
        return np.lib.format.open_memmap(self.path, "r")

    def _metadata(self) -> Metadata:
        return Metadata()

    def _map_pages(
        self,
        target: Path,
        function: PageFunction,
        dtype: np.typing.DTypeLike | None,
    ) -> int:
        array = self._pixels()
        dtype = np.dtype(array.dtype if dtype is None else dtype)
        if not memory.is_large(array.size * dtype.itemsize):
            result = np.empty(array.shape, dtype)
            function(array, result)
            _write(target, result, {})
            return array.size
        result = np.lib.format.open_memmap(target, "w+", dtype=dtype, shape=array.shape)
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
