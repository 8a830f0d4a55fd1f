"""The interface of a collection of pictures."""

from __future__ import annotations

import abc
from typing import Any

import numpy as np
import tensorflow as tf

__all__ = ["ImageSource", "check_channels"]


class ImageSource(abc.ABC):
    """A fixed, ordered collection of pictures with one number of channels.

    Attributes:
      channels: 1 (gray), 3 (RGB) or another number up to 16, of every picture.
      pixel_range: The values that become 0 and 1, see `data.check_range`.
      names: The name of each picture, in the order of `dataset()`.
      sizes: (height, width) of each picture; None when unknown before decoding.
    """

    channels: int
    pixel_range: str
    names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...] | None

    @abc.abstractmethod
    def dataset(self) -> tf.data.Dataset:
        """Pictures [H, W, channels] of one dtype, without alpha, decoded on each pass.

        With the range "dtype": uint8 if all pictures have 8 bits; uint16 if some have
        16 (8-bit ones times 257). Else, and if some are of another type: float32 in
        units of the range.
        The caller caches. A picture that breaks only on decoding raises
        `tf.errors.InvalidArgumentError` with the message of `ImageReadError`.
        """

    @abc.abstractmethod
    def verify(self) -> None:
        """Decodes every picture once, so that a broken one is found before any work.

        Raises:
          ImageReadError: For all files whose pixels cannot be read, or are missing for
            more than half.
        """

    def with_gaps(self, gaps: str) -> ImageSource:
        """Returns the source with another treatment of missing pixels.

        Args:
          gaps: "fill" (from neighbors), "mark" (NaN in wide gaps, for crops; the
            pictures are then float32 if some have gaps) or "cut" (the largest part
            without wide gaps).
        """
        del gaps  # No picture has missing pixels.
        return self

    def read_crop(
        self, index: int, rows: np.ndarray, columns: np.ndarray
    ) -> np.ndarray:
        """Returns pixels of a picture without reading the others, where possible.

        Args:
          index: The number of the picture.
          rows: Rows, an array of any shape.
          columns: Columns, of the same shape.

        Returns:
          [*rows.shape, channels], of the dtype of `dataset()`.

        Raises:
          NotImplementedError: If the pictures are not files.
        """
        raise NotImplementedError(f"{type(self).__name__} reads whole pictures only.")

    @property
    def min_size(self) -> int | None:
        """Smallest height or width of all pictures; None when unknown."""
        return None if self.sizes is None else min(min(size) for size in self.sizes)

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.names)


def check_channels(where: str, received: Any, channels: int) -> None:
    """Checks that the pictures at `where` have `channels` channels.

    Raises:
      ValueError: If they have `received` channels, another number.
    """
    if received != channels:
        raise ValueError(
            f"Every picture must have {channels} channel(s), alpha not counted; "
            "convert the pictures, or use a model with their number of channels. "
            f"Received: channels={received} in {where!r}."
        )
