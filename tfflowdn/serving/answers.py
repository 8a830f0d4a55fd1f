"""Checks the answers of a server, which may be anything."""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import re
from typing import Any, NamedTuple

import numpy as np
from PIL import JpegImagePlugin, PngImagePlugin

from tfflowdn.serving.requests import RequestError

__all__ = ["as_array", "check_file", "from_json", "in_words", "wrong_answer"]


class _Header(NamedTuple):
    """Width and height in any order, and bits of a channel."""

    size: tuple[int, ...]
    depth: int


def check_file(content: bytes, answer: bytes) -> None:
    """Checks that the answer is a PNG of the file's size and depth.

    Raises:
      RequestError: If it is not.
    """
    try:
        received = _read_header(answer, PngImagePlugin.PngImageFile)
        with PngImagePlugin.PngImageFile(io.BytesIO(answer)) as picture:
            picture.verify()  # The checksums.
        expected = _header_of_sent(content)
        if expected is None or expected == received:
            with PngImagePlugin.PngImageFile(io.BytesIO(answer)) as picture:
                picture.load()
    except Exception as error:  # Pillow raises many kinds.
        raise wrong_answer("a PNG file", f"{len(answer)} bytes ({error})") from error
    if expected is not None and received != expected:
        raise wrong_answer(f"a PNG file of {expected}", received)


def _header_of_sent(content):
    """Returns the header of a file that was sent; None if only the server reads it."""
    for kind in (PngImagePlugin.PngImageFile, JpegImagePlugin.jpeg_factory):
        with contextlib.suppress(Exception):  # The server accepted the file.
            return _read_header(content, kind)
    return None


def _read_header(content, kind):
    is_deep = content[:4] == b"\x89PNG" and content[24:25] == b"\x10"
    with kind(io.BytesIO(content)) as picture:
        # The stored orientation may exchange width and height.
        return _Header(tuple(sorted(picture.size)), 16 if is_deep else 8)


def as_array(values: Any, noisy: np.ndarray) -> np.ndarray:
    """Returns values as an array of the dtype and the shape of `noisy`.

    Raises:
      RequestError: If they are not finite numbers of this shape.
    """
    try:
        array = np.asarray(values, noisy.dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise wrong_answer("an array of numbers", error) from error
    if array.shape != noisy.shape or not np.isfinite(array).all():
        raise wrong_answer(f"finite numbers of shape {noisy.shape}", array.shape)
    return array


def wrong_answer(expected: str, received: object) -> RequestError:
    """Returns the error of an answer that must be something else."""
    return RequestError(f"The answer must be {expected}. Received: {received!s:.200}.")


def from_json(value: Any) -> Any:
    """Returns a value of JSON, decoded if it is base64.

    Raises:
      RequestError: If it is not valid base64.
    """
    if not (isinstance(value, dict) and set(value) == {"b64"}):
        return value
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise wrong_answer("base64", error) from error


def in_words(message: str) -> str:
    """Removes the parts of TensorFlow's messages that describe the graph."""
    message = re.sub(r"^(\{\{.*?\}\}\s*)+", "", message.split("[[{{")[0]).strip()
    found = re.search(r"assertion failed: (\[.*)", message, re.DOTALL)
    if not found:
        return message
    return " ".join(re.findall(r"\[([^\[\]]*)\]", found[1])) or message
