"""OME-TIFF, in which results are written whose own format no library writes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

__all__ = ["SUFFIX", "write_ome_tiff"]

SUFFIX = ".ome.tif"
_CLASSIC_BYTES = 2**32 - 2**25


def write_ome_tiff(
    target: Path,
    planes: Iterator[np.ndarray],
    dtype: np.dtype,
    shape: tuple[int, ...],
    axes: str,
    num_series: int = 1,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Writes planes one by one, as series of the same shape.

    Args:
      target: The file.
      planes: The planes [H, W, C], C 1 or 3.
      dtype: Their dtype.
      shape: The shape of a series, [..., H, W] or [..., H, W, 3].
      axes: One letter for each axis, of "TZCYXS".
      num_series: The number of series.
      metadata: Sizes, units and names as tifffile takes them for OME.
    """
    is_color = axes.endswith("S")
    num_planes = math.prod(shape[: -3 if is_color else -2])
    num_bytes = num_series * math.prod(shape) * np.dtype(dtype).itemsize
    pages = (plane if is_color else plane[..., 0] for plane in planes)
    with tifffile.TiffWriter(
        target, ome=True, bigtiff=num_bytes > _CLASSIC_BYTES
    ) as writer:
        for _ in range(num_series):
            writer.write(
                itertools.islice(pages, num_planes),
                shape=shape,
                dtype=dtype,
                photometric="rgb" if is_color else "minisblack",
                metadata={"axes": axes, **(metadata or {})},
            )
    next(pages, None)  # It ends the iterator of the results.
