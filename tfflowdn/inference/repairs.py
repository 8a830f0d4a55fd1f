"""Pixels that a network must not see: missing ones, and outliers."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfflowdn import data
from tfflowdn.inference.outliers import replace_outliers

__all__ = ["Repairs"]


@dataclasses.dataclass
class Repairs:
    """The numbers of values that were replaced for the network in some pictures.

    Attributes:
      num_missing: Values that are not finite, or are masked. They are put back.
      num_outliers: Values of isolated hot or dead pixels.
      num_values: Values of all pictures.
    """

    num_missing: int = 0
    num_outliers: int = 0
    num_values: int = 0

    def repaired(
        self, picture: np.ndarray, has_alpha: bool, without_outliers: bool
    ) -> np.ndarray:
        """Returns a picture [H, W, C] as the network shall see it, and counts.

        Args:
          picture: The pixels, with alpha if there is some, which is not changed.
          has_alpha: Whether the last channel is alpha.
          without_outliers: Whether outliers are replaced, see `replace_outliers`.

        Raises:
          ValueError: If more than half of the values are missing.
        """
        color, alpha = data.split_alpha(picture, has_alpha)
        self.num_values += color.size
        result, num_missing, num_outliers = color, data.count_gaps(color), 0
        if num_missing:
            result = data.fill_gaps(color)
        if without_outliers:
            result, num_outliers = replace_outliers(np.ma.getdata(result))
        self.num_missing += num_missing
        self.num_outliers += num_outliers
        if not (num_missing or num_outliers):
            return np.ma.getdata(picture)
        if alpha is None:
            return result
        return np.concatenate([result, np.ma.getdata(alpha)], -1)

    def sentences(self) -> list[str]:
        """Returns what was replaced, in words."""
        said = []
        if self.num_missing:
            said.append(
                f"{self.num_missing} of {self.num_values} values are missing (not "
                "finite, or masked); they are kept as they were"
            )
        if self.num_outliers:
            said.append(
                f"{self.num_outliers} of {self.num_values} values were isolated "
                "outliers and were replaced"
            )
        return said
