"""RAW files of cameras, developed by rawpy to 16-bit RGB and written as OME-TIFF."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfflowdn.data.formats.array_picture import ArrayPicture, Form, import_extra
from tfflowdn.data.formats.base import UNIFORM_PIXELS, UNIFORM_RATIO, Codec
from tfflowdn.data.formats.ome_tiff import SUFFIX, write_ome_tiff
from tfflowdn.data.memory import check_fits

__all__ = ["RAW", "RAW_SUFFIXES", "is_installed"]

RAW_SUFFIXES = (
    *(".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".dng", ".orf"),
    *(".rw2", ".raf", ".pef", ".srw", ".x3f", ".3fr", ".iiq", ".kdc", ".mrw"),
)
_WITHOUT_LIBRARY = (
    "RAW is not supported; convert the file to TIFF, or pip install 'tfflowdn[raw]'."
)
_DECODER_BYTES = 32  # Per pixel, in the memory of LibRaw.


def is_installed() -> bool:
    """Returns whether the library is there."""
    return importlib.util.find_spec("rawpy") is not None


class _RawPicture(ArrayPicture):
    largest_ratio, unchecked_pixels = UNIFORM_RATIO, UNIFORM_PIXELS
    notes = "RAW becomes RGB of 16 bits, without EXIF"

    def __init__(self, path: str | os.PathLike, file: Any) -> None:
        if not is_installed():
            raise ValueError(_WITHOUT_LIBRARY)
        super().__init__(path, file)

    def _read_form(self) -> Form:
        with self._opened() as raw:
            sizes = raw.sizes
        size = (sizes.height, sizes.width)
        if sizes.flip in (5, 6):  # A quarter turn, which is applied.
            size = size[::-1]
        return Form(1, *size, 3, np.dtype(np.uint16))

    def _opened(self) -> Any:
        # A path gives the library the whole file; a name that is no text fails.
        return import_extra("rawpy", "raw").imread(str(self.path))

    @functools.cached_property
    def _developed(self) -> np.ndarray:
        form = self._form
        check_fits(form[1:4], form.dtype, _DECODER_BYTES * form.height * form.width)
        with self._opened() as raw:
            return raw.postprocess(
                output_bps=16, use_camera_wb=True, no_auto_bright=True
            )

    def _plane(self, index: int) -> np.ndarray:
        del index  # The only picture.
        return self._developed

    def _write_planes(
        self, target: Path, dtype: np.dtype, planes: Iterator[np.ndarray]
    ) -> None:
        form = self._form
        write_ome_tiff(target, planes, dtype, form[1:4], "YXS")


def _write(path: Path, array: np.ndarray, values: Mapping[str, Any]) -> None:
    del path, array, values
    raise ValueError("a RAW file cannot be written.")


RAW = Codec(
    name="RAW",
    family="raw",
    suffixes=RAW_SUFFIXES,
    magics=(),
    open=_RawPicture,
    write=_write,
    kinds={},
    result_suffix=SUFFIX,
)
