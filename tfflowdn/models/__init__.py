"""The Keras models: the prior, the networks and the training under the prior."""

from __future__ import annotations

from tfflowdn.models.flow_prior import FLOWS, FlowPrior
from tfflowdn.models.hourglass import hourglass
from tfflowdn.models.network import DenoisingNetwork
from tfflowdn.models.networks import NETWORKS, make_network
from tfflowdn.models.noise2void import Noise2Void, blind_spots
from tfflowdn.models.resnet import ResNetDenoiser
from tfflowdn.models.uncertainty import (
    COVERAGES,
    UncertaintyNetwork,
    WithUncertainty,
    coverage_loss,
    fingerprint,
)
from tfflowdn.models.unpaired_denoiser import UnpairedDenoiser

__all__ = [
    "COVERAGES",
    "FLOWS",
    "NETWORKS",
    "DenoisingNetwork",
    "FlowPrior",
    "Noise2Void",
    "ResNetDenoiser",
    "UncertaintyNetwork",
    "UnpairedDenoiser",
    "WithUncertainty",
    "blind_spots",
    "coverage_loss",
    "fingerprint",
    "hourglass",
    "make_network",
]
