"""Writes the pictures that the general denoisers are trained and validated on.

    python tools/prepare_general.py --data DATA --output OUTPUT --channels 1

DATA holds bsds400_color/. In name order the first 380 pictures go to OUTPUT/train, in
gray or in colour; the middle 256 x 256 pixels of the last 20 to OUTPUT/clean and, with
Gaussian noise of 25 of 255, to OUTPUT/noisy.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from absl import app, flags
from PIL import Image

from tfflowdn import data
from tfflowdn.noise import add_noise

FLAGS = flags.FLAGS
NUM_TRAINING = 380
SIDE = 256
MODES = {"1": "L", "3": "RGB"}


def _main(argv):
    del argv
    paths = sorted(Path(FLAGS.data, "bsds400_color").glob("*.jpg"))
    if len(paths) <= NUM_TRAINING:
        raise ValueError(
            f"DATA must hold bsds400_color/ with 400 pictures. Received: {len(paths)}."
        )
    folders = {name: Path(FLAGS.output, name) for name in ("train", "clean", "noisy")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    for index, path in enumerate(paths):
        with Image.open(path) as image:
            picture = np.asarray(image.convert(MODES[FLAGS.channels]))
        picture = picture if picture.ndim == 3 else picture[..., np.newaxis]
        if index < NUM_TRAINING:
            data.write_image(folders["train"] / f"{path.stem}.png", picture)
            continue
        top, left = ((size - SIDE) // 2 for size in picture.shape[:2])
        picture = picture[top : top + SIDE, left : left + SIDE]
        rng = np.random.default_rng([0, index])
        noisy = add_noise(data.to_float(picture), "gaussian", rng, noise_sigma=25 / 255)
        data.write_image(folders["clean"] / f"{path.stem}.png", picture)
        data.write_image(folders["noisy"] / f"{path.stem}.tif", noisy)


if __name__ == "__main__":
    flags.DEFINE_string("data", None, "Folder of the data.", required=True)
    flags.DEFINE_string("output", None, "Folder to write.", required=True)
    flags.DEFINE_enum("channels", "1", list(MODES), "1 for gray, 3 for colour.")
    app.run(_main)
