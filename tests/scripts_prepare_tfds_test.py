"""prepare_tfds: a folder as sharded records."""

from __future__ import annotations

import numpy as np
import pytest

from tfflowdn import data
from tfflowdn.scripts import prepare_tfds
from tfflowdn.scripts.prepare_tfds import prepare

pytest.importorskip("tensorflow_datasets")


def _write(folder, count, dtype=np.uint8, seed=0):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        picture = rng.integers(0, 256, (8 + index % 3, 9, 1)).astype(dtype)
        data.write_image(folder / f"{seed}_{index:02d}.tif", picture)
    return data.open_source(str(folder), channels=1)


def _read(data_dir, split):
    source = data.open_source(f"tfds:some:{split}", channels=1, data_dir=data_dir)
    return [image.tobytes() for image in source.dataset().as_numpy_iterator()]


def _pictures(source):
    return [image.tobytes() for image in source.dataset().as_numpy_iterator()]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_splits_hold_every_picture_once(tmp_path, dtype):
    source = _write(tmp_path / "in", 30, dtype)
    folder = tmp_path / "out" / "some" / "1.0.0"
    prepare(source, folder, validation_share=0.3, shard_size=8)
    train, held_out = (_read(tmp_path / "out", s) for s in ("train", "validation"))
    assert sorted(train + held_out) == sorted(_pictures(source))
    assert 3 <= len(held_out) <= 15
    assert len(list(folder.glob("some-train.tfrecord-*"))) == -(-len(train) // 8)
    crops = data.RandomCrops(
        data.open_source("tfds:some", channels=1, data_dir=tmp_path / "out"),
        crop_size=8,
        batch_size=4,
    )
    (batch,) = crops().take(1).as_numpy_iterator()
    assert batch.shape == (4, 8, 8, 1)


def test_a_picture_stays_in_its_split(tmp_path):
    source = _write(tmp_path / "in", 20)
    prepare(source, tmp_path / "a" / "some" / "1.0.0", validation_share=0.4)
    source = _write(tmp_path / "in", 10, seed=1)
    prepare(source, tmp_path / "b" / "some" / "1.0.0", validation_share=0.4)
    for split in ("train", "validation"):
        assert set(_read(tmp_path / "a", split)) <= set(_read(tmp_path / "b", split))


def test_it_goes_on_after_a_kill_and_does_nothing_twice(tmp_path, monkeypatch):
    source = _write(tmp_path / "in", 20)
    folder = tmp_path / "out" / "some" / "1.0.0"
    write_shard, written = prepare_tfds._write_shard, []

    def killed(path, *arguments):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        write_shard(path, *arguments)

    monkeypatch.setattr(prepare_tfds, "_write_shard", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, folder, shard_size=4)
    before = {path: path.stat().st_mtime_ns for path in written}
    monkeypatch.setattr(prepare_tfds, "_write_shard", write_shard)
    prepare(source, folder, shard_size=4)
    assert before == {path: path.stat().st_mtime_ns for path in written}
    splits = [_read(tmp_path / "out", split) for split in ("train", "validation")]
    assert sorted(sum(splits, [])) == sorted(_pictures(source))
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    prepare(source, folder, shard_size=4)
    assert times == {path: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_a_version_holds_what_it_was_begun_with(tmp_path):
    folder = tmp_path / "out" / "some" / "1.0.0"
    prepare(_write(tmp_path / "in", 6), folder)
    with pytest.raises(ValueError, match="raise --version for others. Received:"):
        prepare(_write(tmp_path / "in", 7), folder)
    with pytest.raises(ValueError, match="must have 8 or 16 bits. Received: dtype=fl"):
        prepare(_write(tmp_path / "float", 2, np.float32), folder)


def test_all_broken_pictures_are_named_before_anything_is_written(tmp_path):
    source = _write(tmp_path / "in", 4)
    for path in source.paths[1:3]:
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(data.ImageReadError, match="2 of 4"):
        prepare(source, tmp_path / "out" / "some" / "1.0.0")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["../some", "a/b", "..", "", ".a", "a\\b"])
def test_names_are_one_component_of_a_path(name):
    prepare_tfds.check_names("some", "1.0.0")
    with pytest.raises(ValueError, match="one component of a path"):
        prepare_tfds.check_names("some", name)
