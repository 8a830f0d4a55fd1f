"""FITS, the format of astronomers: the first picture of a file, by astropy."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfflowdn.data import memory
from tfflowdn.data.formats.array_picture import (
    ArrayPicture,
    Form,
    import_extra,
)
from tfflowdn.data.formats.base import Codec

__all__ = ["FITS"]

_BLOCK = 2880
_BITPIX = {  # The stored type of each dtype, and the value that is stored as 0.
    "uint8": (8, ">u1", 0),
    "int8": (8, ">u1", -(2**7)),
    "int16": (16, ">i2", 0),
    "uint16": (16, ">i2", 2**15),
    "int32": (32, ">i4", 0),
    "uint32": (32, ">i4", 2**31),
    "int64": (64, ">i8", 0),
    "float32": (-32, ">f4", 0),
    "float64": (-64, ">f8", 0),
}
_OF_STORED_VALUES = ("BSCALE", "BZERO", "BLANK", "CHECKSUM", "DATASUM")


class _FitsPicture(ArrayPicture):
    largest_ratio = 2.0**13  # Of compressed pictures; a run has up to 4095 pixels.
    unchecked_pixels = 2**24

    @functools.cached_property
    def _units(self) -> Any:
        library = import_extra("astropy.io.fits", "astronomy")
        self._file.seek(0)
        return library.open(self._file, memmap=False, lazy_load_hdus=False)

    @functools.cached_property
    def _unit(self) -> Any:
        """The first unit with a picture."""
        for unit in self._units:
            if unit.is_image and len(unit.shape) > 1 and 0 not in unit.shape:
                return unit
        raise ValueError("a FITS file must hold a picture.")

    @functools.cached_property
    def _blank(self) -> tuple[int, np.dtype] | None:
        """The value of missing pixels and the dtype of integers that can be missing.

        None for other pictures: missing values of scaled integers are read as NaN.
        """
        header, zero = self._unit.header, int(self._unit._orig_bzero)
        blank, bits = header.get("BLANK"), header["BITPIX"]
        kinds = [k for k, (b, _, z) in _BITPIX.items() if (b, z) == (bits, zero)]
        is_scaled = self._unit._orig_bscale != 1 or not kinds
        if not isinstance(blank, int) or bits < 0 or is_scaled:
            return None
        return blank + zero, np.dtype(kinds[0])

    def _read_missing(self) -> tuple[float, float] | None:
        return self._blank and (self._blank[0], self._blank[0])

    @property
    def _is_compressed(self) -> bool:
        return hasattr(self._unit, "compression_type")

    def _read_form(self) -> Form:
        shape = self._unit.shape
        self._check_size()
        dtype = self._unit.section[(0,) * (len(shape) - 1)].dtype
        dtype = self._blank[1] if self._blank else dtype
        return Form(int(np.prod(shape[:-2])), *shape[-2:], 1, dtype)

    def page_axes(self) -> tuple[str, tuple[int, ...]]:
        """See `Picture`."""
        shape = tuple(self._unit.shape[:-2])
        return "I" * len(shape), shape

    def _check_size(self) -> None:
        """Checks that the file has the bytes that the header declares."""
        self._file.seek(0, 2)
        place = self._unit.fileinfo()
        size = place["datSpan"] if self._is_compressed else self._unit.size
        end = place["datLoc"] + size
        if (num_bytes := self._file.tell()) < end:
            raise ValueError(
                f"a picture of {' x '.join(map(str, self._unit.shape))} pixels must "
                f"have more data. Received: {num_bytes} of {end} bytes."
            )

    def _plane(self, index: int) -> np.ndarray:
        axes = np.unravel_index(index, self._unit.shape[:-2] or (1,))
        axes = axes if len(self._unit.shape) > 2 else ()
        plane = np.asarray(self._unit.section[(*axes, slice(None), slice(None))])
        if self._blank and plane.dtype.kind == "f":  # astropy has put NaN.
            blank, dtype = self._blank
            plane = np.where(np.isnan(plane), blank, plane).astype(dtype)
        return plane[..., np.newaxis]

    def _write_planes(
        self, target: Path, dtype: np.dtype, planes: Iterator[np.ndarray]
    ) -> None:
        if dtype.name not in _BITPIX:
            kinds = ", ".join(_BITPIX)
            raise ValueError(
                f"a FITS file must hold one of {kinds}. Received: {dtype=!s}."
            )
        write = self._write_compressed if self._is_compressed else self._write_plain
        write(target, dtype, planes)

    def _write_compressed(
        self, target: Path, dtype: np.dtype, planes: Iterator[np.ndarray]
    ) -> None:
        stored = memory.mapped_array(self._form[:3], dtype, target.parent)
        for place, plane in zip(stored, planes, strict=True):
            place[...] = self._with_nan(plane)[..., 0]
        if dtype.kind == "f":
            self._unit.header.remove("BLANK", ignore_missing=True)
        self._unit.data = stored.reshape(self._unit.shape)
        self._units.writeto(target, overwrite=True)

    def _write_plain(
        self, target: Path, dtype: np.dtype, planes: Iterator[np.ndarray]
    ) -> None:
        """Copies the file, but for the header and the data of the picture."""
        bitpix, stored, zero = _BITPIX[dtype.name]
        place = self._unit.fileinfo()
        with target.open("wb") as file:
            self._copy(file, 0, place["hdrLoc"])
            header = _header(self._unit.header, bitpix, zero)
            if self._blank and bitpix > 0:
                header["BLANK"] = self._blank[0] - zero
            file.write(header.tostring().encode("ascii"))
            for plane in map(self._with_nan, planes):
                values = plane.astype(np.int64) - zero if zero else plane
                file.write(values.astype(stored).tobytes())
            file.write(bytes(-file.tell() % _BLOCK))
            self._copy(file, place["datLoc"] + place["datSpan"], None)

    def _with_nan(self, plane: np.ndarray) -> np.ndarray:
        """Returns a plane with NaN for missing pixels if it has floats."""
        if not self._blank or plane.dtype.kind != "f":
            return plane
        return np.where(plane == self._blank[0], plane.dtype.type(np.nan), plane)

    def _copy(self, file: Any, start: int, end: int | None) -> None:
        self._file.seek(start)
        while part := self._file.read(
            2**20 if end is None else min(2**20, end - self._file.tell())
        ):
            file.write(part)


def _header(header: Any, bitpix: int, zero: int) -> Any:
    """Returns a header for pixels that are stored in another way."""
    header = header.copy()
    for name in _OF_STORED_VALUES:
        header.remove(name, ignore_missing=True)
    header["BITPIX"] = bitpix
    if zero:
        header["BSCALE"], header["BZERO"] = 1, zero
    return header


def _write(path: Path, array: np.ndarray, values: Mapping[str, Any]) -> None:
    del values
    library = import_extra("astropy.io.fits", "astronomy")
    library.PrimaryHDU(array[..., 0]).writeto(path, overwrite=True)


FITS = Codec(
    name="FITS",
    family="fits",
    suffixes=(".fits", ".fit", ".fts", ".fz"),
    magics=(b"SIMPLE  =",),
    open=_FitsPicture,
    write=_write,
    kinds={},
)
