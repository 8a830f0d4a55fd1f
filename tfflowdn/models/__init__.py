"""The Keras models of the three stages."""

from tfflowdn.models.flow_prior import FLOWS, FlowPrior
from tfflowdn.models.resnet import ResNetDenoiser
from tfflowdn.models.unpaired_denoiser import UnpairedDenoiser

__all__ = ["FLOWS", "FlowPrior", "ResNetDenoiser", "UnpairedDenoiser"]
