"""Measures the factors by which clean crops become as soft as noisy pictures.

    measure_softness --noisy NOISY --clean CLEAN [--noise NOISE.keras]

prints the `zoom_range` of `data.matching_zoom_range`, for
--config.distill.crops.zoom_range or --config.start.crops.zoom_range. Pictures of
cameras are softer per pixel than small pictures. NOISE.keras is a model of
`train_noise`, whose noise is subtracted; without it the pictures must have little
noise.

Example:
    measure_softness --noisy noisy --clean clean --noise runs/noise/noise.keras
"""

from __future__ import annotations

import numpy as np
from absl import flags

import tfflowdn
from tfflowdn.scripts import command

__all__ = ["main", "zoom_range"]

FLAGS = flags.FLAGS
NUM_CROPS, SIZE = 64, 64
MOST_PICTURES, MOST_SIDE = 256, 2048  # Of the noisy pictures, evenly spread.


def zoom_range(
    noisy: str, clean: str, noise: str | None, axes: str | None = None
) -> tuple[float, float]:
    """Returns `data.matching_zoom_range` of pictures in files.

    Args:
      noisy: Source of the noisy pictures, see `data.open_source`.
      clean: Source of the clean pictures.
      noise: Path of a model of the noise; None if there is little noise.
      axes: The axes of arrays and stacks, see `data.open_source`.

    Raises:
      ImageReadError: If pictures cannot be read, for all of them.
    """
    source = tfflowdn.data.open_source(noisy, channels=None, axes=axes)
    others = tfflowdn.data.open_source(clean, channels=source.channels, axes=axes)
    source.verify()
    others.verify()
    step = -(-len(source) // MOST_PICTURES)
    images = source.with_gaps("cut").dataset().shard(step, 0).as_numpy_iterator()
    pictures = [tfflowdn.data.to_float(_middle(image)) for image in images]
    crops = None if noise is None else _noise_crops(noise, pictures)
    return tfflowdn.data.matching_zoom_range(pictures, others, crops)


def _middle(image):
    top, left = (max(0, (size - MOST_SIDE) // 2) for size in image.shape[:2])
    return image[top : top + MOST_SIDE, left : left + MOST_SIDE]


def _noise_crops(path, pictures):
    """Returns noise of the model at the mean brightness of the pictures."""
    model = tfflowdn.load_noise(path)
    shape = (NUM_CROPS, SIZE, SIZE, model.channels)
    mean = np.mean([picture.mean() for picture in pictures])
    signal = np.full(shape, mean, np.float32)
    return np.array(model(signal, seed=(0, 0))) - signal


def _main(argv):
    del argv
    low, high = zoom_range(FLAGS.noisy, FLAGS.clean, FLAGS.noise, FLAGS.axes)
    print(f"zoom_range={low:.2f},{high:.2f}")


def main() -> None:
    """Runs the command."""
    flags.DEFINE_string("noisy", None, "The noisy pictures.")
    flags.DEFINE_string("clean", None, "The clean pictures.")
    flags.DEFINE_string("axes", None, "Axes of arrays and stacks, see denoise --help.")
    flags.DEFINE_string("noise", None, "Model of the noise, NOISE.keras.")
    command.require("noisy", "clean")
    command.run(_main)


if __name__ == "__main__":
    main()
