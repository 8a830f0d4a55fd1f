"""Shared parts of the formats that Pillow decodes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
from PIL import Image

from tfflowdn.data.formats.base import Layout, Metadata, Picture
from tfflowdn.data.orientation import ORIENTATION_TAG, valid_orientation

__all__ = ["FAMILY", "PillowPicture", "pillow_layout", "pillow_pixels", "save"]

FAMILY = "exif"

_CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "I;16": 1}
_WITH_ALPHA = {"1": "LA", "L": "LA", "RGB": "RGBA"}
_DECODER_BYTES = 4  # Per pixel, in the memory of Pillow.
_STRIP_PIXELS = 2**22


class PillowPicture(Picture):
    """A picture that Pillow decodes.

    Attributes:
      opener: The class of Pillow. `Image.open` would refuse pictures of more than
        179 megapixels.
    """

    opener: ClassVar[Callable[[BinaryIO], Image.Image]]

    def __init__(self, path: str | os.PathLike, file: BinaryIO) -> None:
        """See `Picture`."""
        super().__init__(path, file)
        self._image = type(self).opener(file)

    def _layout(self) -> Layout:
        return pillow_layout(self._image)

    def _pixels(self) -> np.ndarray:
        return pillow_pixels(self._image)

    def _decoder_bytes(self) -> int:
        return _DECODER_BYTES

    def _metadata(self) -> Metadata:
        image = self._image
        exif, is_left_out = _exif(image)
        values = {
            "dpi": image.info.get("dpi"),
            "icc_profile": _icc_profile(image),
            "exif": exif,
            "xmp": image.info.get("xmp"),
            "comment": image.info.get("comment"),
        }
        mode, notes = self._mode(), []
        if image.mode.split(";")[0] != mode.split(";")[0]:
            notes.append(f"{image.mode} to {mode}")
        num_frames = getattr(image, "n_frames", 1)
        if num_frames > 1:
            notes = [f"{num_frames} frames to the first"]
        if is_left_out:
            notes.append("EXIF that cannot be copied is left out")
        values = {name: value for name, value in values.items() if value}
        return Metadata(FAMILY, values, ", ".join(notes))

    def _mode(self) -> str:
        """Returns the mode of Pillow that the pixels are converted to."""
        return _target_mode(self._image)


def pillow_layout(image: Image.Image) -> Layout:
    """Returns the layout of a picture of Pillow after its conversion."""
    mode, (width, height) = _target_mode(image), image.size
    dtype = np.dtype(np.uint16 if mode == "I;16" else np.uint8)
    return Layout(height, width, _CHANNELS[mode], dtype, orientation_of(image))


def pillow_pixels(image: Image.Image) -> np.ndarray:
    """Returns the pixels [H, W, C] of a picture of Pillow, gray or RGB."""
    image.load()
    layout, mode = pillow_layout(image), _target_mode(image)
    array = np.empty(layout[:3], layout.dtype)
    step = max(1, _STRIP_PIXELS // layout.width)
    # The conversion of the whole picture would need memory for another copy.
    for top in range(0, layout.height, step):
        rows = slice(top, min(top + step, layout.height))
        strip = image.crop((0, rows.start, layout.width, rows.stop))
        strip = strip if strip.mode == mode else strip.convert(mode)
        array[rows] = np.asarray(strip).reshape(array[rows].shape)
    return array


def orientation_of(image: Image.Image) -> int:
    """Returns the EXIF orientation, 1 to 8."""
    # The getexif() of the PNG class decodes the pixels to find a chunk behind them.
    return valid_orientation(Image.Image.getexif(image).get(ORIENTATION_TAG, 1))


def save(
    path: Path, array: np.ndarray, values: Mapping[str, Any], **options: Any
) -> None:
    """Writes pixels [H, W, C] by Pillow, with resolution, profile and EXIF.

    Args:
      path: The file.
      array: The pixels.
      values: The values of `Metadata`.
      **options: The format and options of its encoder.
    """
    kept = {k: values[k] for k in ("dpi", "icc_profile", "exif") if k in values}
    image = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
    try:
        image.save(path, **kept, **options)
    except OSError:
        raise
    except Exception as error:  # The encoders refuse EXIF by errors of many kinds.
        if kept.pop("exif", None) is None:
            raise
        image.save(path, **kept, **options)
        logging.getLogger(__name__).warning(
            "A picture is written without EXIF, which its format cannot hold: %s",
            error,
        )


def _target_mode(image: Image.Image) -> str:
    mode = image.mode
    if image.format == "PNG" and "transparency" in image.info and mode in _WITH_ALPHA:
        return _WITH_ALPHA[mode]
    if mode in _CHANNELS:
        return mode
    if mode == "P" and image.format == "GIF" and _is_gray(image):
        return "LA" if image.has_transparency_data else "L"
    if mode in ("P", "PA"):
        return "RGBA" if image.has_transparency_data else "RGB"
    modes = {"1": "L", "I": "I;16", "I;16B": "I;16", "CMYK": "RGB", "YCbCr": "RGB"}
    if mode not in modes:
        raise ValueError(f"the pixels must be gray or RGB. Received: {mode=}.")
    return modes[mode]


def _is_gray(image: Image.Image) -> bool:
    colors = np.asarray(image.getpalette("RGB")).reshape(-1, 3)
    return bool((colors == colors[:, :1]).all())


def _icc_profile(image: Image.Image) -> bytes | None:
    # A CMYK profile does not fit the RGB pixels.
    return None if image.mode == "CMYK" else image.info.get("icc_profile")


def _exif(image: Image.Image) -> tuple[bytes | None, bool]:
    """Returns EXIF without the orientation, and whether it had to be left out."""
    exif = Image.Image.getexif(image)
    orientation = exif.pop(ORIENTATION_TAG, None)
    try:
        return (exif.tobytes() if len(exif) else None), False
    except Exception:  # Damaged EXIF raises nearly anything.
        return None, True
    finally:  # The pixels may be read later.
        if orientation is not None:
            exif[ORIENTATION_TAG] = orientation
