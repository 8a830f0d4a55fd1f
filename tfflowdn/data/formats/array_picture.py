"""Shared parts of the formats whose files hold planes of one size and dtype."""

from __future__ import annotations

import abc
import functools
import importlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from tfflowdn.data.formats.base import (
    Layout,
    Metadata,
    PageFunction,
    Picture,
    reading,
)
from tfflowdn.data.memory import check_fits

__all__ = ["ArrayPicture", "Form", "LibraryPicture", "import_extra"]


class Form(NamedTuple):
    """The planes of a file.

    Attributes:
      count: Their number.
      height: Their rows.
      width: Their columns.
      channels: 1 (gray) or 3 (RGB), or the number of independent channels.
      dtype: The dtype of their pixels.
      is_independent: Whether the channels are pictures of their own.
    """

    count: int
    height: int
    width: int
    channels: int
    dtype: np.dtype
    is_independent: bool = False


class ArrayPicture(Picture):
    """A file with planes [H, W, C], each read and written when it is needed.

    A format implements `_read_form`, `_plane` and `_write_planes`.
    """

    is_stack_or_large = True

    @property
    def num_pages(self) -> int:
        """The number of planes."""
        with reading(self.path):
            return self._form.count

    @functools.cached_property
    def _form(self) -> Form:
        """The planes, which the file is large enough for."""
        form = self._read_form()
        if min(form[:4]) < 1 or np.dtype(form.dtype).kind not in "iuf":
            raise ValueError(
                f"the file must hold planes of numbers. Received: {tuple(form)}."
            )
        form = form._replace(dtype=np.dtype(form.dtype).newbyteorder("="))
        self._check_ratio(self._layout_of(form), form.count)
        return form

    @abc.abstractmethod
    def _read_form(self) -> Form:
        """Returns the number, size and kind of the planes; no pixel is decoded."""

    @abc.abstractmethod
    def _plane(self, index: int) -> np.ndarray:
        """Returns a plane [H, W, C] of any byte order, on disk where possible."""

    @abc.abstractmethod
    def _write_planes(
        self, target: Path, dtype: np.dtype, planes: Iterator[np.ndarray]
    ) -> None:
        """Writes a file with other planes and the header of this one.

        Args:
          target: The file.
          dtype: The dtype of the planes.
          planes: As many planes [H, W, C] as this file has, each computed when it is
            asked for.
        """

    def _layout(self) -> Layout:
        num_pages = self._form.count
        if num_pages != 1:
            raise ValueError(f"the file must hold one plane. Received: {num_pages=}.")
        return self._layout_of(self._form)

    def _page_layouts(self) -> list[Layout]:
        return [self._layout_of(self._form)] * self._form.count

    def _layout_of(self, form: Form) -> Layout:
        return Layout(*form[1:4], np.dtype(form.dtype), 1, form.is_independent)

    def _pixels(self) -> np.ndarray:
        return self._view(0)

    def _metadata(self) -> Metadata:
        return Metadata()

    def _view(self, index: int) -> np.ndarray:
        form = self._form
        plane = self._plane(index)
        if plane.shape != form[1:4]:
            raise ValueError(
                "every plane must have the declared size. "
                f"Received: {plane.shape}, not {form[1:4]}."
            )
        return plane

    def _pages(
        self, folder: str | os.PathLike, indices: Sequence[int] | None
    ) -> Iterator[np.ndarray]:
        del folder  # One plane must fit into memory.
        form = self._form
        check_fits(form[1:4], form.dtype)
        for index in range(form.count) if indices is None else indices:
            yield np.array(self._view(index), form.dtype)

    def _map_pages(
        self,
        target: Path,
        function: PageFunction,
        dtype: np.typing.DTypeLike | None,
    ) -> int:
        form = self._form
        kind = np.dtype(form.dtype if dtype is None else dtype)
        self._write_planes(target, kind, self._results(function, kind))
        return form.count * form.height * form.width

    def _results(self, function: PageFunction, dtype: np.dtype) -> Iterator[np.ndarray]:
        for plane in self._pages("", None):
            result = np.empty(plane.shape, dtype)
            function(self._masked(plane), result)
            yield result


def import_extra(module: str, extra: str) -> ModuleType:
    """Imports the library of a format.

    Args:
      module: The module.
      extra: The extra of this package that installs it.

    Raises:
      ValueError: If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"reading the format needs a library: pip install 'tfflowdn[{extra}]'. "
            f"Received: {error}."
        ) from error


class LibraryPicture(ArrayPicture):
    """A picture whose planes are read by the reader of a library, `_reader`.

    A subclass defines `_reader` as a cached property with a method `close`.
    """

    def close(self) -> None:
        """Closes the file."""
        reader = self.__dict__.pop("_reader", None)
        if reader is not None:
            reader.close()
        super().close()

    def __del__(self) -> None:
        """Closes the file of a picture that nobody uses any more."""
        if hasattr(self, "_file"):
            self.close()
