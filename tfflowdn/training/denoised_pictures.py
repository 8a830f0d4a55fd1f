"""A callback that shows how a denoiser gets better."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfflowdn.data import shown_colors
from tfflowdn.metrics import psnr

__all__ = ["DenoisedPictures", "Example"]

GAP = 4  # Pixels between two pictures.
Example = tuple[np.ndarray, np.ndarray | None]
"""A noisy picture [H, W, C] in [0, 1] units, and the clean one or None."""


class DenoisedPictures(keras.callbacks.Callback):
    """Writes pictures to TensorBoard after each epoch, noisy next to denoised.

    Where the clean picture is known, it is the third one, and `logs/pictures/` gets the
    mean PSNR of the pictures. The first point is before the training.

    Args:
      directory: The directory of the training.
      network: The network that denoises.
      examples: The pictures, the same after each epoch.
      steps_per_epoch: Steps of an epoch.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        network: keras.Model,
        examples: Sequence[Example],
        steps_per_epoch: int,
    ) -> None:
        super().__init__()
        self._path = Path(directory) / "logs" / "pictures"
        self._network = network
        self._examples = examples
        self._steps_per_epoch = steps_per_epoch
        self._writer = None

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Shows the pictures as they are before the first epoch."""
        del logs
        if epoch == 0 and self._writer is None:
            self._show(0)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Shows the pictures."""
        del logs
        self._show((epoch + 1) * self._steps_per_epoch)

    def _show(self, step: int) -> None:
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self._path))
        scores = []
        with self._writer.as_default(step=step):
            for index, (noisy, clean) in enumerate(self._examples):
                denoised = np.asarray(self._network(noisy[np.newaxis]))[0]
                parts = [noisy, denoised]
                if clean is not None:
                    parts.append(clean)
                    scores.append(psnr(denoised, clean, data_range=1.0))
                sheet = _side_by_side(list(map(shown_colors, parts)))
                tf.summary.image(f"noisy_denoised_{index}", sheet[np.newaxis])
            if scores:
                tf.summary.scalar("psnr", float(np.mean(scores)))
        self._writer.flush()


def _side_by_side(pictures: Sequence[np.ndarray]) -> np.ndarray:
    gap = np.ones_like(pictures[0][:, :GAP])
    parts = [part for picture in pictures for part in (picture, gap)][:-1]
    return np.clip(np.nan_to_num(np.concatenate(parts, 1)), 0, 1)
