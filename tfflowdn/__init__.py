"""Image denoising from noisy pictures and unrelated clean ones, without pairs.

The names of this package are imported when they are first used, so that a command can
answer `--help` without waiting for TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import Any

from tfflowdn import registration

__all__ = [
    "DeepImagePrior",
    "Denoiser",
    "FlowPrior",
    "Noise2Void",
    "NoiseModel",
    "ResNetDenoiser",
    "UnpairedDenoiser",
    "bijectors",
    "denoise",
    "export_model",
    "load_denoiser",
    "load_noise",
    "load_prior",
    "psnr",
    "ssim",
]

__version__ = "0.1.0"

_HOMES = {
    "DeepImagePrior": "stages",
    "Denoiser": "inference",
    "FlowPrior": "models",
    "Noise2Void": "models",
    "NoiseModel": "noise",
    "ResNetDenoiser": "models",
    "UnpairedDenoiser": "models",
    "denoise": "inference",
    "export_model": "serving",
    "load_denoiser": "inference",
    "load_noise": "inference",
    "load_prior": "inference",
    "psnr": "metrics",
    "ssim": "metrics",
}


def __getattr__(name: str) -> Any:
    """Imports a name of `__all__`, or a module of the package, at its first use."""
    if name in _HOMES:
        home = importlib.import_module(f"tfflowdn.{_HOMES[name]}")
        value = getattr(home, name)
    else:
        try:
            value = importlib.import_module(f"tfflowdn.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"tfflowdn.{name}":
                raise
            raise AttributeError(
                f"module 'tfflowdn' has no attribute {name!r}"
            ) from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Returns the public names and the names that are imported already."""
    return sorted({*globals(), *__all__})


registration.register()  # `keras.models.load_model` then finds the classes.
