"""Writes the pictures that the general denoisers are trained and validated on.

    python tools/prepare_general.py --data DATA --output OUTPUT --channels 1

DATA holds `bsds400_color/` and `clean_color/`. In the order of their names, the last 20
pictures of the former and every tenth of the latter are for validation: OUTPUT/clean
gets their middle 256 x 256 pixels and OUTPUT/noisy the same with Gaussian noise of 25
of 255. OUTPUT/train gets all others. The pictures are gray or RGB.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import harness
import numpy as np
from absl import flags

data = harness.lazy("tfflowdn.data")
image = harness.lazy("PIL.Image")

FLAGS = flags.FLAGS
POOLS = ("bsds400_color", "clean_color")
NOISE_SIGMA = 25 / 255
SIDE = 256
MODES = {1: "L", 3: "RGB"}


def write_pictures(
    source: Path, output: Path, channels: int, pools: Sequence[str] = POOLS
) -> None:
    """Writes the pictures, unless `output` exists; a killed call leaves no `output`.

    Args:
      source: Folder of the pools.
      output: Folder to write.
      channels: 1 for gray, 3 for RGB.
      pools: The folders of `source` to read, from `POOLS`.

    Raises:
      ValueError: If a pool has too few pictures.
    """
    if output.exists():
        return
    partial = output.with_name(f".{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for name in ("train", "clean", "noisy"):
        (partial / name).mkdir(parents=True)
    splits = [_split(source / name) for name in pools]
    for path in (path for train, _ in splits for path in train):
        picture = _read(path, channels)
        data.write_image(partial / "train" / f"{path.stem}.png", picture)
    validation = [path for _, held_out in splits for path in held_out]
    for index, path in enumerate(validation):
        picture = _middle(_read(path, channels))
        rng = np.random.default_rng([0, index])
        noisy = picture / 255 + NOISE_SIGMA * rng.standard_normal(picture.shape)
        data.write_image(partial / "clean" / f"{path.stem}.png", picture)
        data.write_image(partial / "noisy" / f"{path.stem}.tif", np.float32(noisy))
    partial.rename(output)


def _split(folder):
    """Returns the training and the validation pictures of a pool."""
    paths = sorted(folder.glob("*.*"))
    if len(paths) <= 20:
        raise ValueError(
            f"DATA must hold more than 20 pictures in {folder.name}/. "
            f"Received: {len(paths)}."
        )
    if folder.name == "bsds400_color":
        return paths[:380], paths[380:]
    return [path for i, path in enumerate(paths) if i % 10], paths[::10]


def _read(path, channels):
    """Returns a picture, uint8 [H, W, channels]."""
    with image.open(path) as file:
        picture = np.asarray(file.convert(MODES[channels]))
    return picture.reshape(*picture.shape[:2], channels)


def _middle(picture):
    top, left = ((size - SIDE) // 2 for size in picture.shape[:2])
    return picture[top : top + SIDE, left : left + SIDE]


def _main():
    write_pictures(Path(FLAGS.data), Path(FLAGS.output), int(FLAGS.channels))


if __name__ == "__main__":
    flags.DEFINE_string("data", None, "Folder of the data.", required=True)
    flags.DEFINE_string("output", None, "Folder to write.", required=True)
    flags.DEFINE_enum("channels", "1", ["1", "3"], "1 for gray, 3 for RGB.")
    harness.run(_main)
