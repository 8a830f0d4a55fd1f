"""Using trained models: loading, denoising by tiles, and evaluation."""

from tfflowdn.inference.denoiser import GENERAL, Denoiser, denoise
from tfflowdn.inference.evaluation import score_pairs, summarize
from tfflowdn.inference.loading import (
    FACTS,
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
