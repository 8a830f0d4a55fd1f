"""A small valid file of every kind that is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import harness
import numpy as np

__all__ = ["WRITERS", "valid_files"]

data = harness.lazy("tfflowdn.data")
tifffile = harness.lazy("tifffile")

RNG = np.random.default_rng(0)
GRAY = RNG.integers(256, size=(14, 19, 1), dtype=np.uint8)
COLOR = RNG.integers(256, size=(14, 19, 3), dtype=np.uint8)
DEEP = RNG.integers(65536, size=(14, 19, 3), dtype=np.uint16)
STACK = np.int16(DEEP[None, ..., 0].repeat(3, 0) // 16)

Content = bytes | dict[str, bytes]
Writer = Callable[[Path], None]


def _picture(pixels: np.ndarray) -> Writer:
    return lambda path: data.write_image(path, pixels)


def _tiff(pixels: np.ndarray, **options: object) -> Writer:
    return lambda path: tifffile.imwrite(path, pixels, **options)


def _mrc(path: Path) -> None:
    import mrcfile

    with mrcfile.new(path, STACK):
        pass


def _fits(path: Path) -> None:
    from astropy.io import fits

    fits.PrimaryHDU(STACK).writeto(path)


def _packed_fits(path: Path) -> None:
    from astropy.io import fits

    fits.CompImageHDU(STACK[0]).writeto(path)


def _dicom(path: Path, compress: str = "") -> None:
    import pydicom

    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.3"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.4"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = STACK.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 1
    dataset.PixelData = STACK.tobytes()
    dataset["PixelData"].VR = "OW"
    if compress:
        dataset.compress(pydicom.uid.RLELossless)
    dataset.save_as(path, enforce_file_format=True)


def _zarr(path: Path, zarr_format: int) -> None:
    import zarr

    options = {"shape": STACK.shape, "dtype": STACK.dtype, "chunks": (1, 8, 19)}
    array = zarr.create_array(path, zarr_format=zarr_format, **options)
    array[...] = STACK


WRITERS: dict[str, Writer] = {
    **{
        f"color.{suffix}": _picture(COLOR)
        for suffix in ("png", "jpg", "webp", "bmp", "gif")
    },
    **{
        f"gray.{suffix}": _picture(GRAY)
        for suffix in ("png", "jpg", "tif", "bmp", "gif")
    },
    "deep.png": _picture(DEEP),
    "deep.tif": _picture(DEEP),
    "float.tif": _picture(np.float32(COLOR / 255)),
    "stack.tif": _tiff(STACK, photometric="minisblack"),
    "tiled.tif": _tiff(COLOR, tile=(16, 16), compression="zlib", photometric="rgb"),
    "array.npy": lambda path: np.save(path, np.float32(GRAY[..., 0])),
    "stack.mrc": _mrc,
    "stack.fits": _fits,
    "packed.fits": _packed_fits,
    "stack.dcm": _dicom,
    "old.zarr": lambda path: _zarr(path, 2),
    "new.zarr": lambda path: _zarr(path, 3),
    "packed.dcm": lambda path: _dicom(path, "RLE"),
}
"""Functions that write a valid file, by its name."""


def read_content(path: Path) -> Content:
    """Returns the bytes of a file, or of the files of a folder by their names."""
    if path.is_file():
        return path.read_bytes()
    found = sorted(p for p in path.rglob("*") if p.is_file())
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in found}


def write_content(path: Path, content: Content) -> None:
    """Writes the result of `read_content`."""
    if isinstance(content, bytes):
        path.write_bytes(content)
        return
    path.mkdir()
    for name, member in content.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(member)


def valid_files(folder: Path) -> dict[str, Content]:
    """Returns the content of a valid file of every kind, by its name."""
    for name, write in WRITERS.items():
        write(folder / name)
    return {path.name: read_content(path) for path in sorted(folder.iterdir())}
