"""Invertible maps of images: `tfb.Bijector`s that own no weights.

Sign and direction: `forward` is latent z -> image x (sampling), `inverse` is
x -> z. So `log_prob(x) = base.log_prob(inverse(x)) + inverse_log_det_jacobian(x)`.
Weights belong to the Keras layers that the bijectors are given (`bijector.layer`).
"""

from __future__ import annotations

from tfflowdn.bijectors.act_norm import ActNorm
from tfflowdn.bijectors.chain import Chain
from tfflowdn.bijectors.channel_coupling import ChannelCoupling
from tfflowdn.bijectors.checkerboard_coupling import CheckerboardCoupling
from tfflowdn.bijectors.factor_out import FactorOut
from tfflowdn.bijectors.haar import HaarSqueeze
from tfflowdn.bijectors.image_bijector import ImageBijector
from tfflowdn.bijectors.invertible_convolution import InvertibleConvolution
from tfflowdn.bijectors.line_scale import LineScale
from tfflowdn.bijectors.logit import PixelLogit
from tfflowdn.bijectors.normalized_convolution import NormalizedConvolution
from tfflowdn.bijectors.one_pass import OnePassBijector
from tfflowdn.bijectors.repeat import Repeat
from tfflowdn.bijectors.signal_scale import SignalScale
from tfflowdn.bijectors.signal_skew import SignalSkew
from tfflowdn.bijectors.spectral_filter import SpectralFilter
from tfflowdn.bijectors.squeeze import Squeeze

__all__ = [
    "ActNorm",
    "Chain",
    "ChannelCoupling",
    "CheckerboardCoupling",
    "FactorOut",
    "HaarSqueeze",
    "ImageBijector",
    "InvertibleConvolution",
    "LineScale",
    "NormalizedConvolution",
    "OnePassBijector",
    "PixelLogit",
    "Repeat",
    "SignalScale",
    "SignalSkew",
    "SpectralFilter",
    "Squeeze",
]
