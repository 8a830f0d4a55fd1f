"""FITS, the format of astronomers: the first picture of a file, by astropy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfflowdn.data.formats.array_picture import ArrayPicture, import_extra
from tfflowdn.data.formats.base import Codec

__all__ = ["FITS"]


class _FitsPicture(ArrayPicture):
    def _array(self) -> tuple[np.ndarray, bool]:
        _, unit = self._units()
        return unit.data, False

    def _units(self) -> tuple[Any, Any]:
        """Returns all units of the file, and the first one with a picture."""
        library = import_extra("astropy.io.fits", "astronomy")
        self._file.seek(0)
        units = library.open(self._file.name, memmap=False)
        with units:
            for unit in units:
                if unit.is_image and unit.data is not None and unit.data.ndim > 1:
                    _ = [one.data for one in units]  # Read before the file is closed.
                    return units, unit
        raise ValueError("a FITS file must hold a picture.")

    def _write_like(self, target: Path, planes: np.ndarray) -> None:
        units, unit = self._units()
        unit.data = planes.reshape(unit.data.shape)
        units.writeto(target, overwrite=True)


def _write(path: Path, array: np.ndarray, values: Mapping[str, Any]) -> None:
    del values
    library = import_extra("astropy.io.fits", "astronomy")
    library.PrimaryHDU(array[..., 0]).writeto(path, overwrite=True)


FITS = Codec(
    name="FITS",
    family="fits",
    suffixes=(".fits", ".fit", ".fts"),
    magics=(b"SIMPLE  =",),
    open=_FitsPicture,
    write=_write,
    kinds={},
)
