"""Zarr and OME-Zarr folders: read plane by plane, written with their metadata."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tfflowdn import Denoiser, data
from tfflowdn.models import ResNetDenoiser
from tfflowdn.scripts.denoise import denoise_files

zarr = pytest.importorskip("zarr")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:zarr.*")
STACK = np.random.default_rng(0).integers(0, 200, (2, 3, 8, 9)).astype(np.uint16)


def _array(path, zarr_format, values=STACK, names=None, **options):
    options.setdefault("chunks", (1, 2, 4, 9)[-values.ndim :])
    names = names if zarr_format == 3 else None
    array = zarr.create_array(
        path,
        shape=values.shape,
        dtype=values.dtype,
        zarr_format=zarr_format,
        dimension_names=names,
        attributes={"made by": "a test"},
        **options,
    )
    array[...] = values


def _ome(path, zarr_format):
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    axes = [{"name": name} for name in "czyx"]
    levels = [
        {
            "path": str(level),
            "coordinateTransformations": [{"type": "scale", "scale": [1, 2, s, s]}],
        }
        for level, s in enumerate((0.5, 1.0))
    ]
    scales = {"multiscales": [{"version": "0.4", "axes": axes, "datasets": levels}]}
    group.attrs.update(scales if zarr_format == 2 else {"ome": scales})
    _array(path / "0", zarr_format)
    _array(path / "1", zarr_format, STACK[..., ::2, ::2])


def _same(pixels, out):
    np.copyto(out, pixels + 1)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", [None, "float32"])
def test_pictures_with_levels_keep_their_metadata(tmp_path, zarr_format, dtype):
    path, target = tmp_path / "a.ome.zarr", tmp_path / "b.ome.zarr"
    _ome(path, zarr_format)
    assert data.num_pages(path) == 6
    assert data.map_pages(path, target, _same, dtype) == STACK.size
    written = zarr.open_array(target / "0", mode="r")
    np.testing.assert_array_equal(written[...], STACK + 1)
    assert written.dtype == (dtype or "uint16")
    assert written.chunks == (1, 2, 4, 9)
    assert written.attrs["made by"] == "a test"
    attributes = dict(zarr.open_group(target, mode="r").attrs)
    (scale,) = attributes.get("ome", attributes)["multiscales"]
    (level,) = scale["datasets"]
    assert level["coordinateTransformations"][0]["scale"] == [1, 2, 0.5, 0.5]
    assert [axis["name"] for axis in scale["axes"]] == list("czyx")
    assert not (target / "1").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ome.zarr", "b.ome.zarr"]


@pytest.mark.parametrize(
    ("axes", "shape", "pages"),
    [
        (None, (8, 9), 1),
        (None, (2, 3, 8, 9), 6),
        ("TYXS", (2, 8, 9, 3), 2),
        ("SYX", (3, 8, 9), 1),
    ],
)
def test_axes(tmp_path, axes, shape, pages):
    values = np.random.default_rng(0).integers(0, 9, shape).astype(np.int16)
    path, target = tmp_path / "a.zarr", tmp_path / "b.zarr"
    _array(path, 3, values, chunks=shape)
    with data.open_picture(path, axes) as picture:
        assert picture.num_pages == pages
        planes = np.stack(list(picture.pages("")))
        expected = np.stack(data.split_pictures(values, axes or "ZTYX"[-len(shape) :]))
        np.testing.assert_array_equal(planes, expected)
        target.mkdir()
        picture.map_pages(target, _same)
    np.testing.assert_array_equal(zarr.open_array(target)[...], values + 1)


def test_shards_and_names_of_axes(tmp_path):
    path, target = tmp_path / "a.zarr", tmp_path / "b.zarr"
    values = np.moveaxis(STACK[0], 0, -1)
    _array(path, 3, values, "yxz", shards=(8, 9, 3), chunks=(4, 9, 3))
    assert data.num_pages(path) == 3
    data.map_pages(path, target, _same)
    np.testing.assert_array_equal(zarr.open_array(target)[...], values + 1)


def test_folders_are_pictures_of_commands(tmp_path):
    (tmp_path / "in/sub").mkdir(parents=True)
    _ome(tmp_path / "in/sub/a.zarr", 2)
    data.write_image(tmp_path / "in/b.tif", np.ones((8, 9, 1), np.uint16))
    denoiser = Denoiser(ResNetDenoiser(num_blocks=1, hidden_channels=2))
    written = denoise_files([str(tmp_path / "in")], str(tmp_path / "out"), denoiser)
    names = [p.relative_to(tmp_path / "out").as_posix() for p in written]
    assert sorted(names) == ["b.tif", "sub/a.zarr"]
    denoise_files([str(tmp_path / "in/sub/a.zarr")], str(tmp_path / "one"), denoiser)
    for out in ("out/sub", "one"):
        result = zarr.open_array(tmp_path / out / "a.zarr/0")
        assert result.shape == STACK.shape and result.dtype == STACK.dtype
    source = data.open_source(str(tmp_path / "in"), channels=1)
    assert len(source) == 7
    assert source.names[1] == "sub/a/0000.zarr"
    denoise_files(
        [str(tmp_path / "in")], str(tmp_path / "out"), denoiser, overwrite=True
    )
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["b.tif", "sub"]


def _change(path, **values):
    metadata = json.loads((path / ".zarray").read_text())
    (path / ".zarray").write_text(json.dumps({**metadata, **values}))


BAD = {
    "pickle as codec": (
        {"compressor": {"id": "pickle"}},
        "codecs must be|No Zarr data type",
    ),
    "pickle as filter": (
        {"filters": [{"id": "pickle"}]},
        "codecs must be|No Zarr data type",
    ),
    "an unknown codec": ({"compressor": {"id": "jenkins_lookup3"}}, "codecs must be"),
    "objects": ({"dtype": "|O", "filters": [{"id": "json2"}]}, "Received"),
    "far more pixels": ({"shape": [2, 3, 10**6, 10**6]}, "must have more data"),
    "a huge chunk": ({"chunks": [10**6, 1, 10**5, 10**5]}, "a chunk must fit"),
    "text": ({"shape": "x"}, "Received"),
}


@pytest.mark.parametrize("name", BAD)
def test_hostile_metadata_are_refused(tmp_path, name):
    changes, message = BAD[name]
    path, target = tmp_path / "a.zarr", tmp_path / "b.zarr"
    _array(path, 2)
    _change(path, **changes)
    with pytest.raises(data.ImageReadError, match=message):
        data.map_pages(path, target, _same)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_other_folders_are_refused(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(data.ImageReadError, match="must be an array or one picture"):
        data.num_pages(tmp_path / "a.zarr")
    (tmp_path / "a.zarr/.zgroup").write_text('{"zarr_format": 2}')
    levels = [{"path": "../../a"}]
    text = json.dumps({"multiscales": [{"datasets": levels}]})
    (tmp_path / "a.zarr/.zattrs").write_text(text)
    with pytest.raises(data.ImageReadError, match="levels must lie in the folder"):
        data.num_pages(tmp_path / "a.zarr")
    with pytest.raises(data.ImageReadError, match=r"must end in .zarr"):
        data.num_pages(tmp_path)
