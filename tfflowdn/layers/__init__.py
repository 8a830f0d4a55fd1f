"""Keras layers: they own every weight. A few, such as the blur, have no weights."""

from __future__ import annotations

from tfflowdn.layers.act_norm import ActNormParameters
from tfflowdn.layers.brightness_curve import BrightnessCurve, NoiseLevel, NoiseSkew
from tfflowdn.layers.cepstrum import Cepstrum
from tfflowdn.layers.conditioner import (
    Conditioner,
    PlainConditioner,
    ResidualConditioner,
)
from tfflowdn.layers.conv2d import Conv2D
from tfflowdn.layers.gaussian_blur import GaussianBlur
from tfflowdn.layers.line_variance import LineVariance
from tfflowdn.layers.local_noise import bound_change, local_noise
from tfflowdn.layers.normalized_plu import NormalizedPLUParameters
from tfflowdn.layers.opponent_colors import OpponentColors
from tfflowdn.layers.padding import mirror_pad
from tfflowdn.layers.pixel_shuffle import depth_to_space, space_to_depth
from tfflowdn.layers.plu import PLUParameters
from tfflowdn.layers.pointwise import Pointwise
from tfflowdn.layers.residual_block import ResidualBlock
from tfflowdn.layers.symmetric import SymmetricParameters
from tfflowdn.layers.weight_stack import WeightStack

__all__ = [
    "ActNormParameters",
    "BrightnessCurve",
    "Cepstrum",
    "Conditioner",
    "Conv2D",
    "GaussianBlur",
    "LineVariance",
    "NoiseLevel",
    "NoiseSkew",
    "NormalizedPLUParameters",
    "OpponentColors",
    "PLUParameters",
    "PlainConditioner",
    "Pointwise",
    "ResidualBlock",
    "ResidualConditioner",
    "SymmetricParameters",
    "WeightStack",
    "bound_change",
    "depth_to_space",
    "local_noise",
    "mirror_pad",
    "space_to_depth",
]
