"""CZI, the format of Zeiss' microscopes, read and written by pylibCZIrw."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfflowdn.data.formats.array_picture import Form, LibraryPicture, import_extra
from tfflowdn.data.formats.base import UNIFORM_PIXELS, UNIFORM_RATIO, Codec

__all__ = ["CZI"]

_KINDS = {  # The dtype and the number of channels of the types of pixels.
    "Gray8": ("uint8", 1),
    "Gray16": ("uint16", 1),
    "Gray32Float": ("float32", 1),
    "Bgr24": ("uint8", 3),
    "Bgr48": ("uint16", 3),
    "Bgr96Float": ("float32", 3),
}


# The least size of a plane in a file: its entry in the directory of the planes.
_BYTES_OF_A_PLANE = 32


class _CziPicture(LibraryPicture):
    largest_ratio, unchecked_pixels = UNIFORM_RATIO, UNIFORM_PIXELS  # JPEG XR, Zstd.
    notes = "metadata but for the scale and the names of channels are left out"

    @functools.cached_property
    def _reader(self) -> Any:
        library = import_extra("pylibCZIrw.czi", "microscopy")
        return library.CziReader(str(self.path))

    @functools.cached_property
    def _scenes(self) -> list[int | None]:
        """The numbers of the scenes, or None where there are none."""
        return sorted(self._reader.scenes_bounding_rectangle) or [None]

    @functools.cached_property
    def _axes(self) -> dict[str, tuple[int, int]]:
        """The first index and the length of the axes that count planes."""
        box = self._reader.total_bounding_box
        return {
            axis: (first, end - first)
            for axis, (first, end) in box.items()
            if axis not in ("X", "Y")
        }

    def page_axes(self) -> tuple[str, tuple[int, ...]]:
        """See `Picture`; P counts scenes."""
        lengths = [length for _, length in self._axes.values()]
        return "P" + "".join(self._axes), (len(self._scenes), *lengths)

    def _rectangle(self, scene: int | None) -> Any:
        if scene is None:
            return self._reader.total_bounding_rectangle
        return self._reader.scenes_bounding_rectangle[scene]

    def _read_form(self) -> Form:
        kinds = set(self._reader.pixel_types.values())
        sizes = {(r.h, r.w) for r in map(self._rectangle, self._scenes)}
        if len(kinds) != 1 or not kinds <= set(_KINDS) or len(sizes) != 1:
            raise ValueError(
                "channels and scenes must have one size and one type of pixels, of "
                f"{tuple(_KINDS)}. Received: {sorted(kinds)}, {sorted(sizes)}."
            )
        dtype, channels = _KINDS[kinds.pop()]
        count = math.prod(length for _, length in self._axes.values())
        count *= len(self._scenes)
        if count * _BYTES_OF_A_PLANE > self._num_bytes():
            raise ValueError(
                f"{count} planes must lie in the file. "
                f"Received: {self._num_bytes()} bytes."
            )
        (size,) = sizes
        return Form(count, *size, channels, np.dtype(dtype))

    def _place(self, index: int) -> tuple[int | None, dict[str, int]]:
        """Returns the scene and the indices of a plane."""
        lengths = [length for _, length in self._axes.values()]
        scene, number = divmod(index, math.prod(lengths))
        numbers = np.unravel_index(number, lengths) if lengths else ()
        pairs = zip(self._axes.items(), numbers, strict=True)
        place = {axis: first + int(n) for (axis, (first, _)), n in pairs}
        return self._scenes[scene], place

    def _plane(self, index: int) -> np.ndarray:
        scene, place = self._place(index)
        rectangle = self._rectangle(scene)
        roi = (rectangle.x, rectangle.y, rectangle.w, rectangle.h)
        return self._reader.read(roi=roi, plane=place, scene=scene)[..., ::-1]

    def _write_planes(
        self, target: Path, dtype: np.dtype, planes: Iterator[np.ndarray]
    ) -> None:
        names = [name for name, _ in _KINDS.values()]
        if dtype.name not in names:
            raise ValueError(
                f"a CZI file must hold one of {sorted(set(names))}. "
                f"Received: {dtype=!s}."
            )
        library = import_extra("pylibCZIrw.czi", "microscopy")
        with library.create_czi(str(target), exist_ok=True) as file:
            for index, plane in enumerate(planes):
                scene, place = self._place(index)
                rectangle = self._rectangle(scene)
                pixels = np.ascontiguousarray(plane[..., ::-1])
                location = (rectangle.x, rectangle.y)
                options = {"location": location, "scene": scene or 0}
                if not file.write(pixels, plane=place, **options):
                    raise OSError(f"a plane of {target} cannot be written.")
            file.write_metadata(self.path.stem, **self._described())

    def _described(self) -> dict[str, Any]:
        """Returns the scale and the names of the channels, for the writer."""
        metadata = self._reader.metadata["ImageDocument"]["Metadata"]
        items = _at(metadata, "Scaling", "Items", "Distance")
        scale = {
            f"scale_{str(one['@Id']).lower()}": float(one["Value"])
            for one in _listed(items)
            if one.get("@Id") in ("X", "Y", "Z") and one.get("Value")
        }
        path = ("Information", "Image", "Dimensions", "Channels", "Channel")
        names = [one.get("@Name") for one in _listed(_at(metadata, *path))]
        return {
            **scale,
            "channel_names": {i: str(n) for i, n in enumerate(names) if n},
        }


def _at(values: Any, *names: str) -> Any:
    """Returns a value within nested elements, or None."""
    for name in names:
        values = values.get(name) if isinstance(values, Mapping) else None
    return values


def _listed(values: Any) -> list[Mapping[str, Any]]:
    """Returns one element or several as a list."""
    values = values if isinstance(values, list) else [values]
    return [value for value in values if isinstance(value, Mapping)]


def _write(path: Path, array: np.ndarray, values: Mapping[str, Any]) -> None:
    del path, array, values
    raise ValueError("a CZI file is only written with the planes of another one.")


CZI = Codec(
    name="CZI",
    family="czi",
    suffixes=(".czi",),
    magics=(b"ZISRAWFILE",),
    open=_CziPicture,
    write=_write,
    kinds={},
)
