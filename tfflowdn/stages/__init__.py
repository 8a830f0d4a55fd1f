"""The stages of training: prior, denoiser and noise."""

from tfflowdn.stages.denoiser import train_denoiser
from tfflowdn.stages.noise import train_noise
from tfflowdn.stages.prior import train_prior

__all__ = ["train_denoiser", "train_noise", "train_prior"]
