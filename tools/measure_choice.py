"""Measures how well `denoise` chooses between the color models.

    python tools/measure_choice.py --data DATA --output tools/results/choice.json

DATA holds polyu/, bsds400_color/ and clean_color/. The pictures are the JPEG files of
PolyU's cameras (without the test camera) and validation pictures: the last 20 of BSDS
and every tenth of clean_color, as they are and with white noise, as PNG and as JPEG
files. The JSON file has for each kind how often a model was chosen, how
often that was the better one, and the mean PSNR of the choice and of each model in the
middle of the pictures.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import harness
import numpy as np
from absl import flags
from PIL import Image

adapt = harness.lazy("tfflowdn.adapt")
data = harness.lazy("tfflowdn.data")
inference = harness.lazy("tfflowdn.inference")
metrics = harness.lazy("tfflowdn.metrics")

FLAGS = flags.FLAGS
GENERAL, CAMERA = "denoiser_rgb", "denoiser_camera"
TEST_CAMERA = "Canon600D"
SIDE, SCORED = 512, 160
LEVELS, QUALITIES = (0, 3, 10), (None, 50, 75, 90)


class Case(NamedTuple):
    """A picture file and its clean version.

    Attributes:
      kind: Its kind.
      path: The file.
      clean: [H, W, 3] in [0, 1] units.
    """

    kind: str
    path: Path
    clean: np.ndarray


def camera_cases(folder: Path) -> Iterator[Case]:
    """Yields the pictures of cameras, without the test camera."""
    for path in sorted(folder.glob("*_real.JPG")):
        if not path.name.startswith(TEST_CAMERA):
            mean = path.with_name(path.name.replace("_real", "_mean"))
            clean = data.to_float(data.read_image(mean))
            yield Case(f"camera: {path.name.split('_')[0]}", path, clean)


def sharp_cases(files: list[Path], every: int, folder: Path) -> Iterator[Case]:
    """Yields validation pictures with white noise, as PNG and JPEG files."""
    for index, file in enumerate(files[::every]):
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB"))[:SIDE, :SIDE]
        for level in LEVELS:
            noise = np.random.default_rng([index, level]).normal(size=pixels.shape)
            noisy = np.uint8(np.clip(np.rint(pixels + level * noise), 0, 255))
            for quality in QUALITIES:
                name = f"{level}_{quality}_{file.stem}"
                path = folder / f"{name}.{'jpg' if quality else 'png'}"
                options = {"quality": quality} if quality else {}
                Image.fromarray(noisy).save(path, **options)
                form = f"JPEG {quality}" if quality else "PNG"
                yield Case(f"sharp, noise {level}, {form}", path, data.to_float(pixels))


def measure(case: Case, models: dict) -> dict[str, object]:
    """Returns the choice for a picture, its time, and the PSNR of each model."""
    pixels = data.read_image(case.path)
    began = time.process_time()
    pick = adapt.pick_model(case.path, pixels, models[CAMERA])
    seconds = time.process_time() - began
    noisy, clean = (
        inference.middle(picture, SCORED)
        for picture in (data.to_float(pixels), case.clean)
    )
    scores = {
        name: float(metrics.psnr(clean, denoise(noisy), data_range=1.0))
        for name, denoise in models.items()
    }
    return {"kind": case.kind, "model": pick.model, "seconds": seconds, **scores}


def summarize(rows: list[dict]) -> dict[str, dict[str, float]]:
    """Returns the means of each kind of picture."""
    kinds = {}
    for kind in dict.fromkeys(row["kind"] for row in rows):
        of_kind = [row for row in rows if row["kind"] == kind]
        chosen = np.array([row[row["model"]] for row in of_kind])
        general, camera = (
            np.array([row[name] for row in of_kind]) for name in (GENERAL, CAMERA)
        )
        kinds[kind] = {
            "pictures": len(of_kind),
            "camera_chosen": float(np.mean([r["model"] == CAMERA for r in of_kind])),
            "better_chosen": float(np.mean(chosen >= np.maximum(general, camera))),
            "psnr_choice": float(chosen.mean()),
            f"psnr_{GENERAL}": float(general.mean()),
            f"psnr_{CAMERA}": float(camera.mean()),
            "worst_loss": float((general - chosen).max()),
            "seconds": float(np.mean([row["seconds"] for row in of_kind])),
        }
    return kinds


def load(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that denoises pictures in [0, 1] units."""
    denoiser = inference.Denoiser.from_pretrained(name)
    return lambda picture: denoiser(picture, pixel_range="dtype")


def main() -> None:
    """Writes the results."""
    root, models = Path(FLAGS.data), {name: load(name) for name in (GENERAL, CAMERA)}
    bsds = sorted((root / "bsds400_color").glob("*"))[380:]
    clean = sorted((root / "clean_color").glob("*"))[::10]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for cases in (
            camera_cases(root / "polyu"),
            sharp_cases(bsds, FLAGS.every, Path(folder)),
            sharp_cases(clean, FLAGS.every, Path(folder)),
        ):
            rows += [measure(case, models) for case in cases]
    result = {"scored_side": SCORED, "kinds": summarize(rows)}
    harness.save(result, FLAGS.output)


if __name__ == "__main__":
    flags.DEFINE_string("data", None, "Folder of the pictures.", required=True)
    flags.DEFINE_integer("every", 1, "Every which sharp picture to use.", 1)
    flags.DEFINE_string("output", None, "JSON file to write.")
    harness.run(main)
