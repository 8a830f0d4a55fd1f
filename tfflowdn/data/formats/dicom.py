"""DICOM, gray or RGB, with all frames, by pydicom; stored values are denoised."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfflowdn.data.formats.array_picture import (
    ArrayPicture,
    Form,
    import_extra,
)
from tfflowdn.data.formats.base import UNIFORM_PIXELS, UNIFORM_RATIO, Codec

__all__ = ["DICOM"]

_KINDS = ("MONOCHROME1", "MONOCHROME2", "RGB")
_DEFERRED = 2**16  # Larger elements, such as the pixels, are read when they are used.
_LARGEST = 2**32 - 2  # The length of an element has 32 bits.


class _DicomPicture(ArrayPicture):
    largest_ratio, unchecked_pixels = UNIFORM_RATIO, UNIFORM_PIXELS  # JPEG 2000.

    @functools.cached_property
    def _dataset(self) -> Any:
        """The elements; the pixels are not read."""
        library = import_extra("pydicom", "medical")
        dataset = library.dcmread(self.path, defer_size=_DEFERRED)
        if (kind := dataset.PhotometricInterpretation) not in _KINDS:
            raise ValueError(f"the pixels must be gray or RGB. Received: {kind=}.")
        if (bits := dataset.BitsAllocated) % 8:
            raise ValueError(f"the pixels must be whole bytes. Received: {bits=}.")
        return dataset

    def _read_form(self) -> Form:
        dataset = self._dataset
        dtype = import_extra("pydicom.pixels.utils", "medical").pixel_dtype(
            dataset, as_float="PixelData" not in dataset
        )
        count = int(dataset.get("NumberOfFrames") or 1)
        size = int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel)
        return Form(count, *size, dtype)

    def _read_missing(self) -> tuple[float, float] | None:
        """Returns Pixel Padding Value, to Pixel Padding Range Limit if there is one."""
        padding = self._dataset.get("PixelPaddingValue")
        if not isinstance(padding, int):
            return None
        limit = self._dataset.get("PixelPaddingRangeLimit", padding)
        values = [_as_stored(v, self._form.dtype) for v in (padding, limit)]
        return min(values), max(values)

    def _plane(self, index: int) -> np.ndarray:
        pixels = import_extra("pydicom.pixels", "medical")
        plane = pixels.pixel_array(self.path, index=index)
        return plane if plane.ndim == 3 else plane[..., np.newaxis]

    def _write_planes(
        self, target: Path, dtype: np.dtype, planes: Iterator[np.ndarray]
    ) -> None:
        form, dataset = self._form, self._dataset
        if dtype != form.dtype or dtype.kind == "f":
            raise ValueError(
                "a DICOM file must keep the type of its pixels, which must be integers."
                f" Received: dtype={dtype}, not {form.dtype}."
            )
        num_bytes = int(np.prod(form[:4])) * dtype.itemsize
        if num_bytes > _LARGEST:
            raise ValueError(
                f"a DICOM file must have less than 4 GiB. Received: {num_bytes} bytes."
            )
        limits = _limits(dataset)
        with tempfile.TemporaryFile(dir=target.parent) as frames:
            for plane in planes:
                clipped = np.clip(plane, *limits)
                if self._missing is not None:  # It may lie outside of the limits.
                    low, high = self._missing
                    is_padding = (plane >= low) & (plane <= high)
                    clipped = np.where(is_padding, plane, clipped)
                frames.write(clipped.astype(dtype.newbyteorder("<")).tobytes())
            frames.write(bytes(num_bytes % 2))
            frames.seek(0)
            self._save(target, frames)

    def _save(self, target: Path, frames: Any) -> None:
        """Writes the elements, with frames that are not compressed."""
        dataset = self._dataset
        syntax = import_extra("pydicom.uid", "medical").ExplicitVRLittleEndian
        if dataset.SamplesPerPixel == 3:
            dataset.PlanarConfiguration = 0
        dataset.PixelData = frames
        dataset["PixelData"].VR = "OB" if dataset.BitsAllocated == 8 else "OW"
        dataset["PixelData"].is_undefined_length = False
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(target, implicit_vr=False, little_endian=True)
        del self._dataset  # Its pixels are now the pixels of the result.


def _as_stored(value: int, dtype: np.dtype) -> int:
    """Returns a value with the sign of the pixels: 63536 as int16 is -2000."""
    return int(np.array(value & (2 ** (8 * dtype.itemsize) - 1), "u8").astype(dtype))


def _limits(dataset: Any) -> tuple[int, int]:
    """Returns the lowest and the highest value of the stored bits."""
    is_signed = dataset.PixelRepresentation == 1
    bits = dataset.BitsStored - is_signed
    return -(2**bits) if is_signed else 0, 2**bits - 1


def _write(path: Path, array: np.ndarray, values: Mapping[str, Any]) -> None:
    del path, array, values
    raise ValueError("a DICOM file is only written with the header of another one.")


DICOM = Codec(
    name="DICOM",
    family="dicom",
    suffixes=(".dcm", ".dicom"),
    magics=(b"?" * 128 + b"DICM",),
    open=_DicomPicture,
    write=_write,
    kinds={},
)
