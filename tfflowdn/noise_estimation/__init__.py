"""Estimation of the noise without pairs."""

from tfflowdn.noise_estimation.calm import estimate_calm_noise
from tfflowdn.noise_estimation.residuals import estimate_noise

__all__ = ["estimate_calm_noise", "estimate_noise"]
