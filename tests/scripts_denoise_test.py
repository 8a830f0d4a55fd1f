"""Inputs, failures and progress of `denoise`, with a network that is not trained."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import tifffile

from tfflowdn import Denoiser, ResNetDenoiser, data, progress
from tfflowdn.scripts import denoise as denoise_script
from tfflowdn.scripts.denoise import denoise_files


@pytest.fixture(scope="module")
def denoiser():
    network = ResNetDenoiser(num_blocks=1, hidden_channels=4)
    return Denoiser(network, max_pixels=1500)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    for index in range(2):
        pixels = np.random.default_rng(index).integers(0, 256, (40, 60, 1), np.uint8)
        data.write_image(tmp_path / "in" / f"{index}.png", pixels)
    return tmp_path / "in"


@pytest.mark.parametrize("option", ["skip_existing", "overwrite"])
def test_outputs_below_the_input_are_not_denoised_again(denoiser, folder, option):
    for _ in range(2):
        denoise_files([str(folder)], str(folder / "out"), denoiser, **{option: True})
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.png"))
    assert files == ["0.png", "1.png", "out/0.png", "out/1.png"]


def test_an_unforeseen_error_belongs_to_its_file(denoiser, folder, monkeypatch):
    read_picture = denoise_script._read

    def read(path):
        if path.name == "0.png":
            raise RuntimeError("no such thing")
        return read_picture(path)

    monkeypatch.setattr(denoise_script, "_read", read)
    message = r"1 of 2 pictures failed.*\n.*0\.png: RuntimeError: no such thing"
    with pytest.raises(ValueError, match=message):
        denoise_files([str(folder)], str(folder / "out"), denoiser)
    assert (folder / "out" / "1.png").exists()


def test_every_failure_is_listed(denoiser, folder):
    for index in range(30):
        (folder / f"broken_{index}.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="30 of 32 pictures failed") as caught:
        denoise_files([str(folder)], str(folder / "out"), denoiser)
    assert sum("broken_" in line for line in str(caught.value).splitlines()) == 30


def test_the_progress_counts_tiles(denoiser, folder, monkeypatch):
    stack = np.zeros((2, 40, 60), np.uint8)
    tifffile.imwrite(folder / "stack.tif", stack, photometric="minisblack")
    np.save(folder / "planes.npy", stack)
    amounts = []

    class Recorded(progress.Progress):
        def update(self, amount=1, **figures):
            amounts.append(amount)
            super().update(amount, **figures)

    monkeypatch.setattr(progress, "Progress", Recorded)
    denoise_files([str(folder)], str(folder / "out"), denoiser, axes="ZYX")
    assert sum(amounts) == pytest.approx(4)
    assert len([amount for amount in amounts if 0 < amount < 0.9]) > 8
    assert denoise_script.GENERAL == "general"


def test_outputs_of_another_type_keep_their_units(denoiser, folder):
    stack = np.random.default_rng(0).poisson(40, (3, 16, 20)).astype(np.uint16)
    options = {"photometric": "minisblack", "ome": True, "compression": "zlib"}
    source = folder / "a.ome.tif"
    tifffile.imwrite(source, stack, predictor=True, metadata={"axes": "ZYX"}, **options)
    np.save(folder / "b.npy", stack)
    inputs = [str(source), str(folder / "b.npy")]
    out = folder / "out"
    denoise_files(inputs, str(out), denoiser, axes="ZYX", dtype="float32")
    with tifffile.TiffFile(out / "a.ome.tif") as file:
        assert file.series[0].axes == "ZYX"
        assert 'Type="float"' in file.ome_metadata
        assert file.pages[0].predictor == tifffile.PREDICTOR.FLOATINGPOINT
        pages = file.asarray()
    assert pages.dtype == np.float32
    assert (pages % 1 != 0).any()
    np.testing.assert_allclose(np.load(out / "b.npy"), pages, atol=1e-3)
    with pytest.raises(ValueError, match="PNG holds uint8 with 1, 2, 3, 4 channels"):
        denoise_files([str(folder / "0.png")], str(out), denoiser, dtype="float32")


def test_notes_on_a_stack_name_the_file_once(denoiser, folder, caplog):
    stack = np.random.default_rng(0).normal(-1000, 50, (3, 16, 20)).astype(np.int16)
    tifffile.imwrite(folder / "ct.tif", stack, photometric="minisblack")
    with caplog.at_level(logging.WARNING):
        denoise_files([str(folder / "ct.tif")], str(folder / "out"), denoiser)
    assert caplog.text.count("outside of the model's range") == 1
    assert "ct.tif: 100% of the pixels lie outside" in caplog.text
    result = tifffile.imread(folder / "out" / "ct.tif")
    options = {"transform": "asinh", "gain": 50.0, "offset": -1000.0}
    denoise_files([str(folder / "ct.tif")], str(folder / "other"), denoiser, **options)
    assert (tifffile.imread(folder / "other" / "ct.tif") != result).any()
