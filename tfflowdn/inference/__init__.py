"""Use of trained models: loading, denoising in tiles, and evaluation."""

from __future__ import annotations

from tfflowdn.inference.denoiser import Denoiser
from tfflowdn.inference.evaluation import score_pairs, summarize
from tfflowdn.inference.loading import (
    GENERAL,
    GENERAL_DENOISERS,
    find_model,
    find_uncertainty,
    load_denoiser,
    load_noise,
    load_prior,
    load_uncertainty,
    num_channels,
    pretrained_models,
)
from tfflowdn.inference.model_files import load_keras_file
from tfflowdn.inference.no_reference import expected_scores, score_without_references
from tfflowdn.inference.one_call import denoise
from tfflowdn.inference.outliers import replace_outliers
from tfflowdn.inference.repairs import Repairs
from tfflowdn.inference.risk import Risk, estimate_risk, match_level, middle, pool_risks
from tfflowdn.inference.saved_network import FACTS, MANIFEST, SavedNetwork, checksums
from tfflowdn.inference.scaling import Scaling, find_scaling
from tfflowdn.inference.transforms import TRANSFORMS, Anscombe, Asinh, Log, Transform
from tfflowdn.inference.unbiased import PixelNoise

__all__ = [
    "FACTS",
    "GENERAL",
    "GENERAL_DENOISERS",
    "MANIFEST",
    "TRANSFORMS",
    "Anscombe",
    "Asinh",
    "Denoiser",
    "Log",
    "PixelNoise",
    "Repairs",
    "Risk",
    "SavedNetwork",
    "Scaling",
    "Transform",
    "checksums",
    "denoise",
    "estimate_risk",
    "expected_scores",
    "find_model",
    "find_scaling",
    "find_uncertainty",
    "load_denoiser",
    "load_keras_file",
    "load_noise",
    "load_prior",
    "load_uncertainty",
    "match_level",
    "middle",
    "num_channels",
    "pool_risks",
    "pretrained_models",
    "replace_outliers",
    "score_pairs",
    "score_without_references",
    "summarize",
]
