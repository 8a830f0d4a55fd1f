"""Trainings: of the prior, of the denoiser in stages, and of the noise."""

from __future__ import annotations

from tfflowdn.stages.deep_image_prior import DeepImagePrior, PictureFit
from tfflowdn.stages.denoiser import STAGES, train_denoiser
from tfflowdn.stages.noise import train_noise
from tfflowdn.stages.pairs import noisy_pairs, weighted_pairs, with_pairs
from tfflowdn.stages.prior import train_prior
from tfflowdn.stages.recorrupt import recorrupted_pairs
from tfflowdn.stages.run import Run, Work
from tfflowdn.stages.uncertainty import train_uncertainty

__all__ = [
    "STAGES",
    "DeepImagePrior",
    "PictureFit",
    "Run",
    "Work",
    "noisy_pairs",
    "recorrupted_pairs",
    "train_denoiser",
    "train_noise",
    "train_prior",
    "train_uncertainty",
    "weighted_pairs",
    "with_pairs",
]
