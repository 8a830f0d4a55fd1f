"""Collections of pictures and the checks made on opening them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tifffile

from tfflowdn import data


@pytest.fixture
def tfds():
    return pytest.importorskip("tensorflow_datasets")


def _write(path, channels=1, dtype="uint8", size=(8, 10), value=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (*size, channels)
    if value is None:
        rng = np.random.default_rng(len(path.name))
        array = (rng.random(shape) * 100).astype(dtype)
    else:
        array = np.full(shape, value, dtype)
    data.write_image(path, array)
    return array


def test_folder_is_recursive_sorted_and_leaves_out_the_rest(tmp_path):
    names = ["a/2.png", "a/1.JPG", "b.tif", "0.jpeg"]
    for name in [*names, ".hidden.png", ".git/c.png"]:
        _write(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    source = data.open_source(str(tmp_path), channels=1)
    assert source.names == ("0.jpeg", "a/1.JPG", "a/2.png", "b.tif")
    assert len(source) == 4 and source.channels == 1
    assert source.sizes == ((8, 10),) * 4 and source.min_size == 8


def test_pixels_come_in_the_order_of_the_names(tmp_path):
    arrays = [_write(tmp_path / f"{name}.png", value=v) for v, name in enumerate("abc")]
    source = data.open_source(str(tmp_path), channels=1)
    results = list(source.dataset().as_numpy_iterator())
    np.testing.assert_array_equal(results, arrays)
    assert source.dataset().element_spec == tf.TensorSpec([None, None, 1], tf.uint8)


def test_glob_and_single_file(tmp_path):
    for name in ("x/1_real.png", "y/2_real.png", "y/2_mean.png"):
        _write(tmp_path / name)
    source = data.open_source(f"{tmp_path}/**/*_real.png", channels=1)
    assert source.names == ("x/1_real.png", "y/2_real.png")
    source = data.open_source(f"{tmp_path}/y/2_mean.png", channels=1)
    assert source.names == ("2_mean.png",)


def test_relative_spec(tmp_path, monkeypatch):
    _write(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    for spec in ("*.png", "a.png", "."):
        assert data.open_source(spec, channels=1).names == ("a.png",)


def test_alpha_is_dropped(tmp_path):
    array = _write(tmp_path / "a.png", channels=4)
    source = data.open_source(str(tmp_path), channels=3)
    (result,) = source.dataset().as_numpy_iterator()
    np.testing.assert_array_equal(result, array[..., :3])


def test_mixed_depths_take_the_deepest(tmp_path):
    _write(tmp_path / "a.png", value=51)
    _write(tmp_path / "b.png", dtype="uint16", value=1000)
    source = data.open_source(str(tmp_path), channels=1)
    values = [image[0, 0, 0] for image in source.dataset().as_numpy_iterator()]
    assert source.dtype == "uint16" and values == [51 * 257, 1000]
    _write(tmp_path / "c.tif", dtype="float32", value=-0.25)
    source = data.open_source(str(tmp_path), channels=1)
    values = [image[0, 0, 0] for image in source.dataset().as_numpy_iterator()]
    np.testing.assert_allclose(values, [0.2, 1000 / 65535, -0.25], rtol=1e-6)


def test_select(tmp_path):
    for index in range(3):
        _write(tmp_path / f"{index}.png", value=index)
    source = data.open_source(str(tmp_path), channels=1).select([2, 0])
    assert source.names == ("2.png", "0.png")
    values = [image[0, 0, 0] for image in source.dataset().as_numpy_iterator()]
    assert values == [2, 0]


def test_missing_source(tmp_path):
    with pytest.raises(FileNotFoundError, match="existing folder .* Received: spec="):
        data.open_source(str(tmp_path / "none"), channels=1)


def test_no_picture(tmp_path):
    (tmp_path / "a.xyz").write_bytes(b"")
    for spec in (tmp_path, tmp_path / "*.png", tmp_path / "a.xyz"):
        with pytest.raises(ValueError, match=r"\.png, \.jpg, \.jpeg, \.jpe, \.jfif"):
            data.open_source(str(spec), channels=1)


def test_broken_header_names_the_file(tmp_path):
    _write(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"broken")
    with pytest.raises(data.ImageReadError, match=r"b\.png"):
        data.open_source(str(tmp_path), channels=1)


def test_broken_pixels_name_the_file(tmp_path):
    path = tmp_path / "b.png"
    _write(path, size=(64, 64))
    path.write_bytes(path.read_bytes()[:500])
    source = data.open_source(str(tmp_path), channels=1)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"b\.png"):
        list(source.dataset())


def test_wrong_channels(tmp_path):
    _write(tmp_path / "a.png", channels=3)
    message = r"must have 1 channel.* convert .* Received: channels=3 in '.*a\.png'"
    with pytest.raises(ValueError, match=message):
        data.open_source(str(tmp_path), channels=1)
    with pytest.raises(
        ValueError, match="channels must be 1 to 16, or None. Received: channels=17"
    ):
        data.open_source(str(tmp_path), channels=17)


@pytest.mark.parametrize("spec", ["tfds:mnist", "tfds:mnist:test", "tfds:mnist:3.*.*"])
def test_tfds_of_one_size(tfds, spec):
    with tfds.testing.mock_data(num_examples=3):
        source = data.open_source(spec, channels=1)
    assert source.names == ("000000", "000001", "000002") and source.min_size == 28
    images = list(source.dataset().as_numpy_iterator())
    assert len(images) == 3
    assert all(i.shape == (28, 28, 1) and i.dtype == np.uint8 for i in images)


def test_tfds_of_unknown_sizes(tfds):
    with tfds.testing.mock_data(num_examples=2):
        source = data.open_source("tfds:tf_flowers", channels=3)
    assert len(source) == 2 and source.sizes is None and source.min_size is None


@pytest.mark.parametrize(("name", "channels"), [("mnist", 1), ("tf_flowers", 3)])
def test_tfds_gives_crops_and_their_names(tfds, name, channels):
    with tfds.testing.mock_data(num_examples=3):
        source = data.open_source(f"tfds:{name}", channels=channels)
        crops = data.RandomCrops(source, crop_size=8, batch_size=6)
        whole = list(crops().take(3).as_numpy_iterator())
        (last,) = crops(2).take(1).as_numpy_iterator()
    assert whole[0].shape == (6, 8, 8, channels) and whole[0].min() >= 0
    np.testing.assert_array_equal(last, whole[2])
    assert crops.names(1) == ["000000", "000001", "000002"]


def test_tfds_errors(tfds, tmp_path):
    with tfds.testing.mock_data(num_examples=2):
        with pytest.raises(ValueError, match="channels=1 in 'tfds:mnist'"):
            data.open_source("tfds:mnist", channels=3)
        with pytest.raises(ValueError, match='feature "image". Received: features='):
            data.open_source("tfds:imdb_reviews", channels=3)
    for name in ("mnist", "no_such_set"):
        with pytest.raises(FileNotFoundError, match=f"prepared .* spec='tfds:{name}'"):
            data.open_source(f"tfds:{name}", channels=1, data_dir=tmp_path)
    with pytest.raises(
        ValueError, match=r"tfds:NAME\[:SPLIT\]. Received: spec='tfds:'"
    ):
        data.open_source("tfds:", channels=1)


@pytest.mark.parametrize("by", ["file", "page"])
def test_percentiles_are_those_of_a_file_or_a_page(tmp_path, by):
    stack = np.random.default_rng(0).integers(0, 1000, (3, 8, 9), np.uint16)
    stack[1] *= 4
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    source = data.open_source(
        str(tmp_path), channels=1, pixel_range="0%,100%", percentiles_by=by
    )
    pages = stack[1] if by == "page" else stack
    assert source.limits(1) == (pages.min(), pages.max())
    results = np.stack(list(source.dataset().as_numpy_iterator()))
    peaks = results.max((1, 2, 3))
    np.testing.assert_allclose(peaks == 1, [by == "page", True, by == "page"])


def test_arrays_need_axes_where_their_shape_does_not_say(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((5, 8, 9), np.uint8))
    with pytest.raises(data.ImageReadError, match="other arrays need axes"):
        data.open_source(str(tmp_path), channels=1)
    assert len(data.open_source(str(tmp_path), channels=1, axes="zyx")) == 5
    np.save(tmp_path / "a.npy", np.zeros((8, 9, 3), np.uint8))
    assert data.open_source(str(tmp_path), channels=3).names == ("a.npy",)
    with pytest.raises(ValueError, match="percentiles_by must be one of"):
        data.open_source(str(tmp_path), channels=3, percentiles_by="plane")


def test_stacks_are_paired_page_by_page(tmp_path):
    stack = np.random.default_rng(0).integers(0, 256, (3, 8, 9), np.uint8)
    for name in ("noisy", "clean"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "a.npy", stack)
    tifffile.imwrite(tmp_path / "clean" / "b.tif", 255 - stack, photometric=1)
    tifffile.imwrite(tmp_path / "noisy" / "b.tif", 255 - stack, photometric=1)
    sources = (
        data.open_source(str(tmp_path / name), channels=1, axes="TYX")
        for name in ("noisy", "clean")
    )
    pairs = list(data.paired_images(*sources).as_numpy_iterator())
    assert len(pairs) == 6
    for noisy, clean in pairs:
        np.testing.assert_array_equal(noisy, clean)


def test_all_pictures_that_cannot_be_read_are_named(tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=(9, 9, 1), dtype=np.uint8)
    for name in ("a.png", "b.png", "c.png"):
        data.write_image(tmp_path / name, pixels)
    source = data.open_source(str(tmp_path), channels=1)
    for name in ("a.png", "c.png"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[:-30])
    with pytest.raises(data.ImageReadError, match="2 of 3 are not") as caught:
        source.verify()
    assert "a.png" in str(caught.value) and "c.png" in str(caught.value)
    for name in ("a.png", "c.png"):
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(data.ImageReadError, match=r"(?s)2 of 3.*a\.png.*c\.png"):
        data.open_source(str(tmp_path), channels=1)
