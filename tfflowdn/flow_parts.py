"""The options, the builder and the steps that flows are composed from."""

from __future__ import annotations

import abc
import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfflowdn.bijectors import (
    ActNorm,
    Chain,
    ChannelCoupling,
    CheckerboardCoupling,
    HaarSqueeze,
    NormalizedConvolution,
    PixelLogit,
    Repeat,
    Squeeze,
)
from tfflowdn.checks import check_choice
from tfflowdn.layers import (
    ActNormParameters,
    Conditioner,
    NormalizedPLUParameters,
    PlainConditioner,
    ResidualConditioner,
    WeightStack,
)

__all__ = [
    "BASES",
    "CONDITIONERS",
    "SQUEEZES",
    "CouplingStep",
    "FlowBuilder",
    "FlowOptions",
    "GlowStep",
    "Step",
    "standard_logistic",
    "standard_normal",
]

ImageShape = tuple[int, int, int]
COUPLINGS = ("affine", "additive")


def standard_normal(
    image_shape: ImageShape | tf.Tensor, dtype: str = "float32"
) -> tfd.Distribution:
    """Returns the standard normal distribution of latents [H, W, C]."""
    return tfd.Independent(
        tfd.Normal(tf.zeros(image_shape, dtype), tf.ones([], dtype)),
        reinterpreted_batch_ndims=3,
    )


def standard_logistic(
    image_shape: ImageShape | tf.Tensor, dtype: str = "float32"
) -> tfd.Distribution:
    """Returns the standard logistic distribution of latents [H, W, C]."""
    return tfd.Independent(
        tfd.Logistic(tf.zeros(image_shape, dtype), tf.ones([], dtype)),
        reinterpreted_batch_ndims=3,
    )


# Options are names in these tables. Your own entry makes a new choice.
BASES = {"normal": standard_normal, "logistic": standard_logistic}
SQUEEZES = {"space_to_depth": Squeeze, "haar": HaarSqueeze}
CONDITIONERS: dict[str, Callable[..., keras.layers.Layer]] = {
    "plain": PlainConditioner,
    "residual": ResidualConditioner,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowOptions:
    """Options of a flow, the keyword arguments of `nice`, `real_nvp` and `glow`.

    The defaults are for `glow`; `NICE` and `REAL_NVP` are for the other flows.

    Attributes:
      num_levels: Number of levels, each with a squeeze; 2**num_levels must divide H
        and W.
      num_steps: Number of steps of a level. In RealNVP, the number of couplings
        before and after each squeeze; the last level has one more.
      hidden_channels: Width of the conditioners at the first level.
      hidden_growth: Factor on the width from one level to the next.
      conditioner: Name in `CONDITIONERS`: "plain" (3x3, 1x1 and 3x3 convolution) or
        "residual" (blocks of two 3x3 convolutions). Or a constructor
        `(out_channels, *, hidden_channels, affine, log_scale_bound, patch_gradients,
        seed, dtype)` of a layer that returns shift and log-scale as `Conditioner`.
      num_residual_blocks: Number of blocks of the "residual" conditioner.
      coupling: "affine" or "additive".
      log_scale_bound: Largest magnitude of the log-scale of an affine coupling, nats.
        Deep flows need a small one: samples of 96 steps are not finite with 2.0, and
        finite with 0.5.
      split_prior: Whether the mean and scale of factored-out channels are predicted
        from the other channels. NICE factors nothing out and takes only False.
      squeeze: Name in `SQUEEZES`: "space_to_depth" (pixels) or "haar" (the average
        and the differences of 2x2 pixels).
      base: Name in `BASES`: "normal" or "logistic", the distribution of the latents.
      logit_alpha: Alpha of the logit of the pixels; None keeps the pixels linear.
      recompute: Whether the gradient evaluates each step once more to save memory.
      precision: Keras dtype policy of the conditioners, such as "mixed_bfloat16".
        Weights, images and log-dets keep `dtype`. None is `dtype`.
      patch_gradients: Whether the conditioners compute gradients as products with
        patches. It is faster on a CPU and takes more memory, see `conv2d`.
      seed: Seed of the initial weights.
      dtype: Floating type of pixels and weights.
    """

    num_levels: int = 3
    num_steps: int = 8
    hidden_channels: int = 64
    hidden_growth: int = 1
    conditioner: str | Callable[..., keras.layers.Layer] = "plain"
    num_residual_blocks: int = 1
    coupling: str = "affine"
    log_scale_bound: float = 2.0
    split_prior: bool = True
    squeeze: str = "space_to_depth"
    base: str = "normal"
    logit_alpha: float | None = None
    recompute: bool = False
    precision: str | None = None
    patch_gradients: bool = False
    seed: int = 0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        """Checks the options that are names."""
        if not callable(self.conditioner):
            check_choice("conditioner", self.conditioner, CONDITIONERS)
        check_choice("coupling", self.coupling, COUPLINGS)
        check_choice("squeeze", self.squeeze, SQUEEZES)
        check_choice("base", self.base, BASES)

    def replace(self, **changes: Any) -> FlowOptions:
        """Returns these options with changes; ValueError if one does not exist."""
        names = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            check_choice("option", name, names)
        return dataclasses.replace(self, **changes)


class FlowBuilder:
    """Makes the parts of a flow, with built layers that have their own seeds.

    Args:
      image_shape: (H, W, C); 2**num_levels must divide H and W.
      options: The options of the flow.

    Raises:
      ValueError: If the shape does not fit the number of levels.
    """

    def __init__(self, image_shape: ImageShape, options: FlowOptions) -> None:
        height, width, channels = image_shape
        factor, num_levels = 2**options.num_levels, options.num_levels
        if num_levels < 1 or channels < 1 or height % factor or width % factor:
            raise ValueError(
                "image_shape must be (H, W, C) with H and W divisible by "
                "2**num_levels, and num_levels at least 1. Received: "
                f"image_shape={tuple(image_shape)}, num_levels={num_levels}."
            )
        self.image_shape = tuple(image_shape)
        self.options = options
        self._seeds = itertools.count(options.seed * 10_007, 101)

    def next_seed(self) -> int:
        """Returns a seed that no other layer of the flow has."""
        return next(self._seeds)

    def built(self, layer: keras.layers.Layer, channels: int) -> keras.layers.Layer:
        """Returns the layer, built for images of some channels."""
        layer.build((None, None, None, channels))
        return layer

    def act_norm(self, channels: int) -> keras.layers.Layer:
        """Returns the layer of an `ActNorm`."""
        return self.built(ActNormParameters(dtype=self.options.dtype), channels)

    def conditioner(
        self, in_channels: int, out_channels: int, width: int
    ) -> keras.layers.Layer:
        """Returns the conditioner of a coupling, `width` channels wide."""
        options, make = self.options, self.options.conditioner
        if make == "residual":
            blocks = options.num_residual_blocks
            make = functools.partial(ResidualConditioner, num_residual_blocks=blocks)
        layer = (make if callable(make) else CONDITIONERS[make])(
            out_channels,
            hidden_channels=width,
            affine=options.coupling == "affine",
            log_scale_bound=options.log_scale_bound,
            patch_gradients=options.patch_gradients,
            seed=self.next_seed(),
            dtype=options.precision or options.dtype,
        )
        return self.built(layer, in_channels)

    def squeeze(self) -> tfb.Bijector:
        """Returns the bijector from one level to the next."""
        return SQUEEZES[self.options.squeeze]()

    def split_prior(self, channels: int) -> list[tfb.Bijector]:
        """Returns the prediction of the last half of the channels, or an empty list."""
        if not self.options.split_prior:
            return []
        layer = Conditioner(
            channels // 2,
            log_scale_bound=self.options.log_scale_bound,
            seed=self.next_seed(),
            dtype=self.options.precision or self.options.dtype,
        )
        layer = self.built(layer, channels // 2)
        return [ChannelCoupling(layer, name="split_prior")]

    def repeat(
        self, steps: Sequence[Step], count: int, channels: int, width: int
    ) -> Repeat:
        """Returns `count` steps in turn, each with its own weights."""
        kinds = [steps[i % len(steps)] for i in range(count)]
        copies = [list(step.layers(self, channels, width)) for step in kinds]
        makers = [functools.partial(_chain, step) for step in steps[:count]]
        return Repeat(makers, WeightStack(copies), recompute=self.options.recompute)

    def distribution(
        self, bijectors: Sequence[tfb.Bijector]
    ) -> tfd.TransformedDistribution:
        """Returns the flow of bijectors, which are listed from image to latent."""
        options = self.options
        if options.logit_alpha is None:
            preprocess = tfb.Shift(tf.constant(0.5, options.dtype))
        else:
            preprocess = PixelLogit(options.logit_alpha)
        return tfd.TransformedDistribution(
            BASES[options.base](self.image_shape, options.dtype),
            Chain([preprocess, *bijectors], name="flow"),
        )


class Step(abc.ABC):
    """A step that `FlowBuilder.repeat` repeats, each time with its own weights."""

    @abc.abstractmethod
    def layers(
        self, build: FlowBuilder, channels: int, width: int
    ) -> Sequence[keras.layers.Layer]:
        """Makes the built layers of one copy, for images of some channels."""

    @abc.abstractmethod
    def bijectors(self, *layers: Callable) -> Sequence[tfb.Bijector]:
        """Returns the bijectors of a copy from its layers, from image to latent."""


class GlowStep(Step):
    """ActNorm, invertible 1x1 convolution and coupling (Kingma and Dhariwal 2018)."""

    def layers(
        self, build: FlowBuilder, channels: int, width: int
    ) -> Sequence[keras.layers.Layer]:
        """Makes the matrix with its ActNorm, and the conditioner."""
        seed, dtype = build.next_seed(), build.options.dtype
        matrix = build.built(NormalizedPLUParameters(seed=seed, dtype=dtype), channels)
        return matrix, build.conditioner(channels // 2, channels // 2, width)

    def bijectors(
        self, matrix: Callable, conditioner: Callable
    ) -> Sequence[tfb.Bijector]:
        """Returns the convolution and the coupling."""
        return NormalizedConvolution(matrix), ChannelCoupling(conditioner)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CouplingStep(Step):
    """A coupling over the channels or on a checkerboard.

    Attributes:
      swap: Whether the halves are swapped.
      checkerboard: Whether the halves are the colors of a checkerboard.
      act_norm: Whether an ActNorm precedes the coupling.
    """

    swap: bool = False
    checkerboard: bool = False
    act_norm: bool = False

    def layers(
        self, build: FlowBuilder, channels: int, width: int
    ) -> Sequence[keras.layers.Layer]:
        """Makes the ActNorm, if there is one, and the conditioner."""
        moved = channels if self.checkerboard else channels // 2
        norm = [build.act_norm(channels)] if self.act_norm else []
        return [*norm, build.conditioner(moved, moved, width)]

    def bijectors(self, *layers: Callable) -> Sequence[tfb.Bijector]:
        """Returns the ActNorm, if there is one, and the coupling."""
        coupling = CheckerboardCoupling if self.checkerboard else ChannelCoupling
        return [*map(ActNorm, layers[:-1]), coupling(layers[-1], swap=self.swap)]


def _chain(step: Step, *layers: Callable) -> Chain:
    return Chain(step.bijectors(*layers), name="step")
