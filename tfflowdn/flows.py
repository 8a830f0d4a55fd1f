"""The three flows: functions that compose bijectors and layers into a distribution."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator

import keras
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfflowdn.bijectors import (
    ActNorm,
    ChannelCoupling,
    CheckerboardCoupling,
    FactorOut,
    HaarSqueeze,
    NormalizedConvolution,
    PixelLogit,
    Repeat,
    SplineCoupling,
    Squeeze,
)
from tfflowdn.layers import (
    ActNormParameters,
    Conditioner,
    NormalizedPLUParameters,
    SplineConditioner,
    WeightStack,
)

__all__ = [
    "BASES",
    "glow",
    "initialize_from_data",
    "layers_of",
    "nice",
    "real_nvp",
    "standard_logistic",
    "standard_normal",
]

ImageShape = tuple[int, int, int]
SQUEEZES = {"space_to_depth": Squeeze, "haar": HaarSqueeze}
CONDITIONERS = ("plain", "residual", "gated")
COUPLINGS = ("affine", "additive", "spline")


def nice(
    image_shape: ImageShape,
    *,
    num_levels: int = 2,
    num_steps: int = 4,
    hidden_channels: int = 64,
    conditioner: str = "plain",
    num_residual_blocks: int = 1,
    base: str = "normal",
    squeeze: str = "space_to_depth",
    logit_alpha: float | None = None,
    recompute: bool = False,
    precision: str | None = None,
    patch_gradients: bool = False,
    seed: int = 0,
    dtype: str = "float32",
) -> tfd.TransformedDistribution:
    """NICE (Dinh et al. 2015, arXiv 1410.8516), convolutional.

    `num_steps` additive couplings on a checkerboard, then `num_steps` over the
    channels after each of `num_levels` squeezes, then a diagonal scale. Left out: the
    whitening of the pixels.

    Args:
      image_shape: (H, W, C), H and W divisible by 2**num_levels.
      num_levels: Number of squeezes.
      num_steps: Number of additive couplings a level.
      hidden_channels: Width of the conditioners.
      conditioner: "plain" (3x3, 1x1 and 3x3 convolution), "residual" (RealNVP's
        blocks of two 3x3 convolutions) or "gated" (slim gated blocks, see GatedBlock).
      num_residual_blocks: Blocks of a residual or gated conditioner.
      base: "normal" or "logistic", the base distribution (both in the paper).
      squeeze: "space_to_depth" (pixels) or "haar" (average and differences of 2x2).
      logit_alpha: Alpha of the logit of the pixels; None leaves them linear.
      recompute: Whether the gradient evaluates each step once more, which keeps the
        memory that of one step.
      precision: Keras dtype policy of the conditioners, such as "mixed_bfloat16";
        weights, images and log-dets keep `dtype`. None: `dtype`.
      patch_gradients: Whether the gradients of the conditioners' first and last
        convolutions are products with patches: a faster training on a CPU, at the price
        of memory, see `conv2d`.
      seed: Seed of the initial weights.
      dtype: Floating type of pixels and weights.

    Returns:
      The distribution of images [H, W, C] with pixels in [0, 1].

    Raises:
      ValueError: If the shape is not divisible, or for an unknown option.
    """
    _check_shape(image_shape, num_levels)
    _check_choice("base", base, BASES)
    build = _Builder(
        seed,
        dtype,
        recompute=recompute,
        precision=precision,
        patch_gradients=patch_gradients,
        coupling="additive",
        squeeze=squeeze,
        conditioner=conditioner,
        num_residual_blocks=num_residual_blocks,
        hidden_channels=hidden_channels,
    )
    channels = image_shape[-1]
    bijectors = [build.couplings(channels, num_steps, checkerboard=True)]
    for _ in range(num_levels):
        channels *= 4
        bijectors += [build.squeeze(), build.couplings(channels, num_steps)]
    bijectors.append(ActNorm(build.act_norm(channels)))
    bijectors += [tfb.Invert(Squeeze()) for _ in range(num_levels)]
    return _distribution(image_shape, bijectors, logit_alpha, dtype, base)


def real_nvp(
    image_shape: ImageShape,
    *,
    num_levels: int = 2,
    hidden_channels: int = 32,
    hidden_growth: int = 1,
    conditioner: str = "residual",
    num_residual_blocks: int = 2,
    log_scale_bound: float = 2.0,
    split_prior: bool = False,
    squeeze: str = "space_to_depth",
    logit_alpha: float | None = None,
    recompute: bool = False,
    precision: str | None = None,
    patch_gradients: bool = False,
    seed: int = 0,
    dtype: str = "float32",
) -> tfd.TransformedDistribution:
    """RealNVP (Dinh et al. 2017, arXiv 1605.08803).

    At each of `num_levels` scales: three affine couplings on a checkerboard, a
    squeeze, three over the channels, and half of the channels is factored out; four
    more on a checkerboard at the last scale. The paper's batch normalisations are
    ActNorms here, since the statistics of a batch differ in training and in use; the
    bound of the log-scales is fixed, not learned, so that the inverse stays tame. Left
    out is what only helps the conditioners to train: batch and weight normalisation
    and skip connections inside of them, and the weight decay.

    Args:
      image_shape: (H, W, C), H and W divisible by 2**num_levels.
      num_levels: Number of scales, each with a squeeze.
      hidden_channels: Width of the conditioners before the first squeeze.
      hidden_growth: Factor on the width at each squeeze; 2 in the paper's own code.
      conditioner: "plain" (3x3, 1x1 and 3x3 convolution), "residual" (RealNVP's
        blocks of two 3x3 convolutions) or "gated" (slim gated blocks, see GatedBlock).
      num_residual_blocks: Blocks of a residual or gated conditioner.
      log_scale_bound: Largest magnitude of a coupling's log-scale, nats.
      split_prior: Whether the mean and scale of what is factored out are predicted from
        what is kept.
      squeeze: "space_to_depth" (pixels) or "haar" (average and differences of 2x2).
      logit_alpha: Alpha of the logit of the pixels; None leaves them linear.
      recompute: Whether the gradient evaluates each step once more, which keeps the
        memory that of one step.
      precision: Keras dtype policy of the conditioners, such as "mixed_bfloat16";
        weights, images and log-dets keep `dtype`. None: `dtype`.
      patch_gradients: Whether the gradients of the conditioners' first and last
        convolutions are products with patches: a faster training on a CPU, at the price
        of memory, see `conv2d`.
      seed: Seed of the initial weights.
      dtype: Floating type of pixels and weights.

    Returns:
      The distribution of images [H, W, C] with pixels in [0, 1].

    Raises:
      ValueError: If the shape is not divisible, or for an unknown option.
    """
    _check_shape(image_shape, num_levels)
    build = _Builder(
        seed,
        dtype,
        recompute=recompute,
        precision=precision,
        patch_gradients=patch_gradients,
        squeeze=squeeze,
        conditioner=conditioner,
        num_residual_blocks=num_residual_blocks,
        log_scale_bound=log_scale_bound,
    )

    def scale(channels, width, levels_left):
        if levels_left == 0:
            return [build.couplings(channels, 4, True, True, hidden_channels=width)]
        wider = width * hidden_growth
        return [
            build.couplings(channels, 3, True, True, hidden_channels=width),
            build.squeeze(),
            build.couplings(4 * channels, 3, False, True, hidden_channels=wider),
            *([build.split_prior(4 * channels)] if split_prior else []),
            FactorOut(
                tfb.Chain(scale(2 * channels, wider, levels_left - 1), name="scale")
            ),
            tfb.Invert(Squeeze()),
        ]

    bijectors = scale(image_shape[-1], hidden_channels, num_levels)
    return _distribution(image_shape, bijectors, logit_alpha, dtype)


def glow(
    image_shape: ImageShape,
    *,
    num_levels: int = 3,
    num_steps: int = 8,
    hidden_channels: int = 64,
    conditioner: str = "plain",
    num_residual_blocks: int = 1,
    log_scale_bound: float = 2.0,
    coupling: str = "affine",
    split_prior: bool = True,
    squeeze: str = "space_to_depth",
    logit_alpha: float | None = None,
    recompute: bool = False,
    precision: str | None = None,
    patch_gradients: bool = False,
    seed: int = 0,
    dtype: str = "float32",
) -> tfd.TransformedDistribution:
    """Glow (Kingma and Dhariwal 2018, arXiv 1807.03039).

    At each of `num_levels` scales: a squeeze, `num_steps` times ActNorm, invertible
    1x1 convolution and affine coupling; then half of the channels is factored out,
    with a mean and a scale predicted from the other half. Left out: ActNorms inside of
    the conditioners, and a learned mean and scale at the last scale, which its last
    step can give by itself.

    Args:
      image_shape: (H, W, C), H and W divisible by 2**num_levels.
      num_levels: Number of scales, each with a squeeze.
      num_steps: Number of flow steps a scale.
      hidden_channels: Width of the conditioners.
      conditioner: "plain" (3x3, 1x1 and 3x3 convolution), "residual" (RealNVP's
        blocks of two 3x3 convolutions) or "gated" (slim gated blocks, see GatedBlock).
      num_residual_blocks: Blocks of a residual or gated conditioner.
      log_scale_bound: Largest magnitude of a coupling's log-scale, nats. The deeper,
        the smaller: samples of 96 steps with 2.0 explode, with 0.5 they do not.
      coupling: "affine", "additive" or "spline" (affine, then a rational-quadratic
        spline; Durkan et al. 2019, arXiv 1906.04032).
      split_prior: Whether the mean and scale of what is factored out are predicted from
        what is kept.
      squeeze: "space_to_depth" (pixels) or "haar" (average and differences of 2x2).
      logit_alpha: Alpha of the logit of the pixels; None leaves them linear.
      recompute: Whether the gradient evaluates each step once more, which keeps the
        memory that of one step.
      precision: Keras dtype policy of the conditioners, such as "mixed_bfloat16";
        weights, images and log-dets keep `dtype`. None: `dtype`.
      patch_gradients: Whether the gradients of the conditioners' first and last
        convolutions are products with patches: a faster training on a CPU, at the price
        of memory, see `conv2d`.
      seed: Seed of the initial weights.
      dtype: Floating type of pixels and weights.

    Returns:
      The distribution of images [H, W, C] with pixels in [0, 1].

    Raises:
      ValueError: If the shape is not divisible, or for an unknown option.
    """
    _check_shape(image_shape, num_levels)
    build = _Builder(
        seed,
        dtype,
        recompute=recompute,
        precision=precision,
        patch_gradients=patch_gradients,
        coupling=coupling,
        squeeze=squeeze,
        conditioner=conditioner,
        num_residual_blocks=num_residual_blocks,
        hidden_channels=hidden_channels,
        log_scale_bound=log_scale_bound,
    )

    def scale(channels, levels_left):
        inner = [build.squeeze(), build.glow_steps(4 * channels, num_steps)]
        if levels_left > 1:
            if split_prior:
                inner.append(build.split_prior(4 * channels))
            inner.append(
                FactorOut(tfb.Chain(scale(2 * channels, levels_left - 1), name="scale"))
            )
        return [*inner, tfb.Invert(Squeeze())]

    bijectors = scale(image_shape[-1], num_levels)
    return _distribution(image_shape, bijectors, logit_alpha, dtype)


def standard_normal(image_shape, dtype="float32") -> tfd.Distribution:
    """Returns the base distribution of latents of `image_shape` [H, W, C]."""
    return tfd.Independent(
        tfd.Normal(tf.zeros(image_shape, dtype), tf.ones([], dtype)),
        reinterpreted_batch_ndims=3,
    )


def standard_logistic(image_shape, dtype="float32") -> tfd.Distribution:
    """Returns the same with logistic latents."""
    return tfd.Independent(
        tfd.Logistic(tf.zeros(image_shape, dtype), tf.ones([], dtype)),
        reinterpreted_batch_ndims=3,
    )


BASES = {"normal": standard_normal, "logistic": standard_logistic}


def layers_of(bijector: tfb.Bijector) -> list[keras.layers.Layer]:
    """Returns the Keras layers that own the weights, from the image to the latent."""
    if _is_chain(bijector):
        return [layer for part in bijector.bijectors for layer in layers_of(part)]
    if isinstance(bijector, FactorOut):
        return layers_of(bijector.bijector)
    return [bijector.layer] if hasattr(bijector, "layer") else []


def initialize_from_data(bijector: tfb.Bijector, images: tf.Tensor) -> tf.Tensor:
    """Sets every ActNorm from a batch, one after the other, from image to latent.

    Args:
      bijector: A flow's bijector.
      images: Concrete (eager) images [batch, H, W, C].

    Returns:
      The latents [batch, H, W, C] of the images.
    """
    if _is_chain(bijector):
        for part in bijector.bijectors:
            images = initialize_from_data(part, images)
        return images
    if isinstance(bijector, Repeat):
        return _initialize_repeat(bijector, images)
    if isinstance(bijector, FactorOut):
        kept, factored_out = tf.split(images, 2, axis=-1)
        kept = initialize_from_data(bijector.bijector, kept)
        return tf.concat([kept, factored_out], axis=-1)
    if isinstance(bijector, ActNorm | NormalizedConvolution):
        bijector.initialize(images)
    return bijector.inverse(images)


def _initialize_repeat(repeat, images):
    for i in range(repeat.layer.num_copies):
        repeat.layer.read(i)
        images = initialize_from_data(repeat.steps[i % len(repeat.steps)], images)
        repeat.layer.write(i)
    return images


class _Builder:
    """Makes bijectors with built layers, each with a name and a seed of its own."""

    def __init__(
        self,
        seed,
        dtype,
        *,
        recompute,
        precision,
        squeeze,
        conditioner,
        num_residual_blocks,
        coupling="affine",
        **arguments,
    ):
        _check_choice("conditioner", conditioner, CONDITIONERS)
        _check_choice("squeeze", squeeze, SQUEEZES)
        _check_choice("coupling", coupling, COUPLINGS)
        self._seeds: Iterator[int] = itertools.count(seed * 10_007, 101)
        self._dtype = dtype
        self._recompute = recompute
        self._precision = precision or dtype
        self.squeeze = SQUEEZES[squeeze]
        self._coupling = coupling
        self._arguments = {
            "affine": coupling != "additive",
            "num_residual_blocks": 0 if conditioner == "plain" else num_residual_blocks,
            "gated": conditioner == "gated",
            **arguments,
        }

    def act_norm(self, channels):
        return self._built(ActNormParameters(dtype=self._dtype), channels)

    def glow_steps(self, channels, count):
        """`count` times ActNorm, invertible 1x1 convolution and coupling."""

        def layers():
            yield self._normalized_plu(channels)
            yield self._channel_conditioner(channels)

        def step(normalized_plu, conditioner):
            yield NormalizedConvolution(normalized_plu)
            yield self._channel_coupling(conditioner)

        return self._repeat(count, layers, [step])

    def couplings(
        self, channels, count, checkerboard=False, act_norm=False, **overrides
    ):
        """`count` couplings whose halves swap from one to the next."""

        def layers():
            if act_norm:
                yield self.act_norm(channels)
            if checkerboard:
                yield self.conditioner(channels, channels, **overrides)
            else:
                yield self._channel_conditioner(channels, **overrides)

        def step(*layers, swap):
            if act_norm:
                yield ActNorm(layers[0])
            coupling = CheckerboardCoupling if checkerboard else self._channel_coupling
            yield coupling(layers[-1], swap=swap)

        steps = [functools.partial(step, swap=swap) for swap in (False, True)]
        return self._repeat(count, layers, steps)

    def split_prior(self, channels):
        half = channels // 2
        layer = self.conditioner(
            half, half, num_residual_blocks=None, affine=True, patch_gradients=False
        )
        return ChannelCoupling(layer, name="split_prior")

    def conditioner(self, in_channels, out_channels, kind=Conditioner, **overrides):
        arguments = {**self._arguments, **overrides}
        layer = kind(
            out_channels, seed=next(self._seeds), dtype=self._precision, **arguments
        )
        return self._built(layer, in_channels)

    def _channel_conditioner(self, channels, **overrides):
        kind = SplineConditioner if self._coupling == "spline" else Conditioner
        return self.conditioner(channels // 2, channels // 2, kind, **overrides)

    def _channel_coupling(self, conditioner, swap=False):
        kind = SplineCoupling if self._coupling == "spline" else ChannelCoupling
        return kind(conditioner, swap=swap)

    def _normalized_plu(self, channels):
        layer = NormalizedPLUParameters(seed=next(self._seeds), dtype=self._dtype)
        return self._built(layer, channels)

    def _repeat(self, count, layers, steps):
        copies = [list(layers()) for _ in range(count)]
        steps = [functools.partial(_chain, step) for step in steps[:count]]
        return Repeat(steps, WeightStack(copies), recompute=self._recompute)

    def _built(self, layer, channels):
        layer.build((None, None, None, channels))
        return layer


def _chain(step, *layers):
    return tfb.Chain(list(step(*layers)), name="step")


def _is_chain(bijector):
    # tfb.Chain(...) of our bijectors is an instance of its base class, not of Chain.
    return hasattr(bijector, "bijectors")


def _distribution(image_shape, bijectors, logit_alpha, dtype, base="normal"):
    if logit_alpha is None:
        preprocess = tfb.Shift(tf.constant(0.5, dtype))
    else:
        preprocess = PixelLogit(logit_alpha)
    return tfd.TransformedDistribution(
        BASES[base](image_shape, dtype),
        tfb.Chain([preprocess, *bijectors], name="flow"),
    )


def _check_choice(name, value, choices):
    if value not in choices:
        raise ValueError(
            f"{name} must be one of {tuple(choices)}. Received: {name}={value!r}."
        )


def _check_shape(image_shape, num_levels):
    height, width, channels = image_shape
    factor = 2**num_levels
    if num_levels < 1 or channels < 1 or height % factor or width % factor:
        raise ValueError(
            "image_shape must be (H, W, C) with H and W divisible by 2**num_levels, "
            "and num_levels at least 1. "
            f"Received: image_shape={tuple(image_shape)}, num_levels={num_levels}."
        )
