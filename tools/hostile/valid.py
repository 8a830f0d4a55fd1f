"""A small valid file of every kind that is read."""

from __future__ import annotations

import runpy
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


def _nd2(path: Path) -> None:
    write = runpy.run_path(str(harness.ROOT / "tests/nd2_stand_in.py"))["write_nd2"]
    write(path, np.moveaxis(np.uint16(STACK[:2]), 0, -1)[None], ("a", "b"), 0.5)


def _czi(path: Path) -> None:
    from pylibCZIrw import czi

    with czi.create_czi(str(path)) as file:
        for time, plane in enumerate(np.uint16(STACK)):
            file.write(np.ascontiguousarray(plane[..., None]), plane={"T": time})


def _gif(path: Path) -> None:
    from PIL import Image

    first, *others = (Image.fromarray(np.roll(COLOR, i, 0)) for i in range(3))
    first.save(path, save_all=True, append_images=others)


def _dng(path: Path) -> None:
    tags = [
        (33421, 3, 2, (2, 2), True),  # The pattern of the colors.
        (33422, 1, 4, b"\0\1\1\2", True),
        (50706, 1, 4, b"\1\4\0\0", True),  # The version.
        (50708, 2, 0, "a camera", True),
        (50717, 4, 1, 4095, True),  # The white level.
        (50721, 10, 9, (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1), True),
    ]
    pixels = RNG.integers(200, 4000, (64, 96)).astype(np.uint16)
    tifffile.imwrite(path, pixels, photometric=32803, extratags=tags, subfiletype=0)


WRITERS: dict[str, Writer] = {
    **{
        f"color.{suffix}": _picture(COLOR)
        for suffix in ("png", "jpg", "webp", "bmp", "gif", "avif", "heic", "jp2")
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
    "deep.avif": _picture(DEEP // 16),
    "deep.heic": _picture(DEEP),
    "deep.j2k": _picture(DEEP),
    "frames.gif": _gif,
    "camera.dng": _dng,
    "stack.nd2": _nd2,
    "stack.czi": _czi,
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
