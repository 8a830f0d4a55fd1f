"""`denoise --verbose` and `--compare`."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from tfflowdn import Denoiser, ResNetDenoiser, data
from tfflowdn.scripts import comparison
from tfflowdn.scripts.denoise import denoise_files

RNG = np.random.default_rng(0)
PICTURES = {
    "a.png": RNG.integers(0, 256, (20, 30, 1), np.uint8),
    "b.tif": RNG.integers(0, 900, (20, 30, 3), np.uint16),
    "sub/c.jpg": RNG.integers(0, 256, (20, 30, 3), np.uint8),
    "d.tif": np.float32(RNG.random((20, 30, 1))),
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    (folder / "in/sub").mkdir(parents=True)
    for name, pixels in PICTURES.items():
        data.write_image(folder / "in" / name, pixels)
    stack = RNG.integers(0, 900, (3, 20, 30), np.uint16)
    tifffile.imwrite(folder / "in/s.tif", stack, photometric="minisblack")
    np.save(folder / "in/t.npy", stack)
    (folder / "in/broken.png").write_bytes(b"no picture")
    denoiser = Denoiser(ResNetDenoiser(num_blocks=1, hidden_channels=4))
    found = []
    with pytest.raises(ValueError, match="1 of 7 pictures failed"):
        denoise_files(
            [str(folder / "in")],
            str(folder / "out"),
            denoiser,
            axes="TYX",
            on_written=lambda *pair: found.append(pair),
        )
    assert len(found) == 6
    return folder / "out", found


def test_every_picture_has_a_line(pairs):
    _, found = pairs
    lines = [comparison.describe_pair(*pair, axes="TYX") for pair in found]
    for line, (source, _) in zip(lines, found, strict=True):
        assert line.startswith(f"{source}: 30 x 20, ") and "removed noise of" in line
    units = {line.split(":")[0].rpartition("/")[2]: line for line in lines}
    assert "gray levels" in units["a.png"] and "uint8" in units["a.png"]
    assert "counts" in units["s.tif"] and "color" in units["b.tif"]


def test_every_picture_has_a_sheet(pairs, tmp_path):
    root, found = pairs
    paths = comparison.write_sheets(found, root, tmp_path, axes="TYX")
    names = {path.relative_to(tmp_path).as_posix() for path in paths}
    assert {"a.png.png", "sub/c.jpg.png", "s.tif.png", "t.npy.png"} <= names
    for path in paths:
        sheet = data.read_image(path)
        assert sheet.dtype == np.uint8 and sheet.shape[:2] == (20, 68)
    sheet = data.read_image(tmp_path / "a.png.png")
    assert (sheet[:, :30] == PICTURES["a.png"]).all()
    assert (sheet[:, 38:] == data.read_image(root / "a.png")).all()
