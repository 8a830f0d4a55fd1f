"""MRC, the format of electron microscopes, by mrcfile."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfflowdn.data.formats.array_picture import ArrayPicture, import_extra
from tfflowdn.data.formats.base import Codec

__all__ = ["MRC"]

_COPIED = ("cella", "cellb", "origin", "ispg", "exttyp", "nversion", "nlabl", "label")


class _MrcPicture(ArrayPicture):
    def _array(self) -> tuple[np.ndarray, bool]:
        library = import_extra("mrcfile", "microscopy")
        with library.mmap(self.path, "r") as file:
            return file.data, False

    def _write_like(self, target: Path, planes: np.ndarray) -> None:
        library = import_extra("mrcfile", "microscopy")
        with (
            library.open(self.path, "r", header_only=True) as source,
            library.new(target, overwrite=True) as file,
        ):
            array, _ = self._array()
            file.set_data(planes.reshape(array.shape))
            file.set_extended_header(source.extended_header)
            for name in _COPIED:
                file.header[name] = source.header[name]
            file.header.mz = source.header.mz


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
