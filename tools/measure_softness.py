"""Measures by how much clean crops must be enlarged to be as soft as noisy pictures.

    python tools/measure_softness.py --noisy NOISY --clean CLEAN --noise NOISE.keras

prints the `zoom_range` of `data.matching_zoom_range`, for
`--config.distill.crops.zoom_range` or that of the start. Pictures of cameras are softer
to the pixel than small ones are. NOISE.keras is a model of `train_noise`, whose noise
is taken off; without it the pictures must have little.
"""

from __future__ import annotations

import numpy as np
from absl import app, flags

from tfflowdn import data, inference

FLAGS = flags.FLAGS
NUM_CROPS, SIZE = 64, 64


def zoom_range(noisy: str, clean: str, noise: str | None) -> tuple[float, float]:
    """Returns `data.matching_zoom_range` of pictures in files.

    Args:
      noisy: Source of the noisy pictures, see `data.open_source`.
      clean: Source of the clean ones.
      noise: Path of their noise's model; None for hardly any noise.
    """
    source = data.open_source(noisy, channels=None)
    pictures = [data.to_float(image) for image in source.dataset().as_numpy_iterator()]
    crops = None if noise is None else _noise_crops(noise, pictures)
    return data.matching_zoom_range(
        pictures, data.open_source(clean, channels=source.channels), crops
    )


def _noise_crops(path, pictures):
    """Returns the noise at the pictures' mean, in the model's calm places."""
    model = inference.load_noise(path)
    shape = (NUM_CROPS, SIZE, SIZE, model.channels)
    mean = np.mean([picture.mean() for picture in pictures])
    signal = np.full(shape, mean, np.float32)
    return np.array(model(signal, seed=(0, 0))) - signal


def _main(argv):
    del argv
    low, high = zoom_range(FLAGS.noisy, FLAGS.clean, FLAGS.noise)
    print(f"zoom_range={low:.2f},{high:.2f}")


if __name__ == "__main__":
    flags.DEFINE_string("noisy", None, "The noisy pictures.", required=True)
    flags.DEFINE_string("clean", None, "The clean pictures.", required=True)
    flags.DEFINE_string("noise", None, "Model of the noise, NOISE.keras.")
    app.run(_main)
