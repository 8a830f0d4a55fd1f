"""Use of trained models: loading, denoising in tiles, and evaluation."""

from __future__ import annotations

from tfflowdn.inference.denoiser import Denoiser, denoise
from tfflowdn.inference.evaluation import score_pairs, summarize
from tfflowdn.inference.loading import (
    FACTS,
    GENERAL,
    GENERAL_DENOISERS,
    SavedNetwork,
    find_model,
    load_denoiser,
    load_noise,
    load_prior,
    num_channels,
    pretrained_models,
)

__all__ = [
    "FACTS",
    "GENERAL",
    "GENERAL_DENOISERS",
    "Denoiser",
    "SavedNetwork",
    "denoise",
    "find_model",
    "load_denoiser",
    "load_noise",
    "load_prior",
    "num_channels",
    "pretrained_models",
    "score_pairs",
    "summarize",
]
