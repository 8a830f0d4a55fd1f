"""Draws the pictures of the guides for photographers and microscopists.

    python tools/guide_pictures.py --stack STACK

STACK is the folder of tools/simulate_timelapse.py, with the results of `denoise` and
`adapt` in it. Without it only the picture for photographers is drawn. The photographs
are those of the package (gb82, CC0). For the photographer one of them gets the size and
the noise of a camera: it is enlarged by two, the noise reaches over several pixels, and
it becomes a JPEG file. The rows show the same crops by different models, with the PSNR.
"""

from __future__ import annotations

import io
from pathlib import Path

import harness
import numpy as np
from absl import flags
from PIL import Image, ImageDraw

data = harness.lazy("tfflowdn.data")
inference = harness.lazy("tfflowdn.inference")
metrics = harness.lazy("tfflowdn.metrics")
tifffile = harness.lazy("tifffile")

FLAGS = flags.FLAGS
PHOTOGRAPH, CORNER, SIDE = "dog", (440, 440), 224
ZOOM, NOISE, QUALITY = 2, 8.0, 85  # The noise is in gray levels.
FRAME, GAP, LABEL = 12, 4, 24
SEED = 0
Panels = list[tuple[str, np.ndarray]]


def photographer() -> Panels:
    """Returns crops of a simulated camera's JPEG file, by model."""
    (path,) = (p for p in data.photographs() if p.stem == PHOTOGRAPH)
    with Image.open(path) as image:
        size = tuple(ZOOM * side for side in image.size)
        clean = np.asarray(image.convert("RGB").resize(size, Image.BICUBIC))
        noise = np.random.default_rng(SEED).normal(size=(*image.size[::-1], 3))
    soft = [
        np.asarray(Image.fromarray(np.float32(plane)).resize(size, Image.BICUBIC))
        for plane in np.moveaxis(NOISE * noise, -1, 0)
    ]
    noisy = np.uint8(np.clip(np.rint(clean + np.stack(soft, -1)), 0, 255))
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "JPEG", quality=QUALITY)
    noisy = np.asarray(Image.open(file))
    rows, columns = (slice(start, start + SIDE) for start in CORNER)
    part = noisy[rows, columns]
    crops = {"JPEG file": part}
    for name, model in (("general", "general"), ("denoiser_camera",) * 2):
        crops[name] = inference.Denoiser.from_pretrained(model)(part)
    return [*_scored(crops, clean[rows, columns], 255), ("clean", clean[rows, columns])]


def microscopist(folder: Path) -> Panels:
    """Returns a frame of the simulated stack, by model."""
    files = {
        "noisy": folder / "noisy.tif",
        "denoiser_gray": folder / "started/noisy.tif",
        "adapted": folder / "adapted/noisy.tif",
    }
    clean = np.float64(tifffile.imread(folder / "clean.tif")[FRAME])[..., np.newaxis]
    low, high = np.percentile(clean, [0.5, 99.8])
    crops = {
        name: np.float64(tifffile.imread(path)[FRAME])[..., np.newaxis]
        for name, path in files.items()
        if path.exists()
    }
    panels = [*_scored(crops, clean, float(high - low)), ("clean", clean)]
    return [
        (title, np.uint8(255 * np.clip((p - low) / (high - low), 0, 1)))
        for title, p in panels
    ]


def _scored(crops: dict, clean: np.ndarray, data_range: float) -> Panels:
    panels = []
    for name, crop in crops.items():
        pair = (np.float64(clean), np.float64(crop))
        score = float(metrics.psnr(*pair, data_range=data_range))
        panels.append((f"{name}, {score:.1f} dB", crop))
    return panels


def draw(panels: Panels, columns: int) -> Image.Image:
    """Returns a figure of titled pictures in rows."""
    height, width, channels = panels[0][1].shape
    rows = -(-len(panels) // columns)
    size = (columns * (width + GAP) - GAP, rows * (height + LABEL))
    figure = Image.new("RGB" if channels == 3 else "L", size, "white")
    canvas = ImageDraw.Draw(figure)
    for index, (title, picture) in enumerate(panels):
        row, column = divmod(index, columns)
        left, top = column * (width + GAP), row * (height + LABEL)
        canvas.text((left + 2, top + 4), title, fill="black", font_size=14)
        pixels = np.uint8(picture) if channels == 3 else np.uint8(picture)[..., 0]
        figure.paste(Image.fromarray(pixels), (left, top + LABEL))
    return figure


def main() -> None:
    """Writes the pictures."""
    folder = Path(FLAGS.output)
    folder.mkdir(parents=True, exist_ok=True)
    draw(photographer(), 2).save(folder / "guide_camera.webp", quality=88)
    if FLAGS.stack:
        figure = draw(microscopist(Path(FLAGS.stack)), 2)
        figure.save(folder / "guide_stack.webp", quality=88)


if __name__ == "__main__":
    flags.DEFINE_string("stack", None, "Folder of the simulated stack.")
    flags.DEFINE_string("output", "tools/results", "Folder to write.")
    harness.run(main)
