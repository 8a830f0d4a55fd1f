"""`denoise --std` writes a map next to each output, for every kind of file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import tfflowdn
from tfflowdn.models import ResNetDenoiser, UncertaintyNetwork
from tfflowdn.scripts.denoise import denoise_files


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    ResNetDenoiser(1, num_blocks=1, hidden_channels=4).save(folder / "denoiser.keras")
    network = UncertaintyNetwork(1, hidden_channels=4, num_layers=1)
    network.save(folder / "uncertainty.keras")
    return str(folder / "denoiser.keras")


def write_inputs(folder):
    folder.mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (12, 14), np.uint8)).save(folder / "gray.png")
    rgba = rng.integers(0, 256, (12, 14, 4), np.uint8)
    Image.fromarray(rgba).save(folder / "alpha.png")
    stack = rng.integers(0, 4096, (3, 12, 14), np.uint16)
    tifffile.imwrite(folder / "stack.tif", stack, photometric="minisblack")
    np.save(folder / "array.npy", rng.random((12, 14), np.float32))


def test_every_output_has_a_map(tmp_path, model):
    write_inputs(tmp_path / "in")
    out = tmp_path / "out"
    written = denoise_files([str(tmp_path / "in")], str(out), model, return_std=True)
    assert len(written) == 4
    maps = {
        "gray.png.std.tif": (12, 14),
        "alpha.png.std.tif": (12, 14, 3),
        "stack.tif.std.tif": (3, 12, 14),
    }
    for name, shape in maps.items():
        std = tifffile.imread(out / name)
        assert (std.shape, std.dtype) == (shape, np.float32), name
        assert (std > 0).all()
    std = np.load(out / "array.npy.std.npy")
    assert (std.shape, std.dtype) == ((12, 14), np.float32)
    names = {*maps, "array.npy.std.npy", *(path.name for path in written)}
    assert {path.name for path in out.iterdir()} == names


def test_a_camera_file_gets_a_map_without_a_model_by_name(tmp_path):
    tile = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    Image.fromarray(tile).resize((96, 96)).save(tmp_path / "photo.jpg")
    inputs = [str(tmp_path / "photo.jpg")]
    denoise_files(inputs, str(tmp_path / "out"), "auto", return_std=True)
    std = tifffile.imread(tmp_path / "out/photo.jpg.std.tif")
    assert std.shape == (96, 96, 3)


def test_the_uncertainty_of_another_denoiser_does_no_harm(tmp_path, model):
    folder = Path(model).parent
    (tmp_path / "uncertainty.keras").write_bytes(
        (folder / "uncertainty.keras").read_bytes()
    )
    network = ResNetDenoiser(3, num_blocks=1, hidden_channels=4)
    network.save(tmp_path / "denoiser.keras")
    denoiser = tfflowdn.Denoiser.from_pretrained(tmp_path / "denoiser.keras")
    assert denoiser(np.zeros((8, 8, 3), np.float32)).shape == (8, 8, 3)


def test_maps_are_not_overwritten_and_need_an_uncertainty(tmp_path, model):
    write_inputs(tmp_path / "in")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/gray.png.std.tif").write_bytes(b"kept")
    with pytest.raises(ValueError, match="must not exist"):
        inputs = [str(tmp_path / "in/gray.png")]
        denoise_files(inputs, str(tmp_path / "out"), model, return_std=True)
    alone = tmp_path / "denoiser.keras"
    ResNetDenoiser(1, num_blocks=1, hidden_channels=4).save(alone)
    with pytest.raises(ValueError, match="train_uncertainty"):
        denoise_files(inputs, str(tmp_path / "other"), str(alone), return_std=True)
