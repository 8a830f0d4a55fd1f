"""Keras models: the prior, the network, and the training of stage 2."""

from tfflowdn.models.flow_prior import FLOWS, FlowPrior
from tfflowdn.models.noise_model import NoiseModel
from tfflowdn.models.resnet import ResNetDenoiser
from tfflowdn.models.unpaired_denoiser import UnpairedDenoiser

__all__ = ["FLOWS", "FlowPrior", "NoiseModel", "ResNetDenoiser", "UnpairedDenoiser"]
