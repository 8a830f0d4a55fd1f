"""GIF, written with at most 256 colors; each frame of an animation is a page."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import GifImagePlugin, Image

from tfflowdn.data.formats import pillow
from tfflowdn.data.formats.base import Codec, Layout, PageFunction, reading
from tfflowdn.data.memory import check_fits

__all__ = ["GIF"]


class _GifPicture(pillow.PillowPicture):
    opener = GifImagePlugin.GifImageFile
    largest_ratio = 3000.0  # A code of 12 bits stands for at most 4096 pixels.

    @property
    def num_pages(self) -> int:
        """The number of frames."""
        with reading(self.path):
            return self._image.n_frames

    @property
    def is_stack_or_large(self) -> bool:
        """Whether it is an animation."""
        return self.num_pages > 1

    def _page_layouts(self) -> list[Layout]:
        if self.num_pages == 1:
            return [self._layout()]
        width, height = self._image.size
        channels = 4 if self._has_alpha else 3
        layout = Layout(height, width, channels, np.dtype(np.uint8), 1)
        return [layout] * self.num_pages

    @property
    def _has_alpha(self) -> bool:
        """Whether the first frame has transparent pixels."""
        self._image.seek(0)
        return self._image.has_transparency_data

    def _view(self, index: int) -> np.ndarray:
        if self.num_pages == 1:
            return self.read()
        layout = self._page_layouts()[0]
        self._check_ratio(layout)
        check_fits(layout[:3], layout.dtype, 8 * layout.height * layout.width)
        mode = "RGBA" if layout.channels == 4 else "RGB"
        self._image.seek(index)
        return np.array(self._image.convert(mode))

    def _pages(
        self, folder: str | os.PathLike, indices: Sequence[int] | None
    ) -> Iterator[np.ndarray]:
        del folder  # A frame is small.
        chosen = range(self.num_pages) if indices is None else indices
        yield from (self._view(index) for index in chosen)

    def _map_pages(
        self,
        target: Path,
        function: PageFunction,
        dtype: np.typing.DTypeLike | None,
    ) -> int:
        if dtype is not None and np.dtype(dtype) != np.uint8:
            raise ValueError(f"a GIF holds 8 bits. Received: {dtype=!s}.")
        info, durations = dict(self._image.info), self._durations()
        results = self._results(function)
        options = {"loop": info["loop"]} if "loop" in info else {}
        if "comment" in info:
            options["comment"] = info["comment"]
        next(results).save(
            target,
            format="GIF",
            save_all=True,
            append_images=results,
            duration=durations,
            disposal=2 if self._has_alpha else 0,
            optimize=False,
            **options,
        )
        width, height = self._image.size
        return self.num_pages * height * width

    def _durations(self) -> list[int]:
        """Returns the milliseconds that each frame is shown."""
        durations = []
        for index in range(self.num_pages):
            self._image.seek(index)
            durations.append(self._image.info.get("duration", 0))
        self._image.seek(0)
        return durations

    def _results(self, function: PageFunction) -> Iterator[Image.Image]:
        for page in self._pages("", None):
            result = np.empty_like(page)
            function(page, result)
            yield Image.fromarray(result)


def _write(path: Path, array: np.ndarray, values: Mapping[str, Any]) -> None:
    # The format has neither resolution nor profile nor EXIF.
    comment = {"comment": values["comment"]} if "comment" in values else {}
    pillow.save(path, array, {}, format="GIF", **comment)


GIF = Codec(
    name="GIF",
    family=pillow.FAMILY,
    suffixes=(".gif",),
    magics=(b"GIF87a", b"GIF89a"),
    open=_GifPicture,
    write=_write,
    kinds={"uint8": (1, 3, 4)},
)
