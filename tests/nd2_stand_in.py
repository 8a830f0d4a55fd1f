"""Writes small ND2 files, which no library does, as the library nd2 reads them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

_MAGIC = 0x0ABECEDA
_NAME_SIZE = 4072  # Pixels start 4096 bytes behind the start of their chunk.


_ENCODERS = {  # The numbers of types, and the encodings of values.
    bool: (1, lambda value: struct.pack("<B", value)),
    int: (3, lambda value: struct.pack("<I", value)),
    float: (6, lambda value: struct.pack("<d", value)),
    str: (8, lambda value: f"{value}\0".encode("utf-16-le")),
}


def _lite(values: dict) -> bytes:
    """Returns values as a "lite variant", the binary form of metadata in ND2 files."""
    parts = b""
    for name, value in values.items():
        encoded = (name + "\0").encode("utf-16-le")
        if isinstance(value, dict):
            inner = _lite(value)
            head = struct.pack("<BB", 11, len(name) + 1) + encoded
            size = len(head) + 12 + len(inner)
            parts += head + struct.pack("<IQ", len(value), size) + inner
            parts += bytes(8 * len(value))
            continue
        kind, content = _ENCODERS[type(value)]
        head = struct.pack("<BB", kind, len(name) + 1)
        parts += head + encoded + content(value)
    return parts


def write_nd2(
    path: Path, frames: np.ndarray, names: tuple[str, ...], um: float
) -> None:
    """Writes frames [T, H, W, C] of uint16.

    Args:
      path: The file.
      frames: The pixels.
      names: The names of the channels.
      um: The size of a pixel in micrometers.
    """
    count, height, width, channels = frames.shape
    attributes = {
        "uiWidth": width,
        "uiWidthBytes": 2 * width * channels,
        "uiHeight": height,
        "uiComp": channels,
        "uiBpcInMemory": 16,
        "uiBpcSignificant": 16,
        "uiSequenceCount": count,
        "eCompression": 2,
    }
    probe = {"m_ExcitationSpectrum": {"uiCount": 0}}
    planes = {
        f"a{index}": {
            "uiCompCount": 1,
            "uiSampleIndex": index,
            "sDescription": name,
            "pFluorescentProbe": probe,
        }
        for index, name in enumerate(names)
    }
    metadata = {
        "dCalibration": um,
        "bCalibrated": True,
        "sPicturePlanes": {"uiCount": channels, "sPlaneNew": planes},
    }
    experiment = {
        "eType": 1,
        "uLoopPars": {
            "uiCount": count,
            "dStart": 0.0,
            "dPeriod": 1.0,
            "dDuration": 1.0,
        },
    }
    chunks = {
        "ImageAttributesLV!": _lite({"SLxImageAttributes": attributes}),
        "ImageMetadataLV!": _lite({"SLxExperiment": experiment}),
        "ImageMetadataSeqLV|0!": _lite({"SLxPictureMetadata": metadata}),
        "ImageTextInfoLV!": _lite({"SLxImageTextInfo": {"TextInfoItem_5": "a test"}}),
    }
    for index, frame in enumerate(frames):
        content = bytes(8) + np.ascontiguousarray(frame, "<u2").tobytes()
        chunks[f"ImageDataSeq|{index}!"] = content
    file = _chunk(b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver3.0".ljust(64, b"\0"), 32)
    entries = b""
    for name, content in chunks.items():
        entries += name.encode() + struct.pack("<QQ", len(file), len(content))
        file += _chunk(name.encode(), content, _NAME_SIZE)
    end = b"ND2 CHUNK MAP SIGNATURE 0000001!"
    place = len(file)
    file += _chunk(b"ND2 FILEMAP SIGNATURE NAME 0001!", entries + end, 32)
    path.write_bytes(file + end + struct.pack("<Q", place))


def _chunk(name: bytes, content: bytes, name_size: int) -> bytes:
    head = struct.pack("<IIQ", _MAGIC, name_size, len(content))
    return head + name.ljust(name_size, b"\0") + content
