"""Exported models, for TensorFlow Serving and other runtimes, and a client.

Modules are imported at first use, so that the client does not import TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = [
    "FORMATS",
    "MAX_REQUEST_PIXELS",
    "GrpcClient",
    "RequestError",
    "RestClient",
    "ServedDenoiser",
    "ServerError",
    "export_model",
]

FORMATS = {"saved_model": "", "litert": ".tflite", "onnx": ".onnx"}
"""Suffixes of the files, by the formats of `export_model`."""

MAX_REQUEST_PIXELS = 100_000_000
"""Default limit of the pixels of a request to a denoiser."""

_MODULES = {
    "GrpcClient": "client",
    "RequestError": "client",
    "RestClient": "client",
    "ServedDenoiser": "graph",
    "ServerError": "client",
    "export_model": "export",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
