"""Draws crops of four pictures, denoised by several methods.

    python tools/compare_figure.py --pictures PICTURES --output FIGURE.png \
        --model "Noise2Void=RUNS/gray/gaussian/noise2void/denoiser.keras" \
        --model "denoiser_gray=denoiser_gray"

The liveliest crop of each of the first four PICTURES, as gray levels, gets Gaussian
noise of `--sigma`. The rows are the clean crops, the methods of tools/compare.py that
need no training (`--methods`), and denoisers (`--model TITLE=NAME_OR_FILE`), with their
mean PSNR. Pictures that are published need a license that permits it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import compare_methods
import harness
import numpy as np
from absl import flags, logging
from PIL import Image, ImageDraw

data = harness.lazy("tfflowdn.data")
inference = harness.lazy("tfflowdn.inference")
noises = harness.lazy("tfflowdn.noise")

FLAGS = flags.FLAGS
METHODS = ("noisy", "bm3d", "nlm", "wavelets", "dip")
SIDE, GAP, LABEL, COUNT = 160, 4, 26, 4
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # Red, green, blue (BT.601).
Rows = list[tuple[str, list[np.ndarray]]]


def draw(rows: Rows) -> Image.Image:
    """Returns a figure with a row for each method and a column for each picture.

    Args:
      rows: A title and crops, float32 [SIDE, SIDE, 1] in [0, 1] units, for each row.
    """
    width = len(rows[0][1]) * (SIDE + GAP) - GAP
    figure = Image.new("L", (width, len(rows) * (SIDE + LABEL)), 255)
    canvas = ImageDraw.Draw(figure)
    for index, (title, crops) in enumerate(rows):
        top = index * (SIDE + LABEL)
        canvas.text((2, top + 4), title, fill=0, font_size=15)
        for column, crop in enumerate(crops):
            pixels = data.from_float(np.clip(crop, 0, 1), np.uint8)[..., 0]
            figure.paste(Image.fromarray(pixels), (column * (SIDE + GAP), top + LABEL))
    return figure


def liveliest(picture: np.ndarray) -> np.ndarray:
    """Returns the crop of a picture [H, W, C] with the largest variance.

    Raises:
      ValueError: If the picture is smaller than a crop.
    """
    if min(picture.shape[:2]) < SIDE:
        raise ValueError(
            f"Pictures must be at least {SIDE} x {SIDE} pixels. "
            f"Received: picture.shape={picture.shape}."
        )
    tops, lefts = (range(0, size - SIDE + 1, 16) for size in picture.shape[:2])
    crops = [picture[i : i + SIDE, j : j + SIDE] for i in tops for j in lefts]
    return max(crops, key=lambda crop: float(np.var(crop)))


def _read(path: Path) -> np.ndarray:
    picture = data.to_float(data.read_image(path))
    gray = picture @ LUMINANCE if picture.shape[-1] == 3 else picture[..., 0]
    return liveliest(gray[..., np.newaxis])


def _functions() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Returns the denoising functions by title."""
    sigma, functions = FLAGS.sigma / 255, {}
    task = compare_methods.Task(None, lambda: (), Path())
    for name in FLAGS.methods:
        method = compare_methods.METHODS[name]
        denoise = method.make(task)
        functions[method.title] = lambda noisy, d=denoise: d(noisy, sigma)
    for entry in FLAGS.model or ():
        title, _, path = entry.partition("=")
        denoiser = inference.Denoiser.from_pretrained(path)
        functions[title] = lambda noisy, d=denoiser: d(noisy, pixel_range="dtype")
    return functions


def _main() -> None:
    paths = data.open_source(FLAGS.pictures, channels=None).names[:COUNT]
    clean = [_read(Path(FLAGS.pictures, name)) for name in paths]
    noisy = [
        noises.add_noise(
            crop,
            "gaussian",
            np.random.default_rng([0, i]),
            noise_sigma=FLAGS.sigma / 255,
        )
        for i, crop in enumerate(clean)
    ]
    rows = [("clean", clean)]
    for title, denoise in _functions().items():
        crops = [np.float32(denoise(crop)).reshape(crop.shape) for crop in noisy]
        scores = inference.score_pairs(zip(crops, clean, strict=True))
        psnr = inference.summarize(scores)["noisy_psnr"]
        logging.info("%s: %.2f dB", title, psnr)
        rows.append((f"{title}, {psnr:.2f} dB", crops))
    Path(FLAGS.output).parent.mkdir(parents=True, exist_ok=True)
    draw(rows).save(FLAGS.output, optimize=True)


if __name__ == "__main__":
    flags.DEFINE_string("pictures", None, "Folder of clean pictures.", required=True)
    flags.DEFINE_float("sigma", 25.0, "Standard deviation of the noise; white is 255.")
    flags.DEFINE_multi_enum("methods", METHODS, METHODS, "Methods; may be repeated.")
    flags.DEFINE_multi_string("model", None, "TITLE=NAME_OR_FILE; may be repeated.")
    flags.DEFINE_string("output", None, "PNG file to write.", required=True)
    harness.run(_main)
