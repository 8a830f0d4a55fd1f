"""DICOM, gray or RGB, with all frames, by pydicom; stored values are denoised."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfflowdn.data.formats.array_picture import ArrayPicture, import_extra
from tfflowdn.data.formats.base import Codec

__all__ = ["DICOM"]

_KINDS = ("MONOCHROME1", "MONOCHROME2", "RGB")


class _DicomPicture(ArrayPicture):
    def _dataset(self) -> Any:
        library = import_extra("pydicom", "medical")
        self._file.seek(0)
        dataset = library.dcmread(self._file)
        if (kind := dataset.PhotometricInterpretation) not in _KINDS:
            raise ValueError(f"the pixels must be gray or RGB. Received: {kind=}.")
        return dataset

    def _array(self) -> tuple[np.ndarray, bool]:
        dataset = self._dataset()
        return dataset.pixel_array, dataset.SamplesPerPixel == 3

    def _write_like(self, target: Path, planes: np.ndarray) -> None:
        dataset = self._dataset()
        stored = dataset.pixel_array
        if planes.dtype != stored.dtype:
            raise ValueError(
                "a DICOM file must keep the type of its pixels. "
                f"Received: dtype={planes.dtype}, not {stored.dtype}."
            )
        is_signed = dataset.PixelRepresentation == 1
        bits = dataset.BitsStored - is_signed
        low = -(2**bits) if is_signed else 0
        pixels = np.clip(planes, low, 2**bits - 1).astype(stored.dtype)
        syntax = import_extra("pydicom.uid", "medical").ExplicitVRLittleEndian
        if dataset.SamplesPerPixel == 3:
            dataset.PlanarConfiguration = 0
        dataset.PixelData = pixels.astype(stored.dtype.newbyteorder("<")).tobytes()
        dataset["PixelData"].VR = "OB" if stored.dtype.itemsize == 1 else "OW"
        dataset["PixelData"].is_undefined_length = False
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(target, implicit_vr=False, little_endian=True)


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
