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
from tfflowdn.inference.scaling import Scaling, find_scaling
from tfflowdn.inference.transforms import TRANSFORMS, Anscombe, Asinh, Log, Transform

__all__ = [
    "FACTS",
    "GENERAL",
    "GENERAL_DENOISERS",
    "TRANSFORMS",
    "Anscombe",
    "Asinh",
    "Denoiser",
    "Log",
    "SavedNetwork",
    "Scaling",
    "Transform",
    "denoise",
    "find_model",
    "find_scaling",
    "load_denoiser",
    "load_noise",
    "load_prior",
    "num_channels",
    "pretrained_models",
    "score_pairs",
    "summarize",
]
