"""Image denoising from noisy pictures and unrelated clean ones, without pairs."""

from tfflowdn import bijectors
from tfflowdn.inference import (
    Denoiser,
    denoise,
    load_denoiser,
    load_noise,
    load_prior,
)
from tfflowdn.metrics import psnr, ssim
from tfflowdn.models import FlowPrior, ResNetDenoiser, UnpairedDenoiser
from tfflowdn.noise import NoiseModel
from tfflowdn.serving import export_model

__all__ = [
    "Denoiser",
    "FlowPrior",
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
