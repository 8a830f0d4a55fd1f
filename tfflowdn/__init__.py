"""Image denoising from noisy pictures and unrelated clean ones, without pairs."""

from tfflowdn.inference import Denoiser, denoise, load_denoiser
from tfflowdn.models import FlowPrior, ResNetDenoiser, UnpairedDenoiser

__all__ = [
    "Denoiser",
    "FlowPrior",
    "ResNetDenoiser",
    "UnpairedDenoiser",
    "denoise",
    "load_denoiser",
]

__version__ = "0.1.0"
