"""The three flows, and the parts to compose a flow of your own.

A flow is a function `flow(image_shape, *, seed, dtype, **options)` that returns the
distribution of images [H, W, C]. `FlowPrior` takes such a function, or its name in
`FLOWS`. A prior that is saved needs the name. `FlowBuilder` makes the parts of a flow;
`glow` takes a step of your own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfflowdn.bijectors import ActNorm, Chain, FactorOut, Squeeze
from tfflowdn.checks import check_choice
from tfflowdn.flow_parts import (
    BASES,
    CONDITIONERS,
    SQUEEZES,
    CouplingStep,
    FlowBuilder,
    FlowOptions,
    GlowStep,
    ImageShape,
    Step,
    standard_logistic,
    standard_normal,
)

__all__ = [
    "BASES",
    "CONDITIONERS",
    "FLOWS",
    "SQUEEZES",
    "CouplingStep",
    "FlowBuilder",
    "FlowOptions",
    "GlowStep",
    "Step",
    "flow_name",
    "glow",
    "nice",
    "real_nvp",
    "standard_logistic",
    "standard_normal",
]

GLOW = FlowOptions()
NICE = FlowOptions(num_levels=2, num_steps=4, coupling="additive", split_prior=False)
REAL_NVP = FlowOptions(
    num_levels=2,
    num_steps=3,
    hidden_channels=32,
    conditioner="residual",
    num_residual_blocks=2,
    split_prior=False,
)


def _couplings(**kind: bool) -> list[CouplingStep]:
    return [CouplingStep(swap=swap, **kind) for swap in (False, True)]


def nice(image_shape: ImageShape, **options: Any) -> tfd.TransformedDistribution:
    """Builds NICE (Dinh et al. 2015, arXiv 1410.8516), convolutional.

    The flow has `num_steps` additive couplings on a checkerboard, then `num_steps` over
    the channels after each of `num_levels` squeezes, and a diagonal scale. The paper
    also whitens the pixels.

    Args:
      image_shape: (H, W, C), H and W divisible by 2**num_levels.
      **options: Fields of `FlowOptions`.

    Returns:
      The distribution of images [H, W, C] with pixels in [0, 1].

    Raises:
      ValueError: If the shape is not divisible, or for an unknown option.
    """
    options = NICE.replace(**options)
    check_choice("split_prior", options.split_prior, (False,))
    build = FlowBuilder(image_shape, options)
    channels, width = image_shape[-1], options.hidden_channels
    steps = _couplings(checkerboard=True)
    bijectors = [build.repeat(steps, options.num_steps, channels, width)]
    for _ in range(options.num_levels):
        channels, width = 4 * channels, width * options.hidden_growth
        repeat = build.repeat(_couplings(), options.num_steps, channels, width)
        bijectors += [build.squeeze(), repeat]
    bijectors.append(ActNorm(build.act_norm(channels)))
    bijectors += [tfb.Invert(Squeeze()) for _ in range(options.num_levels)]
    return build.distribution(bijectors)


def real_nvp(image_shape: ImageShape, **options: Any) -> tfd.TransformedDistribution:
    """Builds RealNVP (Dinh et al. 2017, arXiv 1605.08803).

    Each of `num_levels` levels has couplings on a checkerboard, a squeeze and couplings
    over the channels. Then half of the channels are factored out. The last level has
    only couplings on a checkerboard. ActNorms replace the paper's batch normalization,
    whose statistics differ in training and in use. The bound of the log-scales is
    fixed, not learned, so that the inverse stays stable. The paper's batch and weight
    normalization, skip connections and weight decay of the conditioners are left out.

    Arguments, results and errors are the same as for `nice`.
    """
    options = REAL_NVP.replace(**options)
    build = FlowBuilder(image_shape, options)
    board = _couplings(checkerboard=True, act_norm=True)
    over_channels = _couplings(act_norm=True)
    count = options.num_steps

    def level(channels, width, levels_left):
        if levels_left == 0:
            return [build.repeat(board, count + 1, channels, width)]
        wider = width * options.hidden_growth
        return [
            build.repeat(board, count, channels, width),
            build.squeeze(),
            build.repeat(over_channels, count, 4 * channels, wider),
            *build.split_prior(4 * channels),
            FactorOut(Chain(level(2 * channels, wider, levels_left - 1), name="level")),
            tfb.Invert(Squeeze()),
        ]

    levels = level(image_shape[-1], options.hidden_channels, options.num_levels)
    return build.distribution(levels)


def glow(
    image_shape: ImageShape, *, step: Step | None = None, **options: Any
) -> tfd.TransformedDistribution:
    """Builds Glow (Kingma and Dhariwal 2018, arXiv 1807.03039).

    Each of `num_levels` levels has a squeeze and `num_steps` steps. Then half of the
    channels are factored out, with a mean and a scale that are predicted from the other
    half. The paper's ActNorms in the conditioners are left out. So are its learned mean
    and scale at the last level, which the last step can express.

    Arguments, results and errors are the same as for `nice`; `step` replaces
    `GlowStep`.
    """
    options = GLOW.replace(**options)
    build = FlowBuilder(image_shape, options)
    steps = [step or GlowStep()]

    def level(channels, width, levels_left):
        repeat = build.repeat(steps, options.num_steps, 4 * channels, width)
        parts = [build.squeeze(), repeat]
        if levels_left > 1:
            parts += build.split_prior(4 * channels)
            wider = width * options.hidden_growth
            inner = level(2 * channels, wider, levels_left - 1)
            parts.append(FactorOut(Chain(inner, name="level")))
        return [*parts, tfb.Invert(Squeeze())]

    levels = level(image_shape[-1], options.hidden_channels, options.num_levels)
    return build.distribution(levels)


FLOWS: dict[str, Callable[..., tfd.TransformedDistribution]] = {
    "nice": nice,
    "real_nvp": real_nvp,
    "glow": glow,
}


def flow_name(flow: str | Callable) -> str:
    """Returns the name of a flow in `FLOWS`, for saving.

    Raises:
      ValueError: If it has none.
    """
    names = [name for name, entry in FLOWS.items() if entry is flow or name == flow]
    if not names:
        raise ValueError(
            "To save a prior, its flow must have a name in flows.FLOWS. "
            f"Received: flow={flow!r}."
        )
    return names[0]
