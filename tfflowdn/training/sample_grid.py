"""A callback that draws samples of a prior."""

from __future__ import annotations

import math
import os
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfflowdn.data import from_float, shown_colors, write_image

__all__ = ["SampleGrid"]


class SampleGrid(keras.callbacks.Callback):
    """Writes a grid of samples of a prior after each epoch, as PNG and to TensorBoard.

    Args:
      directory: Directory of the PNGs (`samples/`) and of TensorBoard's events
        (`logs/samples/`).
      num_samples: Number of samples, a square number.
      temperature: Factor on the standard deviation of the latents.
      seed: Seed of the latents, the same after each epoch.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        num_samples: int = 16,
        temperature: float = 0.8,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self._directory = Path(directory)
        self._arguments = (num_samples, temperature, seed)
        self._side = math.isqrt(num_samples)
        self._writer = None

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Draws the samples and writes the grid."""
        del logs
        samples = self.model.sample(*self._arguments, allow_nonfinite=True)
        samples = shown_colors(np.nan_to_num(samples))
        grid = _grid(from_float(samples, np.uint8), self._side)
        folder = self._directory / "samples"
        folder.mkdir(exist_ok=True)
        write_image(folder / f"epoch_{epoch + 1:04d}.png", grid)
        if self._writer is None:
            path = self._directory / "logs" / "samples"
            self._writer = tf.summary.create_file_writer(str(path))
        with self._writer.as_default():
            tf.summary.image("samples", grid[np.newaxis], step=epoch + 1)
        self._writer.flush()


def _grid(images, side):
    rows = [np.concatenate(images[i * side : (i + 1) * side], 1) for i in range(side)]
    return np.concatenate(rows, 0)
