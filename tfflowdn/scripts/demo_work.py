"""The work of the page `demo`: one upload, denoised, with a page that shows it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tfflowdn
from tfflowdn.scripts.denoise import denoise_files
from tfflowdn.scripts.failures import BatchError
from tfflowdn.scripts.model_picker import AUTO

__all__ = ["Limits", "Outcome", "process"]

LOSSY = (".jpg", ".jpeg", ".jfif", ".jpe", ".webp", ".gif")
MOST_PLANES, SIDE = 4, 512
SEED = 0


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of one request.

    Attributes:
      megabytes: Size of a file.
      megapixels: Pixels of all its planes.
      seconds: Time for the denoising.
    """

    megabytes: float = 100.0
    megapixels: float = 50.0
    seconds: float = 300.0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of a request.

    Attributes:
      file: The denoised picture, with the name and format of the upload.
      page: A report as HTML, see `report.write_report`.
      sentences: Sentences about the work.
    """

    file: Path
    page: str
    sentences: Sequence[str]


class _TimedDenoiser(tfflowdn.Denoiser):
    """A denoiser that stops after a time."""

    def __init__(self, *networks: Any, seconds: float) -> None:
        super().__init__(*networks)
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def __call__(self, *args: Any, on_pixels: Any = None, **options: Any) -> Any:
        def check(count: int) -> None:
            if time.monotonic() > self._end:
                raise ValueError(
                    f"A picture must take at most {self._seconds:.0f} seconds here; "
                    "use the command denoise. Received: one that takes longer."
                )
            if on_pixels is not None:
                on_pixels(count)

        return super().__call__(*args, on_pixels=check, **options)


def process(
    source: str | Path,
    folder: Path,
    load: Callable[[str], Sequence[Any]],
    *,
    model: str,
    strength: float = 1.0,
    noise_sigma: float = 0.0,
    limits: Limits | None = None,
) -> Outcome:
    """Denoises an upload.

    Args:
      source: The file.
      folder: An empty folder for the results.
      load: Returns the networks of a model.
      model: The name of the model, or "auto".
      strength: Part of the correction to apply, 0 to 1.
      noise_sigma: Standard deviation of the noise to add before, in [0, 1] units; the
        upload then counts as clean, and the page has the PSNR.
      limits: The limits; by default `Limits()`.

    Raises:
      ValueError: If the file cannot be read or is beyond a limit.
    """
    source, limits = Path(source), limits or Limits()
    _check_size(source, limits)
    noisy = _with_noise(source, folder, noise_sigma) if noise_sigma > 0 else source
    name, reason = _pick(noisy, load) if model == AUTO else (model, "your choice")
    denoiser = _TimedDenoiser(*load(name), seconds=limits.seconds)
    try:
        (file,) = denoise_files(
            [str(noisy)],
            str(folder / "denoised"),
            denoiser,
            strength=strength,
            pixel_range=_used_range(noisy),
        )
    except BatchError as error:
        raise ValueError(str(error)) from error
    sentences = [
        f"{noisy.name} was denoised by {name} ({reason}) at strength {strength:g}."
    ]
    if noisy.suffix != source.suffix:
        sentences.append("The result is a PNG: JPEG would change the added noise.")
    page = folder / "report.html"
    clean = source if noise_sigma > 0 else None
    report = _report(noisy, file, clean, sentences)
    tfflowdn.report.write_report(page, report, most_shown=MOST_PLANES)
    return Outcome(file, page.read_text("utf-8"), report.summary)


def _used_range(path: Path) -> str | None:
    """Returns the range of the values that a picture uses; None for its dtype's."""
    chosen = tfflowdn.adapt.choose_range(_planes(path))
    return None if chosen == "dtype" else chosen


def _pick(path: Path, load: Callable[[str], Sequence[Any]]) -> tuple[str, str]:
    """Returns the model that suits a picture, and the reason."""
    if not tfflowdn.adapt.may_be_camera(path):
        return "general", "no JPEG file"
    camera = tfflowdn.Denoiser(*load(tfflowdn.adapt.CAMERA))
    return tfflowdn.adapt.pick_model(
        path,
        tfflowdn.data.read_image(path),
        lambda picture: camera(picture, pixel_range="dtype"),
    )


def _check_size(path: Path, limits: Limits) -> None:
    megabytes = path.stat().st_size / 1e6
    if megabytes > limits.megabytes:
        raise ValueError(
            f"A file must have at most {limits.megabytes:g} MB here; use the command "
            f"denoise. Received: {path.name}, {megabytes:.0f} MB."
        )
    with tfflowdn.data.open_picture(path) as picture:
        headers = picture.page_headers()
    megapixels = sum(header.height * header.width for header in headers) / 1e6
    if megapixels > limits.megapixels:
        raise ValueError(
            f"A picture must have at most {limits.megapixels:g} megapixels here; use "
            f"the command denoise. Received: {path.name}, {megapixels:.0f} megapixels."
        )


def _with_noise(source: Path, folder: Path, sigma: float) -> Path:
    """Writes a copy with white noise, as PNG if the format is lossy."""
    suffix = ".png" if source.suffix.lower() in LOSSY else source.suffix
    path = folder / "noisy" / source.with_suffix(suffix).name
    path.parent.mkdir()
    rng = np.random.default_rng(SEED)
    pixel_range = tfflowdn.adapt.choose_range(_planes(source))
    if tfflowdn.data.is_stack_or_large(source):

        def fill(page: np.ndarray, out: np.ndarray) -> None:
            out[...] = _noisy(page, pixel_range, sigma, rng)

        tfflowdn.data.map_pages(source, path, fill)
    else:
        pixels = _noisy(tfflowdn.data.read_image(source), pixel_range, sigma, rng)
        metadata = tfflowdn.data.read_metadata(source)
        tfflowdn.data.write_image(path, pixels, metadata)
    return path


def _noisy(
    pixels: np.ndarray, pixel_range: str, sigma: float, rng: np.random.Generator
) -> np.ndarray:
    limits = tfflowdn.data.find_limits(pixel_range, [pixels])
    color, alpha = tfflowdn.data.split_alpha(pixels)
    noise = sigma * rng.standard_normal(color.shape)
    values = tfflowdn.data.to_float(color, limits) + noise
    result = tfflowdn.data.from_float(values, pixels.dtype, limits)
    return result if alpha is None else np.concatenate([result, alpha], -1)


def _report(
    noisy: Path, denoised: Path, clean: Path | None, sentences: Sequence[str]
) -> tfflowdn.report.Report:
    """Returns a report of some planes, in the units of the picture."""
    paths = [noisy, denoised, *([clean] if clean else [])]
    planes = [_planes(path) for path in paths]
    pixel_range = tfflowdn.adapt.choose_range(planes[-1] if clean else planes[0])
    pictures = [[_unit(p.pixels, pixel_range) for p in each] for each in planes]
    names = [plane.name for plane in planes[0]]
    rows = [_row(name, *each) for name, *each in zip(names, *pictures, strict=True)]
    lines, plots = _look(planes[0], pixel_range)
    if clean:
        before, after = (
            np.mean([row.scores[name] for row in rows])
            for name in ("noisy PSNR, dB", "PSNR, dB")
        )
        sentences = [
            *sentences,
            f"The PSNR is {after:.2f} dB; with the added noise it was {before:.2f} dB.",
        ]
    return tfflowdn.report.Report(
        title=noisy.name,
        summary=[*sentences, *lines],
        rows=rows,
        worst_by="PSNR, dB",
        plots=plots,
    )


def _planes(path: Path) -> list[tfflowdn.adapt.Plane]:
    planes, failures = tfflowdn.adapt.read_planes([path], MOST_PLANES, side=SIDE)
    if failures:
        raise ValueError(
            f"The picture must be readable. Received: {next(iter(failures.values()))}"
        )
    return planes


def _unit(pixels: np.ndarray, pixel_range: str) -> np.ndarray:
    return tfflowdn.data.normalize(pixel_range, pixels)


def _row(
    name: str, noisy: np.ndarray, denoised: np.ndarray, clean: np.ndarray | None = None
) -> tfflowdn.report.Row:
    scores = {"removed, % of the range": 100 * float(np.std(noisy - denoised))}
    if clean is not None:
        values = (
            float(tfflowdn.metrics.psnr(clean, picture, data_range=1.0))
            for picture in (denoised, noisy)
        )
        scores |= dict(zip(("PSNR, dB", "noisy PSNR, dB"), values, strict=True))
    return tfflowdn.report.Row(name, scores, noisy, denoised, clean)


def _look(planes: Sequence[tfflowdn.adapt.Plane], pixel_range: str) -> tuple:
    """Returns the measurements of `adapt`: sentences and a plot."""
    try:
        look = tfflowdn.adapt.look_at(planes, 1, pixel_range)
    except ValueError:  # It is too small.
        return [], {}
    curve = tfflowdn.report.Curve(
        "calm places", look.brightness, look.noise, "accent", points=True
    )
    unit = "gray levels" if look.dtype == "uint8" else "stored values"
    labels = f"brightness, {unit}", f"standard deviation, {unit}"
    return tfflowdn.adapt.describe(look), {"Noise by brightness": (*labels, [curve])}
