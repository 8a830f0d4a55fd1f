"""Keras layers: the owners of every weight, and the fixed blur."""

from tfflowdn.layers.act_norm import ActNormParameters
from tfflowdn.layers.brightness_curve import BrightnessCurve, NoiseLevel, NoiseSkew
from tfflowdn.layers.cepstrum import Cepstrum
from tfflowdn.layers.conditioner import Conditioner
from tfflowdn.layers.conv2d import Conv2D
from tfflowdn.layers.gated_block import GatedBlock
from tfflowdn.layers.gaussian_blur import GaussianBlur
from tfflowdn.layers.normalized_plu import NormalizedPLUParameters
from tfflowdn.layers.opponent_colors import OpponentColors
from tfflowdn.layers.padding import mirror_pad
from tfflowdn.layers.pixel_shuffle import depth_to_space, space_to_depth
from tfflowdn.layers.plu import PLUParameters
from tfflowdn.layers.pointwise import Pointwise
from tfflowdn.layers.residual_block import ResidualBlock
from tfflowdn.layers.spline_conditioner import SplineConditioner
from tfflowdn.layers.symmetric import SymmetricParameters
from tfflowdn.layers.variational_dequantizer import VariationalDequantizer
from tfflowdn.layers.weight_stack import WeightStack

__all__ = [
    "ActNormParameters",
    "BrightnessCurve",
    "Cepstrum",
    "Conditioner",
    "Conv2D",
    "GatedBlock",
    "GaussianBlur",
    "NoiseLevel",
    "NoiseSkew",
    "NormalizedPLUParameters",
    "OpponentColors",
    "PLUParameters",
    "Pointwise",
    "ResidualBlock",
    "SplineConditioner",
    "SymmetricParameters",
    "VariationalDequantizer",
    "WeightStack",
    "depth_to_space",
    "mirror_pad",
    "space_to_depth",
]
