"""Noise: synthetic kinds, a learned model, and its estimation without pairs."""

from __future__ import annotations

from tfflowdn.noise.calm import estimate_calm_noise
from tfflowdn.noise.generic import GenericNoise
from tfflowdn.noise.jpeg import compress_jpeg
from tfflowdn.noise.noise_model import NoiseModel
from tfflowdn.noise.residuals import estimate_noise
from tfflowdn.noise.synthetic import NOISES, add_noise

__all__ = [
    "NOISES",
    "GenericNoise",
    "NoiseModel",
    "add_noise",
    "compress_jpeg",
    "estimate_calm_noise",
    "estimate_noise",
]
