"""MRC, the format of electron microscopes, by mrcfile."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfflowdn.data.formats.array_picture import (
    ArrayPicture,
    Form,
    import_extra,
)
from tfflowdn.data.formats.base import Codec

__all__ = ["MRC"]

_COPIED = ("cella", "cellb", "origin", "ispg", "exttyp", "nversion", "nlabl", "label")


class _MrcPicture(ArrayPicture):
    def _read_form(self) -> Form:
        array = self._array
        count = int(np.prod(array.shape[:-2]))
        return Form(count, *array.shape[-2:], 1, array.dtype)

    @functools.cached_property
    def _array(self) -> np.ndarray:
        """The array in the file, whose size mrcfile compares with its header."""
        library = import_extra("mrcfile", "microscopy")
        with library.mmap(self.path, "r") as file:
            if file.data.ndim < 2:
                raise ValueError(f"the file must hold planes. Received: {file.data=}.")
            return file.data

    def _plane(self, index: int) -> np.ndarray:
        planes = self._array.reshape(-1, *self._array.shape[-2:])
        return planes[index][..., np.newaxis]

    def _write_planes(
        self, target: Path, dtype: np.dtype, planes: Iterator[np.ndarray]
    ) -> None:
        library = import_extra("mrcfile", "microscopy")
        mode = library.utils.mode_from_dtype(dtype)
        with library.open(self.path, "r", header_only=True) as source:
            extended, header = source.extended_header, source.header
        with library.new_mmap(
            target, self._array.shape, mode, overwrite=True, extended_header=extended
        ) as file:
            values = _Statistics()
            stored = file.data.reshape(-1, *file.data.shape[-2:])
            for place, plane in zip(stored, planes, strict=True):
                place[...] = plane[..., 0]
                values.add(plane)
            for name in _COPIED:
                file.header[name] = header[name]
            file.header.mz = header.mz
            values.store(file.header)


class _Statistics:
    """The statistics of a header, from one plane after the other."""

    def __init__(self):
        self._number, self._sum, self._squares = 0, 0.0, 0.0
        self._lowest, self._highest = np.inf, -np.inf

    def add(self, plane: np.ndarray) -> None:
        """Adds a plane."""
        values = plane.astype(np.float64)
        self._number += values.size
        self._sum += values.sum()
        self._squares += (values**2).sum()
        self._lowest = min(self._lowest, values.min())
        self._highest = max(self._highest, values.max())

    def store(self, header: np.recarray) -> None:
        """Writes the statistics into a header."""
        mean = self._sum / self._number
        header.dmin, header.dmax, header.dmean = self._lowest, self._highest, mean
        header.rms = max(0.0, self._squares / self._number - mean**2) ** 0.5


def _write(path: Path, array: np.ndarray, values: Mapping[str, Any]) -> None:
    del values
    library = import_extra("mrcfile", "microscopy")
    with library.new(path, array[..., 0], overwrite=True):
        pass


MRC = Codec(
    name="MRC",
    family="mrc",
    suffixes=(".mrc", ".mrcs"),
    magics=(b"?" * 208 + b"MAP ",),
    open=_MrcPicture,
    write=_write,
    kinds={},
)
