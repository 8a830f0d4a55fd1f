"""Crops, grids, whole pictures and pairs."""

from __future__ import annotations

import itertools
import logging

import numpy as np
import pytest
import tensorflow as tf
import tifffile
from PIL import Image
from tensorflow_datasets import testing as tfds_testing

from tfflowdn import data, inference


def _source(folder, sizes, channels=1, dtype="uint8"):
    folder.mkdir(parents=True, exist_ok=True)
    for index, size in enumerate(sizes):
        rng = np.random.default_rng(index)
        array = rng.integers(0, 256, (*size, channels)).astype(dtype)
        data.write_image(folder / f"{index}.tif", array)
    return data.open_source(str(folder), channels=channels)


def _unsized(source):
    names = source.names
    return data.TfdsSource(source.dataset(), names, source.channels, sizes=None)


def _take(dataset, count):
    return np.stack(list(dataset.take(count).as_numpy_iterator()))


def _dihedral(array):
    turned = [np.rot90(array, k) for k in range(4)]
    return turned + [t[:, ::-1] for t in turned]


def _all_crops(source, size):
    for image in source.dataset().as_numpy_iterator():
        for top in range(image.shape[0] - size + 1):
            for left in range(image.shape[1] - size + 1):
                yield image[top : top + size, left : left + size]


def _key(array):
    return np.rint(array * 255).astype(np.uint8).tobytes()


def test_random_crops_have_shape_range_and_end_never(tmp_path):
    source = _source(tmp_path, [(20, 25), (16, 16)], channels=3)
    crops = data.RandomCrops(source, crop_size=16, batch_size=5)()
    assert crops.element_spec == tf.TensorSpec([5, 16, 16, 3], tf.float32)
    batches = _take(crops, 50)
    assert batches.min() == 0 and batches.max() == 1


def test_contrast_is_lowered_about_the_mean_of_each_channel(tmp_path):
    source = _source(tmp_path, [(9, 9)], channels=3)
    options = {"crop_size": 8, "batch_size": 64}
    plain = _take(data.RandomCrops(source, **options)(), 4).reshape(-1, 8, 8, 3)
    crops = data.RandomCrops(source, contrast_range=(0.2, 0.8), **options)
    lowered = _take(crops(), 4).reshape(plain.shape)
    mean = plain.mean((1, 2), keepdims=True)
    np.testing.assert_allclose(lowered.mean((1, 2), keepdims=True), mean, atol=1e-6)
    contrast = np.std(lowered, (1, 2)) / np.std(plain, (1, 2))  # [256, 3]
    np.testing.assert_allclose(contrast[:, 1:], contrast[:, :1].repeat(2, 1), rtol=1e-4)
    np.testing.assert_allclose(
        lowered, mean + contrast[:, None, None] * (plain - mean), atol=1e-6
    )
    quantiles = np.quantile(contrast[:, 0], [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(quantiles, [0.2, 0.35, 0.5, 0.65, 0.8], atol=0.06)
    np.testing.assert_array_equal(next(iter(crops(3))), lowered[192:])


def test_zoom_enlarges_the_middle_as_pillow_does(tmp_path):
    source = _source(tmp_path, [(24, 24)], channels=3)
    options = {"crop_size": 24, "batch_size": 2, "augment": False}
    picture = next(source.dataset().as_numpy_iterator())
    enlarged = next(iter(data.RandomCrops(source, zoom_range=(3, 3), **options)()))
    bands = [Image.fromarray(band).convert("F") for band in np.rollaxis(picture, 2)]
    box = (8, 8, 16, 16)  # Its neighbors also count.
    expected = [b.resize((24, 24), Image.Resampling.BICUBIC, box) for b in bands]
    expected = np.stack([np.asarray(band) / 255 for band in expected], axis=-1)
    # Pillow looks no farther than the box.
    inner = slice(6, 18)
    np.testing.assert_allclose(
        enlarged[0, inner, inner], expected[inner, inner], atol=1e-5
    )


def test_zooms_are_uniform(tmp_path):
    ramp = np.tile(np.arange(33, dtype=np.uint8) * 4, (33, 1))[..., np.newaxis]
    data.write_image(tmp_path / "ramp.png", ramp)
    source = data.open_source(str(tmp_path), channels=1)
    options = {"crop_size": 33, "batch_size": 64, "augment": False}
    crops = data.RandomCrops(source, zoom_range=(1.5, 4.0), **options)
    enlarged = _take(crops(), 4).reshape(-1, 33, 33) * 255
    slopes = np.diff(enlarged, axis=2)
    np.testing.assert_allclose(
        slopes, np.broadcast_to(slopes[:, :1, :1], slopes.shape), atol=1e-3
    )
    zooms = 4 / slopes[:, 0, 0]
    quantiles = np.quantile(zooms, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(quantiles, [1.5, 2.125, 2.75, 3.375, 4], atol=0.25)
    np.testing.assert_allclose(enlarged[:, 16, 16], 64, atol=1e-3)
    again = next(iter(crops(3)))[..., 0]
    np.testing.assert_allclose(again * 255, enlarged[192:], rtol=1e-6)


def test_a_zoom_of_one_copies(tmp_path):
    source = _source(tmp_path, [(9, 9)])
    options = {"crop_size": 9, "batch_size": 2}
    plain = _take(data.RandomCrops(source, **options)(), 2)
    crops = data.RandomCrops(source, zoom_range=(1.0, 1.0 + 1e-7), **options)
    np.testing.assert_allclose(_take(crops(), 2), plain, atol=1e-5)


@pytest.mark.parametrize("limits", [(0.5, 1.0), (3.0, 2.0)])
def test_zoom_errors(tmp_path, limits):
    source = _source(tmp_path, [(9, 9)])
    with pytest.raises(ValueError, match="1 <= a <= b. Received: zoom_range="):
        data.RandomCrops(source, crop_size=8, batch_size=1, zoom_range=limits)


@pytest.mark.parametrize("limits", [(-0.1, 1.0), (0.9, 0.2), (0.5, 1.1)])
def test_contrast_errors(tmp_path, limits):
    source = _source(tmp_path, [(9, 9)])
    with pytest.raises(ValueError, match="0 <= a <= b <= 1. Received: contrast_range="):
        data.RandomCrops(source, crop_size=8, batch_size=1, contrast_range=limits)


@pytest.mark.parametrize("augment", [False, True])
def test_random_crops_are_crops_all_and_evenly(tmp_path, augment):
    source = _source(tmp_path, [(6, 7), (5, 5)])
    turn = _dihedral if augment else lambda crop: [crop]
    counts = {_key(t / 255): 0 for c in _all_crops(source, 5) for t in turn(c)}
    kinds = 8 if augment else 1
    assert len(counts) == 7 * kinds
    crops = data.RandomCrops(source, crop_size=5, batch_size=100, augment=augment)
    crops = _take(crops(), 40).reshape(-1, 5, 5, 1)
    for crop in crops:
        counts[_key(crop)] += 1  # a KeyError is a crop that no picture holds
    # Half of the visits fall on the picture with 6 positions, half on the other.
    counts = np.sort(list(counts.values())).reshape(7, kinds)
    expected = len(crops) / 2 / kinds / np.array([6] * 6 + [1])
    assert np.abs(counts / expected[:, None] - 1).max() < (0.5 if augment else 0.2)


def test_random_crops_are_reproducible_and_change_between_epochs(tmp_path):
    source = _source(tmp_path, [(16, 16)] * 4)

    def run(seed):
        crops = data.RandomCrops(source, crop_size=8, batch_size=8, seed=seed)
        return _take(crops(), 9)

    first = run(3)
    np.testing.assert_array_equal(first, run(3))
    assert not np.array_equal(first, run(4))
    assert len({_key(batch) for batch in first}) == len(first)


def test_batches_from_a_step_on_are_those_of_the_whole_run(tmp_path):
    source = _source(tmp_path, [(9, 12)] * 7)
    options = {"crop_size": 8, "batch_size": 3, "seed": 5}
    whole = _take(data.RandomCrops(source, **options)(), 12)
    crops = data.RandomCrops(source, **options)
    for first_step in (0, 1, 4, 11):
        rest = _take(crops(first_step), 12 - first_step)
        np.testing.assert_array_equal(rest, whole[first_step:])
    far = 10**9
    np.testing.assert_array_equal(_take(crops(far), 2)[1], _take(crops(far + 1), 1)[0])


def test_each_pass_takes_every_picture_once_in_a_new_order(tmp_path):
    for index in range(12):
        picture = np.full((4, 4, 1), index, np.uint8)
        data.write_image(tmp_path / f"{index:02d}.png", picture)
    data.write_image(tmp_path / "005.png", np.zeros((3, 9, 1), np.uint8))  # Too small.
    source = data.open_source(str(tmp_path), channels=1)
    crops = data.RandomCrops(source, crop_size=4, batch_size=5)
    shown = np.rint(_take(crops(), 24)[:, :, 0, 0, 0] * 255).astype(int)
    passes = shown.reshape(10, 12)
    np.testing.assert_array_equal(np.sort(passes), np.tile(np.arange(12), (10, 1)))
    assert len({tuple(order) for order in passes}) == 10
    for step in (0, 2, 23):
        expected = sorted({f"{index:02d}.png" for index in shown[step]})
        assert crops.names(step) == expected


def test_orders_of_the_passes_are_not_correlated(tmp_path):
    count = 250
    data.write_image(tmp_path / "a.png", np.zeros((1, 1, 1), np.uint8))
    source = data.open_source(str(tmp_path / "a.png"), channels=1).select([0] * count)
    crops = data.RandomCrops(source, crop_size=1, batch_size=count)
    orders = [
        crops._pick(tf.constant(step, tf.int64), tf.constant(count)).numpy()
        for step in range(100)
    ]
    pairs = [(a, b) for a, b in itertools.pairwise(orders)]
    pairs += [(order, np.arange(count)) for order in orders]
    pairs += [(order[1:], order[:-1]) for order in orders]
    correlations = np.array([np.corrcoef(a, b)[0, 1] for a, b in pairs])
    assert np.mean(correlations**2) * count == pytest.approx(1, abs=0.3)


def test_pictures_that_do_not_fit_into_memory(monkeypatch):
    free = type("Memory", (), {"available": 100})
    with tfds_testing.mock_data(num_examples=3):
        source = data.open_source("tfds:mnist", channels=1)
        monkeypatch.setattr(data.memory.psutil, "virtual_memory", lambda: free)
        with pytest.raises(ValueError, match="all pictures of a source must fit into"):
            data.RandomCrops(source, crop_size=4, batch_size=2)


def _count_views(monkeypatch):
    views, view = [], data.Picture.view
    monkeypatch.setattr(
        data.Picture, "view", lambda self, i: views.append(i) or view(self, i)
    )
    return views


def test_pictures_are_decoded_once(tmp_path, monkeypatch):
    source = _source(tmp_path, [(8, 8)] * 3)
    views = _count_views(monkeypatch)
    crops = data.RandomCrops(source, crop_size=4, batch_size=8)
    _take(crops(), 20)
    _take(crops(30), 20)
    crops.names(3)
    assert len(views) == 3


@pytest.mark.parametrize("name", ["a.npy", "a.tif", "zlib.tif"])
@pytest.mark.parametrize("pixel_range", ["dtype", "1%,99%"])
def test_crops_of_a_stack_that_stays_on_disk_are_the_same(
    tmp_path, monkeypatch, name, pixel_range
):
    stack = np.random.default_rng(0).integers(0, 4096, (2, 3, 12, 15), np.uint16)
    if name == "a.npy":
        np.save(tmp_path / name, stack)
    else:
        compression = "zlib" if name == "zlib.tif" else None
        tifffile.imwrite(
            tmp_path / name, stack, photometric="minisblack", compression=compression
        )
    source = data.open_source(
        str(tmp_path / name), channels=1, axes="TZYX", pixel_range=pixel_range
    )
    stem = name.partition(".")[0]
    assert source.names[4] == f"{stem}/0004.{name[-3:]}"
    assert source.sizes == ((12, 15),) * 6
    pictures = np.stack(list(source.dataset().as_numpy_iterator()))
    expected = data.to_float(stack.reshape(6, 12, 15, 1), source.limits(0))
    if pixel_range != "dtype":
        np.testing.assert_array_equal(pictures, expected)
    whole = _take(data.RandomCrops(source, crop_size=8, batch_size=7)(3), 2)
    monkeypatch.setattr("tfflowdn.data.picture_pool.is_large", lambda _: True)
    views = _count_views(monkeypatch)
    pool = data.PicturePool(source)
    pool.verify()
    crops = data.RandomCrops(pool, crop_size=8, batch_size=7)
    np.testing.assert_array_equal(_take(crops(3), 2), whole)
    assert crops.names(3)
    if name != "zlib.tif":
        picture = data.open_picture(tmp_path / name, "TZYX")
        assert views
        assert isinstance(picture.view(1), np.memmap)
        picture.close()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_integer_types_are_scaled_and_floats_are_not(tmp_path, dtype):
    source = _source(tmp_path, [(8, 8)], dtype=dtype)
    (stored,) = source.dataset().as_numpy_iterator()
    expected = data.to_float(stored)
    crops = data.RandomCrops(source, crop_size=8, batch_size=2, augment=False)
    np.testing.assert_array_equal(_take(crops(), 1)[0, 0], expected)
    (grid,) = data.image_batches(source, crop_size=8, batch_size=4).as_numpy_iterator()
    np.testing.assert_array_equal(grid, expected[None])


def test_small_pictures_are_skipped_with_a_warning(tmp_path, caplog):
    source = _source(tmp_path, [(8, 8), (4, 20), (3, 3)])
    with caplog.at_level(logging.WARNING, logger="absl"):
        batches = data.image_batches(source, crop_size=8, batch_size=4)
    assert "2 of 3 pictures are smaller than crop_size=8" in caplog.text
    assert [b.shape[0] for b in batches.as_numpy_iterator()] == [1]
    crops = data.RandomCrops(_unsized(source), crop_size=8, batch_size=4)
    assert _take(crops(), 2).shape == (2, 4, 8, 8, 1)


def test_no_picture_is_large_enough(tmp_path):
    source = _source(tmp_path, [(8, 8), (4, 20)])
    message = "none of the 2 is. Received: crop_size=9"
    for pictures, make in itertools.product(
        (source, _unsized(source)), (data.RandomCrops, data.image_batches)
    ):
        with pytest.raises(ValueError, match=message):
            make(pictures, crop_size=9, batch_size=1)


@pytest.mark.parametrize("name", ["crop_size", "batch_size"])
def test_numbers_below_one(tmp_path, name):
    source = _source(tmp_path, [(8, 8)])
    with pytest.raises(ValueError, match=f"{name} must be .* Received: {name}=0"):
        data.RandomCrops(source, **{"crop_size": 4, "batch_size": 1, name: 0})


def test_image_batches_are_a_centered_grid(tmp_path):
    source = _source(tmp_path, [(10, 13), (4, 4)])
    stored = data.to_float(next(source.dataset().as_numpy_iterator()))
    batches = data.image_batches(source, crop_size=4, batch_size=4)
    batches = list(batches.as_numpy_iterator())
    assert [len(batch) for batch in batches] == [4, 3]
    corners = [(1, 0), (1, 4), (1, 8), (5, 0), (5, 4), (5, 8)]
    expected = [stored[top : top + 4, left : left + 4] for top, left in corners]
    np.testing.assert_array_equal(np.concatenate(batches)[:6], expected)
    dropped = data.image_batches(source, crop_size=4, batch_size=4, drop_remainder=True)
    assert [len(batch) for batch in dropped.as_numpy_iterator()] == [4]


def _pair_folders(tmp_path, noisy_names, clean_names, size=(4, 4)):
    for folder, names in (("noisy", noisy_names), ("clean", clean_names)):
        (tmp_path / folder).mkdir()
        for value, name in enumerate(sorted(names)):
            array = np.full((*size, 1), 10 * value + (folder == "noisy"), np.uint8)
            data.write_image(tmp_path / folder / name, array)
    return tuple(
        data.open_source(str(tmp_path / folder), channels=1)
        for folder in ("noisy", "clean")
    )


def test_pairs_match_by_stem(tmp_path):
    noisy, clean = _pair_folders(
        tmp_path, ["a.png", "a-b.tif", "c.png"], ["a.tif", "a-b.png", "c.png"]
    )
    # "a-b.tif" sorts before "a.png", "a-b.png" before "a.tif": give them another order.
    pairs = data.paired_images(noisy.select([2, 0, 1]), clean)
    values = [(x[0, 0, 0], y[0, 0, 0]) for x, y in pairs.as_numpy_iterator()]
    expected = np.array([(21, 20), (1, 0), (11, 10)]) / 255
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_pairs_with_endings_in_one_folder(tmp_path):
    for name in ("1_real", "1_mean", "2_real", "2_mean"):
        data.write_image(tmp_path / f"{name}.png", np.zeros((4, 4, 1), np.uint8))
    noisy, clean = (
        data.open_source(f"{tmp_path}/*_{kind}.png", channels=1)
        for kind in ("real", "mean")
    )
    endings = {"noisy_ending": "_real", "clean_ending": "_mean"}
    noisy, clean = data.pair_sources(noisy, clean, **endings)
    assert noisy.names == ("1_real.png", "2_real.png")
    assert clean.names == ("1_mean.png", "2_mean.png")


def test_pair_errors(tmp_path):
    noisy, clean = _pair_folders(tmp_path, ["a.png", "b.png"], ["a.png", "c.png"])
    with pytest.raises(ValueError, match=r"Received: unmatched=\['b', 'c'\]"):
        data.paired_images(noisy, clean)
    with pytest.raises(
        ValueError, match=r"different files. Received in both: \['.*a\.png"
    ):
        data.paired_images(noisy, noisy)
    (tmp_path / "clean" / "a.tif").write_bytes((tmp_path / "clean/a.png").read_bytes())
    clean = data.open_source(str(tmp_path / "clean"), channels=1)
    with pytest.raises(ValueError, match=r"clash=\('a\.png', 'a\.tif'\)"):
        data.paired_images(noisy, clean)


def test_pair_sizes_differ(tmp_path):
    noisy = _source(tmp_path / "noisy", [(4, 4), (4, 5)])
    clean = _source(tmp_path / "clean", [(4, 4), (4, 4)])
    message = r"name='1.tif', noisy_size=\(4, 5\), clean_size=\(4, 4\)"
    with pytest.raises(ValueError, match=message):
        data.paired_images(noisy, clean)


def test_a_batch_that_cannot_be_filled_is_an_error(tmp_path):
    source = _source(tmp_path, [(8, 8)])
    with pytest.raises(ValueError, match="Received: num_crops=1, batch_size=2"):
        data.image_batches(source, crop_size=8, batch_size=2, drop_remainder=True)


def _gappy_source(tmp_path, stays_on_disk, monkeypatch):
    picture = np.random.default_rng(0).random((40, 40), np.float32)
    picture[20, 20] = picture[:, 9] = np.nan  # A dead pixel and a dead column.
    picture[:14] = np.inf
    tifffile.imwrite(tmp_path / "a.tif", picture)
    np.save(tmp_path / "b.npy", picture[:, ::-1])
    if stays_on_disk:
        monkeypatch.setattr("tfflowdn.data.picture_pool.is_large", lambda _: True)
    return data.open_source(str(tmp_path), channels=1)


@pytest.mark.parametrize("stays_on_disk", [False, True])
def test_crops_have_no_missing_pixels(tmp_path, monkeypatch, stays_on_disk):
    source = _gappy_source(tmp_path, stays_on_disk, monkeypatch)
    source.verify()
    crops = data.RandomCrops(source, crop_size=12, batch_size=4)
    batches = list(crops().take(6).as_numpy_iterator())
    assert np.isfinite(batches).all() and np.std(batches) > 0.2
    again = list(crops(3).take(1).as_numpy_iterator())
    np.testing.assert_array_equal(again[0], batches[3])
    grid = data.image_batches(source, crop_size=12, batch_size=3)
    found = np.concatenate(list(grid.as_numpy_iterator()))
    assert np.isfinite(found).all() and len(found) == 10
    assert len(grid) == 4


def test_pictures_without_a_whole_crop_are_refused(tmp_path):
    picture = np.zeros((20, 20), np.float32)
    picture[8:12] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", picture)
    source = data.open_source(str(tmp_path), channels=1)
    crops = data.RandomCrops(source, crop_size=12, batch_size=2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="without missing pixels"):
        next(iter(crops()))


@pytest.mark.parametrize("gaps, shape", [("fill", (40, 40, 1)), ("cut", (26, 40, 1))])
def test_pictures_are_filled_or_cut(tmp_path, monkeypatch, gaps, shape):
    source = data.PicturePool(_gappy_source(tmp_path, False, monkeypatch))
    for picture in source.with_gaps(gaps).dataset().as_numpy_iterator():
        assert np.isfinite(picture).all() and abs(len(picture) - shape[0]) <= 1


def test_pairs_keep_missing_pixels_or_are_cut(tmp_path):
    for folder, rows in (("noisy", slice(0, 6)), ("clean", slice(30, 40))):
        (tmp_path / folder).mkdir()
        picture = np.random.default_rng(0).random((40, 30), np.float32)
        picture[rows] = np.nan
        tifffile.imwrite(tmp_path / folder / "a.tif", picture)
    sources = [
        data.open_source(str(tmp_path / name), channels=1)
        for name in ("noisy", "clean")
    ]
    noisy, clean = next(data.paired_images(*sources).as_numpy_iterator())
    assert np.isnan(noisy).sum() == 180 and np.isnan(clean).sum() == 300
    (row,) = inference.score_pairs([(noisy + np.float32(0.1), clean)])
    assert row["noisy_psnr"] > 19.9
    noisy, clean = next(data.paired_images(*sources, cut=True).as_numpy_iterator())
    assert noisy.shape == clean.shape == (24, 30, 1)
    np.testing.assert_array_equal(noisy, clean)
