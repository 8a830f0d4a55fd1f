"""Writes small inputs for the commands of the documentation, from photographs.

The names are the placeholders of the documentation, such as NOISY and CLEAN. A kit is a
folder with pictures of one kind, because the same name stands for other pictures on
another page.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import harness
import numpy as np

data = harness.lazy("tfflowdn.data")
tfflowdn = harness.lazy("tfflowdn")
tifffile = harness.lazy("tifffile")

__all__ = ["KITS", "write_kit"]

SIDE = 64
NUM_PICTURES = 4
POLYU = ("Canon5D2", "NikonD800", "Canon600D")  # Its cameras, which names begin with.


def write_kit(kind: str, folder: Path) -> None:
    """Writes the inputs of a kit.

    Args:
      kind: A key of `KITS`.
      folder: The folder to write, without any of the inputs.
    """
    photographs = [data.read_image(p) for p in sorted(data.PHOTOGRAPHS.glob("*.webp"))]
    KITS[kind](folder, photographs)
    for name, channels in (("TINY", 1), ("TINY_COLOR", 3)):
        network = tfflowdn.ResNetDenoiser(channels, num_blocks=1, hidden_channels=4)
        network.save(folder / f"{name}.keras")
    for placeholder, model in (
        ("DENOISER", "denoiser_gray"),
        ("MODEL", "denoiser_gray"),
        ("PRIOR", "prior_gray"),
    ):
        source = harness.ROOT / f"saved_models/{model}.keras"
        shutil.copy(source, folder / f"{placeholder}.keras")


def _crops(photographs: list, count: int, seed: int, side: int = SIDE) -> Iterator:
    """Yields crops of all photographs in turns, uint8 [side, side, C]."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        picture = photographs[index % len(photographs)]
        top, left = (rng.integers(size - side + 1) for size in picture.shape[:2])
        yield picture[top : top + side, left : left + side]


def _with_noise(picture: np.ndarray, seed: int, level: float = 20) -> np.ndarray:
    noise = level * np.random.default_rng(seed).standard_normal(picture.shape)
    return np.uint8(np.clip(picture + noise, 0, 255).round())


def _write(folder: Path, pictures: Iterator, suffix: str = ".png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, picture in enumerate(pictures):
        data.write_image(folder / f"{index:03d}{suffix}", picture)


def _pools(folder: Path, photographs: list, suffix: str, level: float) -> None:
    """Writes NOISY with REFERENCES, and CLEAN and HELD_OUT of other places."""
    for name, seed in (("CLEAN", 1), ("HELD_OUT", 2)):
        _write(folder / name, _crops(photographs, NUM_PICTURES, seed), suffix)
    references = list(_crops(photographs, NUM_PICTURES, 3))
    _write(folder / "REFERENCES", iter(references), suffix)
    noisy = (_with_noise(p, i, level) for i, p in enumerate(references))
    _write(folder / "NOISY", noisy, suffix)


def _photons(
    photographs: list, count: int, seed: int, exposure: float = 1.0
) -> Iterator:
    """Yields pictures of 5 to 405 photons times 9, plus 100, uint16 [side, side, 1]."""
    rng = np.random.default_rng(seed)
    for picture in _crops(photographs, count, seed, 2 * SIDE):
        photons = 5 + picture[..., :1] / 255 * 400
        stored = rng.poisson(photons * exposure) / exposure * 9 + 100
        yield np.uint16(np.clip(stored, 0, 4095))


def _photographs(folder: Path, photographs: list) -> None:
    _pools(folder, [p[..., 1:2] for p in photographs], ".png", 20)
    shutil.copytree(folder / "NOISY", folder / "PICTURES")
    shutil.copy(folder / "NOISY/000.png", folder / "NOISY.png")
    _write(folder / "COUNTS", _photons(photographs, 3, 4), ".tif")


def _camera(folder: Path, photographs: list) -> None:
    _pools(folder, photographs, ".jpg", 6)
    shutil.copytree(folder / "NOISY", folder / "PHOTOS")


def _counts(folder: Path, photographs: list) -> None:
    """Writes the values of a camera of 12 bits: gray TIFF files, stacks and arrays."""
    for name, seed, exposure in (("NOISY", 1, 1.0), ("CLEAN", 2, 100.0)):
        pictures = _photons(photographs, NUM_PICTURES, seed, exposure)
        _write(folder / name, pictures, ".tif")
    for name in ("COUNTS", "STARS"):
        shutil.copytree(folder / "NOISY", folder / name)
    (folder / "STACKS").mkdir()
    for index in range(2):
        stack = np.concatenate([*_photons(photographs, NUM_PICTURES, 5 + index)], -1)
        stack = np.moveaxis(stack, -1, 0)
        path = folder / f"STACKS/{index}.tif"
        tifffile.imwrite(path, stack, photometric="minisblack")
    array = stack.reshape(2, NUM_PICTURES // 2, *stack.shape[1:])
    np.save(folder / "ARRAY.npy", array)


def _dyes(folder: Path, photographs: list) -> None:
    """Writes arrays of four channels."""
    for name, seed, level in (("CLEAN", 1, 0), ("HELD_OUT", 2, 0), ("NOISY", 3, 20)):
        (folder / name).mkdir()
        for index, picture in enumerate(_crops(photographs, NUM_PICTURES, seed)):
            channels = np.concatenate([picture, 255 - picture[..., :1]], -1)
            array = np.moveaxis(_with_noise(channels, index, level), -1, 0)
            np.save(folder / name / f"{index}.npy", array)
    shutil.copytree(folder / "NOISY", folder / "DYES")


def _protocol(folder: Path, photographs: list) -> None:
    """Writes DATA in the layout that tools/prepare_protocol.py reads."""
    _pools(folder, [p[..., 1:2] for p in photographs], ".png", 20)
    root = folder / "DATA"
    for name, count, suffix in (
        ("train400", 400, ".png"),
        ("bsd68", 68, ".png"),
        ("bsds400_color", 400, ".jpg"),
        ("cbsd68", 68, ".png"),
        ("clean_color", 30, ".png"),
        ("w2s/clean", 6, ".png"),
        ("w2s/noisy", 6, ".png"),
        ("w2s/test_average", 6, ".png"),
        ("w2s/test_noisy", 6, ".png"),
    ):
        is_gray = name in ("train400", "bsd68") or name.startswith("w2s")
        pictures = _crops(photographs, count, 7)
        if "noisy" in name:
            pictures = (_with_noise(p, i) for i, p in enumerate(pictures))
        if is_gray:
            pictures = (p[..., 1:2] for p in pictures)
        _write(root / name, pictures, suffix)
    (root / "polyu").mkdir()
    for index, picture in enumerate(_crops(photographs, 73, 8)):
        name = f"{POLYU[index % 3]}_{index}"
        noisy = _with_noise(picture, index, 6)
        for ending, pixels in (("mean", picture), ("real", noisy)):
            data.write_image(root / f"polyu/{name}_{ending}.JPG", pixels)
    _write(folder / "PHOTOGRAPHS", _crops(photographs, 4, 9, 4 * SIDE))
    _write(folder / "BSD68", _crops([p[..., 1:2] for p in photographs], 3, 10))
    _write(folder / "CBSD68", _crops(photographs, 3, 10))


KITS = {
    "photographs": _photographs,
    "camera": _camera,
    "counts": _counts,
    "dyes": _dyes,
    "protocol": _protocol,
}
