"""Zarr and OME-Zarr folders, plane by plane, by zarr; the first level is denoised."""

from __future__ import annotations

import functools
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfflowdn.data.axes import check_axes, joined_axes, seen_together
from tfflowdn.data.formats.array_picture import ArrayPicture, Form, import_extra
from tfflowdn.data.formats.base import UNIFORM_PIXELS, UNIFORM_RATIO, Codec
from tfflowdn.data.memory import check_fits

__all__ = ["ZARR"]

_METADATA = (".zgroup", ".zattrs", ".zarray", "zarr.json")
# Others, such as pickle, can run code or are not known to be safe.
_CODECS = frozenset(
    {"blosc", "zlib", "gzip", "zstd", "lz4", "lzma", "bz2", "delta", "shuffle"}
    | {"bitround", "fixedscaleoffset", "quantize", "packbits", "astype", "crc32"}
    | {"crc32c", "adler32", "fletcher32", "bytes", "transpose", "sharding_indexed"}
)


class _ZarrPicture(ArrayPicture):
    largest_ratio, unchecked_pixels = UNIFORM_RATIO, UNIFORM_PIXELS
    has_all_axes = True

    @property
    def notes(self) -> str:
        """Whether smaller levels are left out."""
        scales = self._attributes.get("multiscales") or [{}]
        has_levels = len(scales[0].get("datasets", [])) > 1
        return "the smaller levels are left out" if has_levels else ""

    def _num_bytes(self) -> int:
        files = (
            os.path.join(f, n) for f, _, names in os.walk(self.path) for n in names
        )
        return sum(os.path.getsize(file) for file in files)

    @functools.cached_property
    def _place(self) -> str:
        """The path of the array within the folder, "" for the folder itself."""
        if _is_array(self.path):
            return ""
        scales = self._attributes.get("multiscales")
        if not scales:
            raise ValueError(
                "the folder must be an array or one picture with multiscales. "
                f"Received: the names {sorted(os.listdir(self.path))[:10]}."
            )
        place = str(scales[0]["datasets"][0]["path"])
        if ".." in Path(place).parts or Path(place).is_absolute():
            raise ValueError(f"the levels must lie in the folder. Received: {place!r}.")
        return place

    @functools.cached_property
    def _attributes(self) -> Mapping[str, Any]:
        """The attributes of the folder; newer files have them below "ome"."""
        attributes = _read_attributes(self.path)
        return attributes.get("ome", attributes)

    @functools.cached_property
    def _array(self) -> Any:
        array = _open(self.path / self._place, "r")
        names = _codec_names(array.metadata.to_dict())
        if not names <= _CODECS:
            raise ValueError(
                f"the codecs must be some of {sorted(_CODECS)}. "
                f"Received: {sorted(names - _CODECS)}."
            )
        if array.dtype.kind not in "iuf" or array.ndim < 2 or 0 in array.shape:
            raise ValueError(
                "the array must have two axes or more and numbers. "
                f"Received: {array.shape=}, {array.dtype=!s}."
            )
        check_fits(array.shards or array.chunks, array.dtype, what="a chunk")
        return array

    @functools.cached_property
    def _letters(self) -> str:
        """One letter for each axis; Y, X and S are the axes of a plane."""
        array = self._array
        if self.axes:
            letters = self.axes.upper()
            together = seen_together(self.channels, letters)
            check_axes(letters, array.shape, together)
            return joined_axes(letters, array.shape, together)
        scales = self._attributes.get("multiscales") or [{}]
        named = [axis["name"] for axis in scales[0].get("axes", [])]
        named = named or list(array.metadata.to_dict().get("dimension_names") or [])
        letters = "".join(str(name)[:1].upper() for name in named)
        if len(letters) == array.ndim and {"Y", "X"} <= set(letters):
            together = seen_together(self.channels, letters)
            return joined_axes(letters, array.shape, together)
        return "?" * (array.ndim - 2) + "YX"

    def _read_form(self) -> Form:
        sizes = dict(zip(self._letters, self._array.shape, strict=True))
        channels = sizes.get("S", 1)
        count = self._array.size // (sizes["Y"] * sizes["X"] * channels)
        together = seen_together(self.channels, "C" if "S" in self._letters else None)
        size = (sizes["Y"], sizes["X"], channels)
        return Form(count, *size, self._array.dtype, channels in together)

    def _read_missing(self) -> tuple[float, float] | None:
        """Returns the missing value by the conventions of CF and xarray.

        The fill value of other arrays is a common value, such as 0 for black.
        """
        attributes = dict(self._array.attrs)
        value = attributes.get("_FillValue", attributes.get("missing_value"))
        if value is None and "_ARRAY_DIMENSIONS" in attributes:
            value = self._array.fill_value
        value = value[0] if isinstance(value, list) and len(value) == 1 else value
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            return None
        return None if np.isnan(value) else (value, value)

    def _index(self, index: int) -> tuple[Any, list[int]]:
        """Returns the place of a plane, and the order of its axes."""
        letters, shape = self._letters, self._array.shape
        outer = [i for i, letter in enumerate(letters) if letter not in "YXS"]
        numbers = np.unravel_index(index, [shape[i] for i in outer] or (1,))
        place: list[Any] = [slice(None)] * len(shape)
        for axis, number in zip(outer, numbers, strict=bool(outer)):
            place[axis] = int(number)
        inner = [letter for letter in letters if letter in "YXS"]
        return tuple(place), [inner.index(a) for a in "YXS" if a in inner]

    def _plane(self, index: int) -> np.ndarray:
        place, order = self._index(index)
        plane = np.transpose(np.asarray(self._array[place]), order)
        return plane if plane.ndim == 3 else plane[..., np.newaxis]

    def _write_planes(
        self, target: Path, dtype: np.dtype, planes: Iterator[np.ndarray]
    ) -> None:
        self._copy_metadata(target, dtype)
        result = _open(target / self._place, "r+")
        for index, plane in zip(itertools.count(), planes):  # noqa: B905
            place, order = self._index(index)
            stored = plane if len(order) == 3 else plane[..., 0]
            result[place] = np.transpose(stored, np.argsort(order))

    def _copy_metadata(self, target: Path, dtype: np.dtype) -> None:
        """Writes the folder without chunks, and with one level only."""
        for folder in {Path(), *Path(self._place).parents, Path(self._place)}:
            (target / folder).mkdir(parents=True, exist_ok=True)
            for name in _METADATA:
                if (self.path / folder / name).exists():
                    shutil.copyfile(self.path / folder / name, target / folder / name)
        for name in (".zattrs", "zarr.json"):
            if self._place and (target / name).exists():
                _keep_first_level(target / name)
        if dtype != self._form.dtype:
            _change_type(target / self._place, self._array, dtype)


def _open(path: Path, mode: str) -> Any:
    library = import_extra("zarr", "microscopy")
    store = library.storage.LocalStore(path, read_only=mode == "r")
    return library.open_array(store, mode=mode)


def _is_array(path: Path) -> bool:
    if (path / ".zarray").exists():
        return True
    file = path / "zarr.json"
    return file.exists() and json.loads(file.read_bytes())["node_type"] == "array"


def _read_attributes(path: Path) -> Mapping[str, Any]:
    if (path / ".zattrs").exists():
        return json.loads((path / ".zattrs").read_bytes())
    if (path / "zarr.json").exists():
        return json.loads((path / "zarr.json").read_bytes()).get("attributes", {})
    return {}


def _codec_names(metadata: Mapping[str, Any]) -> set[str]:
    """Returns the names of all codecs, of those within others also."""
    names, stack = set(), [metadata.get(k) for k in ("compressor", "filters", "codecs")]
    while stack:
        item = stack.pop()
        if isinstance(item, list | tuple):
            stack += item
        elif isinstance(item, Mapping):
            name = str(item.get("id", item.get("name")))
            names.add(name.removeprefix("numcodecs."))
            inner = item.get("configuration") or {}
            stack += [inner.get("codecs"), inner.get("index_codecs")]
    return names


def _keep_first_level(file: Path) -> None:
    """Removes the other levels and the copies of their metadata."""
    values = json.loads(file.read_bytes())
    values.pop("consolidated_metadata", None)
    attributes = values.get("attributes", values)
    attributes = attributes.get("ome", attributes)
    scales = attributes["multiscales"][:1]
    attributes["multiscales"] = [{**scales[0], "datasets": scales[0]["datasets"][:1]}]
    file.write_text(json.dumps(values, indent=1))


def _change_type(path: Path, array: Any, dtype: np.dtype) -> None:
    """Replaces the metadata of an array without chunks."""
    library, attributes = import_extra("zarr", "microscopy"), dict(array.attrs)
    metadata = array.metadata.to_dict()
    names = metadata.get("dimension_names")
    library.create_array(
        library.storage.LocalStore(path),
        shape=array.shape,
        chunks=array.chunks,
        shards=array.shards,
        dtype=dtype,
        attributes=attributes,
        dimension_names=names if array.metadata.zarr_format == 3 else None,
        zarr_format=array.metadata.zarr_format,
        overwrite=True,
    )


def _write(path: Path, array: np.ndarray, values: Mapping[str, Any]) -> None:
    del path, array, values
    raise ValueError("a Zarr folder is only written with the metadata of another one.")


ZARR = Codec(
    name="Zarr",
    family="zarr",
    suffixes=(".zarr",),
    magics=(),
    open=_ZarrPicture,
    write=_write,
    kinds={},
    is_folder=True,
)
