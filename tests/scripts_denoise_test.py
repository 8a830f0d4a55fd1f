"""Inputs, failures and progress of `denoise`, with a network that is not trained."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import tifffile

from tfflowdn import Denoiser, ResNetDenoiser, data, progress
from tfflowdn.scripts import denoise as denoise_script
from tfflowdn.scripts import denoise_queue
from tfflowdn.scripts.denoise import denoise_files


@pytest.fixture(scope="module")
def denoiser(randomize):
    network = ResNetDenoiser(num_blocks=1, hidden_channels=4)
    randomize(network, scale=0.1)
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
    read_picture = denoise_queue.read

    def read(path, options):
        if path.name == "0.png":
            raise RuntimeError("no such thing")
        return read_picture(path, options)

    monkeypatch.setattr(denoise_queue, "read", read)
    message = r"1 of 2 pictures failed.*\n.*0\.png: RuntimeError: no such thing"
    with pytest.raises(ValueError, match=message) as caught:
        denoise_files([str(folder)], str(folder / "out"), denoiser)
    assert (folder / "out" / "1.png").exists()
    (note,) = caught.value.__notes__  # --traceback shows it.
    assert "Traceback" in note and "raise RuntimeError" in note


@pytest.mark.parametrize("name", ["0.png", "0.jpg", "0.tif", "0.webp", "0.npy"])
def test_an_archive_with_the_suffix_of_a_picture(denoiser, folder, name):
    with (folder / name).open("wb") as file:
        np.savez(file, a=np.zeros(3))
    with pytest.raises(ValueError, match="1 of . pictures failed"):
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


def test_files_that_are_not_read_are_named_at_the_end(
    denoiser, folder, caplog, monkeypatch
):
    monkeypatch.setattr("tfflowdn.data.formats.raw.is_installed", lambda: False)
    outside = folder.parent / "more"
    outside.mkdir()
    data.write_image(outside / "c.png", np.zeros((8, 8, 1), np.uint8))
    for name in ("a.CR2", "b.dng", "c.npz", "notes.txt", ".hidden.heics"):
        (folder / name).write_bytes(b"content")
    (folder / "linked").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    (folder / "nothing.png").symlink_to(folder / "absent.png")
    with caplog.at_level(logging.WARNING):
        denoise_files([str(folder)], str(folder / "out"), denoiser)
    written = sorted(p.name for p in (folder / "out").rglob("*.png"))
    assert written == ["0.png", "1.png", "c.png"]
    assert (folder / "out" / "linked" / "c.png").exists()
    (text,) = [r.getMessage() for r in caplog.records if "not read" in r.getMessage()]
    for line in (
        "a.CR2: RAW is not supported; convert it to TIFF",
        "b.dng: RAW is not supported; convert it to TIFF",
        "c.npz: an .npz holds several arrays; save each as .npy",
        "notes.txt: no picture format",
        "loop: a link to a folder that contains it",
        "nothing.png: a link to nothing",
    ):
        assert line in text
    assert text.startswith("6 files were not read")
    assert "hidden" not in text
    caplog.clear()
    names = data.open_source(str(folder), channels=1).names
    assert names == (
        "0.png",
        "1.png",
        "linked/c.png",
        *("out/0.png", "out/1.png", "out/linked/c.png"),
    )
    assert "a.CR2: RAW is not supported" in caplog.text


def test_a_single_file_that_fails_speaks_of_no_others(denoiser, folder):
    (folder / "0.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="The picture failed, nothing was written"):
        denoise_files([str(folder / "0.png")], str(folder / "out"), denoiser)


@pytest.mark.parametrize("num_pages", [1, 3])
def test_channels_without_a_meaning_are_denoised_one_by_one(
    denoiser, folder, num_pages
):
    shape = (num_pages, 16, 20, 5)
    stack = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with tifffile.TiffWriter(folder / "a.tif") as writer:
        for page in stack:
            writer.write(page, photometric=1, extrasamples=[0] * 4, planarconfig=1)
    denoise_files([str(folder / "a.tif")], str(folder / "out"), denoiser)
    with tifffile.TiffFile(folder / "out" / "a.tif") as file:
        result = np.stack([page.asarray() for page in file.pages])
    for page, denoised in zip(stack, result, strict=True):
        for channel in range(5):
            expected = denoiser(page[..., channel])
            np.testing.assert_allclose(denoised[..., channel], expected, atol=1)
    denoise_files(
        [str(folder / "0.png")], str(folder / "out"), denoiser, channels="independent"
    )


@pytest.mark.parametrize("name", ["out.png", "out.TIFF", "stack.npy"])
def test_the_output_is_a_folder(denoiser, folder, name):
    with pytest.raises(ValueError, match=f"output must be a folder.*{name}'"):
        denoise_files([str(folder / "0.png")], str(folder / name), denoiser)
    assert not (folder / name).exists()
    (folder / name).mkdir()
    denoise_files([str(folder / "0.png")], str(folder / name), denoiser)
    assert (folder / name / "0.png").exists()


def _with_gaps(*shape):
    pixels = np.random.default_rng(0).random((*shape, 20, 24), np.float32)
    pixels[..., 3, 4], pixels[..., 0] = np.nan, np.inf
    return pixels


@pytest.mark.parametrize("name, shape", [("a.tif", ()), ("b.tif", (2,)), ("c.npy", ())])
def test_missing_pixels_of_files_are_kept_and_counted(
    denoiser, tmp_path, caplog, name, shape
):
    pixels, path = _with_gaps(*shape), tmp_path / name
    write = np.save if name.endswith("npy") else tifffile.imwrite
    write(path, pixels)
    with caplog.at_level("INFO", logger="absl"):
        (written,) = denoise_files([str(path)], str(tmp_path / "out"), denoiser)
    read = np.load if name.endswith("npy") else tifffile.imread
    bad, result = ~np.isfinite(pixels), read(written)
    np.testing.assert_array_equal(result[bad], pixels[bad])
    assert np.isfinite(result[~bad]).all() and (result != pixels)[~bad].mean() > 0.9
    assert f"{bad.sum()} of {pixels.size} values are missing" in caplog.text


def test_a_file_that_is_mostly_missing_fails_by_itself(denoiser, folder):
    tifffile.imwrite(folder / "a.tif", np.full((20, 24), np.nan, np.float32))
    with pytest.raises(ValueError, match="1 of 3 pictures failed.*\n.*At least half"):
        denoise_files([str(folder)], str(folder / "out"), denoiser)


@pytest.mark.parametrize("pages", [1, 2])
def test_outliers_of_files_are_replaced_on_demand(denoiser, tmp_path, caplog, pages):
    pixels = np.full((pages, 20, 24), 100, np.uint8)
    pixels[:, 9, 9] = 255
    tifffile.imwrite(tmp_path / "a.tif", pixels.squeeze())
    options = {"remove_outliers": True, "overwrite": True}
    with caplog.at_level("INFO", logger="absl"):
        denoise_files([str(tmp_path / "a.tif")], str(tmp_path / "o"), denoiser)
        before = tifffile.imread(tmp_path / "o/a.tif")
        assert "outliers" not in caplog.text
        denoise_files(
            [str(tmp_path / "a.tif")], str(tmp_path / "o"), denoiser, **options
        )
    after = tifffile.imread(tmp_path / "o/a.tif")
    steps = [np.ptp(np.float64(one)) for one in (before, after)]
    assert steps[0] > 20 and steps[1] < 3
    assert f"{pages} of {480 * pages} values were isolated outliers" in caplog.text
