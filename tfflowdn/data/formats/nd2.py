"""ND2, the format of Nikon's microscopes, read by nd2 and written as OME-TIFF."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfflowdn.data.formats.array_picture import Form, LibraryPicture, import_extra
from tfflowdn.data.formats.base import UNIFORM_PIXELS, UNIFORM_RATIO, Codec
from tfflowdn.data.formats.ome_tiff import SUFFIX, write_ome_tiff

__all__ = ["ND2"]

_PLANE_AXES = "CYXS"
_LOOPS = "PTZ"  # The order of the planes; positions become series.


class _Nd2Picture(LibraryPicture):
    largest_ratio, unchecked_pixels = UNIFORM_RATIO, UNIFORM_PIXELS  # Deflate.

    @functools.cached_property
    def _reader(self) -> Any:
        return import_extra("nd2", "microscopy").ND2File(self.path)

    @functools.cached_property
    def _sizes(self) -> Mapping[str, int]:
        """The length of each axis, 1 for axes that the file does not have."""
        sizes = dict(self._reader.sizes)
        unknown = set(sizes) - set(_LOOPS + _PLANE_AXES)
        if unknown:
            raise ValueError(
                f"the axes must be some of {_LOOPS + _PLANE_AXES}. "
                f"Received: {sorted(unknown)}."
            )
        return {axis: int(sizes.get(axis, 1)) for axis in _LOOPS + _PLANE_AXES}

    def _read_form(self) -> Form:
        sizes, dtype = self._sizes, self._reader.dtype
        count = math.prod(sizes[axis] for axis in _LOOPS + "C")
        form = Form(count, sizes["Y"], sizes["X"], sizes["S"], dtype)
        num_bytes = math.prod(form[:4]) * np.dtype(dtype).itemsize
        is_packed = self._reader.attributes.compressionType is not None
        if not is_packed and num_bytes > self._num_bytes():
            raise ValueError(
                f"{num_bytes} bytes of pixels must lie in the file. "
                f"Received: {self._num_bytes()} bytes."
            )
        return form

    def page_axes(self) -> tuple[str, tuple[int, ...]]:
        """See `Picture`."""
        letters = _LOOPS + "C"
        return letters, tuple(self._sizes[axis] for axis in letters)

    @functools.cached_property
    def _places(self) -> list[int]:
        """The number of the frame in the file, in the order of the planes."""
        order = [axis for axis in self._reader.sizes if axis in _LOOPS]
        numbers = np.arange(math.prod(self._sizes[axis] for axis in order))
        stored = numbers.reshape([self._sizes[axis] for axis in order])
        wanted = [order.index(axis) for axis in _LOOPS if axis in order]
        return np.transpose(stored, wanted).ravel().tolist()

    def _plane(self, index: int) -> np.ndarray:
        sizes, (number, channel) = self._sizes, divmod(index, self._sizes["C"])
        frame = self._places[number]
        # The library returns zeros for frames that are missing.
        offsets = getattr(self._reader._rdr, "_frame_offsets", None)
        if offsets is not None and not 0 < offsets.get(frame, -1) < self._num_bytes():
            raise ValueError(f"every frame must lie in the file. Received: {frame=}.")
        values = self._reader.read_frame(frame)
        return values.reshape([sizes[axis] for axis in _PLANE_AXES])[channel]

    def _write_planes(
        self, target: Path, dtype: np.dtype, planes: Iterator[np.ndarray]
    ) -> None:
        sizes = self._sizes
        axes = "TZCYXS" if sizes["S"] > 1 else "TZCYX"
        write_ome_tiff(
            target,
            planes,
            dtype,
            tuple(sizes[axis] for axis in axes),
            axes,
            sizes["P"],
            _described(self._reader),
        )


def _described(reader: Any) -> dict[str, Any]:
    """Returns pixel sizes, names of channels and the text of a file for OME.

    The library fails for some valid metadata, which are then left out.
    """
    try:
        return _read_description(reader)
    except Exception as error:
        logging.getLogger(__name__).warning(
            "The sizes and names in %s cannot be read, and are left out: %r",
            reader.path,
            error,
        )
        return {}


def _read_description(reader: Any) -> dict[str, Any]:
    size, text = reader.voxel_size(), dict(reader.text_info or {})
    values = {f"PhysicalSize{axis.upper()}": getattr(size, axis) for axis in "xyz"}
    values |= {f"PhysicalSize{axis}Unit": "µm" for axis in "XYZ"}
    channels = getattr(reader.metadata, "channels", None) or []
    if names := [one.channel.name for one in channels]:
        values["Channel"] = {"Name": names}
    if text:
        values["Description"] = "\n".join(f"{k}: {v}" for k, v in text.items())
    return values


def _write(path: Path, array: np.ndarray, values: Mapping[str, Any]) -> None:
    del path, array, values
    raise ValueError("an ND2 file cannot be written.")


ND2 = Codec(
    name="ND2",
    family="nd2",
    suffixes=(".nd2",),
    magics=(b"\xda\xce\xbe\x0a", b"\0\0\0\x0cjP  \r\n\x87\n????ftypjp2 ????ND2"),
    open=_Nd2Picture,
    write=_write,
    kinds={},
    result_suffix=SUFFIX,
)
