"""Glow in three PyTorch libraries, each made of that library's own flow blocks.

Every function takes (C, H, W), the numbers of levels and of steps a level, and the
width of the conditioners: 3x3, ReLU, 1x1, ReLU, 3x3 convolutions, the last one zero.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import nn

__all__ = ["LIBRARIES", "Flow", "freia_glow", "nflows_glow", "normflows_glow"]


@dataclasses.dataclass
class Flow:
    """A flow of any library.

    Attributes:
      module: Owner of the weights.
      log_prob: Maps images [batch, C, H, W] to nats [batch].
      sample: Maps a number to as many images.
    """

    module: nn.Module
    log_prob: Callable[[torch.Tensor], torch.Tensor]
    sample: Callable[[int], torch.Tensor]


def normflows_glow(
    image_shape: tuple[int, int, int],
    num_levels: int,
    num_steps: int,
    hidden_channels: int,
) -> Flow:
    """Builds the Glow of normflows' example: GlowBlock, Squeeze, Merge."""
    import normflows as nf

    channels, height, width = image_shape
    base, flows, merges = [], [], []
    for level in range(num_levels):  # From the coarsest to the finest.
        scale = 2 ** (num_levels - level)
        squeezed = 2 * scale * channels
        blocks = [
            nf.flows.GlowBlock(squeezed, hidden_channels) for _ in range(num_steps)
        ]
        flows.append([*blocks, nf.flows.Squeeze()])
        latent = squeezed if level == 0 else squeezed // 2
        shape = (latent, height // scale, width // scale)
        base.append(nf.distributions.DiagGaussian(shape))
        if level:
            merges.append(nf.flows.Merge())
    module = nf.MultiscaleFlow(base, flows, merges, class_cond=False)
    return Flow(
        module,
        log_prob=lambda images: module.log_prob(images, None),
        sample=lambda num_samples: module.sample(num_samples)[0],
    )


def freia_glow(
    image_shape: tuple[int, int, int],
    num_levels: int,
    num_steps: int,
    hidden_channels: int,
) -> Flow:
    """Builds FrEIA's AllInOneBlock: one-sided coupling, scale, shift, rotation."""
    import FrEIA.framework as ff
    import FrEIA.modules as fm

    def conditioner(in_channels, out_channels):
        return _conditioner(in_channels, hidden_channels, out_channels)

    node = ff.InputNode(*image_shape)
    nodes, outputs = [node], []
    for level in range(num_levels):
        node = ff.Node(node, fm.IRevNetDownsampling, {})
        nodes.append(node)
        for _ in range(num_steps):
            options = {"subnet_constructor": conditioner, "permute_soft": True}
            node = ff.Node(node, fm.AllInOneBlock, options)
            nodes.append(node)
        if level < num_levels - 1:
            node = ff.Node(node, fm.Split, {})
            outputs.append(ff.OutputNode(node.out1))
            nodes.append(node)
            node = node.out0
    outputs.append(ff.OutputNode(node))
    module = ff.GraphINN([*nodes, *outputs])

    def log_prob(images):
        latents, log_det = module(images)
        return log_det + sum(_standard_normal(latent) for latent in latents)

    def sample(num_samples):
        shapes = module.global_out_shapes
        latents = [torch.randn(num_samples, *shape) for shape in shapes]
        return module(latents, rev=True, jac=False)[0]

    return Flow(module, log_prob, sample)


def nflows_glow(
    image_shape: tuple[int, int, int],
    num_levels: int,
    num_steps: int,
    hidden_channels: int,
) -> Flow:
    """Builds nflows' ActNorm, OneByOneConvolution (cached) and coupling."""
    from nflows import distributions, flows, transforms
    from nflows.utils import torchutils

    class Conditioner(nn.Module):
        def __init__(self, in_channels, out_channels):
            super().__init__()
            self.network = _conditioner(in_channels, hidden_channels, out_channels)

        def forward(self, inputs, context=None):
            del context
            return self.network(inputs)

    def step(channels):
        mask = torchutils.create_mid_split_binary_mask(channels)
        yield transforms.ActNorm(channels)
        yield transforms.OneByOneConvolution(channels, using_cache=True)
        yield transforms.AffineCouplingTransform(mask, Conditioner)

    multiscale = transforms.MultiscaleCompositeTransform(num_levels)
    channels, height, width = image_shape
    for _ in range(num_levels):
        squeeze = transforms.SqueezeTransform()
        shape = squeeze.get_output_shape(channels, height, width)
        steps = [part for _ in range(num_steps) for part in step(shape[0])]
        level = transforms.CompositeTransform([squeeze, *steps])
        channels, height, width = multiscale.add_transform(level, shape) or shape
    num_dims = math.prod(image_shape)
    module = flows.Flow(multiscale, distributions.StandardNormal([num_dims]))
    return Flow(module, module.log_prob, module.sample)


LIBRARIES = {"normflows": normflows_glow, "FrEIA": freia_glow, "nflows": nflows_glow}


def _conditioner(in_channels, hidden_channels, out_channels):
    last = nn.Conv2d(hidden_channels, out_channels, 3, padding=1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(
        nn.Conv2d(in_channels, hidden_channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(hidden_channels, hidden_channels, 1),
        nn.ReLU(),
        last,
    )


def _standard_normal(latent):
    squares = latent.square().sum(dim=(1, 2, 3))
    return -0.5 * (squares + latent[0].numel() * math.log(2 * math.pi))
