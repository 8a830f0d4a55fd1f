"""Gives each picture of `denoise` the model that suits it."""

from __future__ import annotations

import collections
import functools
import tempfile
from concurrent.futures import Future
from pathlib import Path

import numpy as np

import tfflowdn

__all__ = ["AUTO", "ModelPicker"]

AUTO = "auto"
"""The name that stands for a model by picture."""


class ModelPicker:
    """Picks models, see `adapt.pick_model`, and remembers them.

    Args:
      max_pixels: See `inference.Denoiser`.

    Attributes:
      general: The general denoiser.
      picks: The pick of each file.
    """

    def __init__(self, max_pixels: int | None = None) -> None:
        self.general = tfflowdn.Denoiser.from_pretrained(max_pixels=max_pixels)
        self.picks: dict[Path, tfflowdn.adapt.ModelPick] = {}
        self._max_pixels = max_pixels

    def __call__(self, path: Path, read: Future) -> tfflowdn.Denoiser:
        """Returns the denoiser for a file.

        Args:
          path: The file.
          read: Its pixels, or None if they are read part by part, as from
            `denoise_queue.read`.
        """
        if tfflowdn.adapt.may_be_camera(path):
            pixels = read.result()
            pixels = _first_page(path) if pixels is None else pixels[0]
            pick = tfflowdn.adapt.pick_model(path, pixels, self._camera_units)
            self.picks[path] = pick
            if pick.model == tfflowdn.adapt.CAMERA:
                return self._camera
        else:
            self.picks[path] = tfflowdn.adapt.ModelPick("general", "no JPEG file")
        return self.general

    def summary(self) -> list[str]:
        """Returns a sentence for each model that was picked."""
        counts = collections.Counter(self.picks.values())
        return [
            f"{count} by {pick.model} ({pick.reason})"
            for pick, count in counts.most_common()
        ]

    def describe(self, path: Path) -> str:
        """Returns the model of a file, for a line about it."""
        pick = self.picks.get(path)
        return f"{pick.model}, {pick.reason}" if pick else ""

    @functools.cached_property
    def _camera(self) -> tfflowdn.Denoiser:
        network = tfflowdn.load_denoiser(tfflowdn.adapt.CAMERA)
        return tfflowdn.Denoiser(network, max_pixels=self._max_pixels)

    def _camera_units(self, picture: np.ndarray) -> np.ndarray:
        return self._camera(picture, pixel_range="dtype")


def _first_page(path: Path) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        (page,) = tfflowdn.data.read_pages(path, folder, [0])
        return np.array(page)
