"""Stacks whose pages are channels of one picture, and axes that the user names."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from multichannel_test import _config, _network

from tfflowdn import Denoiser, data, inference, stages
from tfflowdn.models import ResNetDenoiser
from tfflowdn.scripts.denoise import denoise_files
from tfflowdn.scripts.evaluate import evaluate

RNG = np.random.default_rng(0)


def _stack(*shape, dtype="uint16"):
    return RNG.integers(0, 200, (*shape, 12, 14)).astype(dtype)


def _plain(path, stack, **options):
    with tifffile.TiffWriter(path) as writer:
        for plane in stack.reshape(-1, *stack.shape[-2:]):
            writer.write(plane, photometric="minisblack", metadata=None, **options)


def _imagej(path, stack, axes):
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": axes})


def _named(path, stack, axes, **options):
    metadata = {"axes": axes}
    tifffile.imwrite(
        path, stack, metadata=metadata, photometric="minisblack", **options
    )


# name: function(path, stack), shape of the stack, axes of the stack, --axes
STACKS = {
    "ImageJ, C": (lambda p, s: _imagej(p, s, "CYX"), (2,), "CYX", None),
    "ImageJ, TZC int16": (
        lambda p, s: _imagej(p, s.astype("int16").view("uint16"), "TZCYX"),
        (2, 3, 2),
        "TZCYX",
        None,
    ),
    "ImageJ, one page for all": (
        lambda p, s: tifffile.imwrite(
            p, s, imagej=True, truncate=True, metadata={"axes": "ZCYX"}
        ),
        (3, 2),
        "ZCYX",
        None,
    ),
    "OME, C": (lambda p, s: _named(p, s, "CYX", ome=True), (4,), "CYX", None),
    "OME, C before T": (
        lambda p, s: _named(p, s, "CTYX", ome=True, compression="zlib"),
        (5, 2),
        "CTYX",
        None,
    ),
    "tifffile, TC": (lambda p, s: _named(p, s, "TCYX"), (2, 3), "TCYX", None),
    "plain, named by the user": (_plain, (2,), "CYX", "CYX"),
    "plain, last of two axes": (_plain, (3, 2), "TCYX", "tcyx"),
    "plain, first of two axes": (_plain, (2, 3), "CTYX", "CTYX"),
    "shape without names": (
        lambda p, s: tifffile.imwrite(p, s, photometric="minisblack"),
        (2, 2, 3),
        "TCZYX",
        "TCZYX",
    ),
    "absent axes of length 1": (
        lambda p, s: _imagej(p, s, "CYX"),
        (3,),
        "CYX",
        "TZCYX",
    ),
}


def _means(stack, axes):
    """Returns the stack with the mean of its channels in place of each."""
    mean = stack.mean(axes.index("C"), keepdims=True)
    return np.broadcast_to(mean, stack.shape)


@pytest.mark.parametrize("name", STACKS)
def test_pages_are_channels(tmp_path, name):
    write, shape, letters, axes = STACKS[name]
    stack, path = _stack(*shape), tmp_path / "in/a.tif"
    path.parent.mkdir()
    write(path, stack)
    count = shape[letters.index("C")]
    denoise_files(
        [str(path)], str(tmp_path / "out"), Denoiser(_network(count)), axes=axes
    )
    result = tifffile.imread(tmp_path / "out/a.tif").reshape(stack.shape)
    np.testing.assert_allclose(result, _means(stack, letters), atol=1)

    source = data.open_source(str(path.parent), channels=count, axes=axes)
    assert len(source) == stack[..., 0, 0].size // count
    pictures = np.stack(list(source.dataset().as_numpy_iterator()))
    planes = np.moveaxis(stack, letters.index("C"), -1)
    np.testing.assert_array_equal(
        pictures.astype("uint16"), planes.reshape(pictures.shape)
    )
    rows = columns = np.arange(5)
    crop = source.read_crop(len(source) - 1, rows, columns)
    np.testing.assert_array_equal(crop, pictures[-1][rows, columns])
    # Each page is a picture of a gray model.
    assert (
        len(data.open_source(str(path), channels=1, axes=axes)) == len(source) * count
    )


def test_the_channels_of_the_pictures_are_the_pages(tmp_path):
    for index in range(3):
        _imagej(tmp_path / f"{index}.tif", _stack(2, 2, dtype="uint8"), "ZCYX")
    source = data.open_source(str(tmp_path), channels=None)
    assert (source.channels, len(source)) == (2, 6)
    general = data.open_source(str(tmp_path), channels=None, together=(1, 3))
    assert (general.channels, len(general)) == (1, 12)

    spec = str(tmp_path)
    config = _config("denoiser_resnet", **{"clean.spec": spec, "noisy.spec": spec})
    with config.unlocked():
        del config["objective"]
    config.start.crops.crop_size = 8
    path = stages.train_denoiser(config, tmp_path / "run")
    network = inference.load_denoiser(path)
    assert network.channels == 2
    denoise_files([f"{spec}/0.tif"], str(tmp_path / "out"), str(path))
    stack = tifffile.imread(f"{spec}/0.tif")
    result = tifffile.imread(tmp_path / "out/0.tif")
    expected = Denoiser(network)(stack, axes="ZCYX")
    np.testing.assert_array_equal(result, expected)
    with tifffile.TiffFile(tmp_path / "out/0.tif") as tiff:
        assert tiff.series[0].axes == "ZCYX"
    scores = evaluate(f"{spec}/0.tif", str(tmp_path / "out/0.tif"), str(path))
    assert len(scores["pictures"]) == 2


# name: axes, message
REFUSED = {
    "no axis of the pages": ("YX", "name each axis"),
    "an axis twice": ("TTYX", "name each axis"),
    "no X": ("TYZ", "name each axis"),
    "unknown lengths": ("TCZYX", "does not store the lengths"),
    "other channels": ("TCYX", "does not store the lengths"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_axes_that_do_not_fit_are_refused(tmp_path, name):
    axes, message = REFUSED[name]
    path = tmp_path / "a.tif"
    _plain(path, _stack(7))
    with pytest.raises(data.ImageReadError, match=message):
        data.open_source(str(path), channels=2, axes=axes)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        denoiser = Denoiser(_network(2))
        denoise_files([str(path)], str(tmp_path / "out"), denoiser, axes=axes)
    assert not (tmp_path / "out/a.tif").exists()


def test_pages_of_other_kinds_are_no_channels(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for height in (12, 10):
            writer.write(np.zeros((height, 14), np.uint8), metadata=None)
    with pytest.raises(data.ImageReadError, match="one size and dtype"):
        data.open_source(str(tmp_path), channels=2, axes="CYX")


def test_independent_channels_and_alpha(tmp_path):
    denoiser = Denoiser(ResNetDenoiser(num_blocks=1, hidden_channels=4), _network(3))
    picture = _stack(4, dtype="uint8").transpose(1, 2, 0)
    np.save(tmp_path / "a.npy", picture[..., :3])
    np.save(tmp_path / "c.npy", picture[..., :2].transpose(2, 0, 1))
    data.write_image(tmp_path / "b.png", picture)
    denoise_files(
        [str(tmp_path)], str(tmp_path / "out"), denoiser, channels="independent",
        axes=None,
    )  # fmt: skip
    apart = [denoiser(picture[..., i]) for i in range(3)]
    for result in (
        np.load(tmp_path / "out/a.npy"),
        data.read_image(tmp_path / "out/b.png"),
    ):
        for channel in range(3):
            np.testing.assert_allclose(result[..., channel], apart[channel], atol=1)
    assert (result[..., 3] == picture[..., 3]).all()


@pytest.mark.parametrize("axes", [None, "CZYX", "ZYXC", "ZCYX"])
def test_zarr_has_the_axes_of_the_user(tmp_path, axes):
    zarr = pytest.importorskip("zarr")
    stack = _stack(2, 3) if axes != "ZYXC" else RNG.integers(0, 9, (2, 12, 14, 2))
    stack = stack.astype("uint16")
    array = zarr.create_array(tmp_path / "a.zarr", shape=stack.shape, dtype="uint16")
    array[...] = stack
    count = dict(zip(axes or "", stack.shape, strict=False)).get("C", 1)
    network = _network(count)
    denoise_files(
        [str(tmp_path / "a.zarr")], str(tmp_path / "out"), Denoiser(network), axes=axes
    )
    result = zarr.open_array(tmp_path / "out/a.zarr")[...]
    expected = stack if axes is None else _means(stack, axes)
    np.testing.assert_allclose(result, expected, atol=1)
