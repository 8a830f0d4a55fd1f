"""Optimizers that skip batches whose gradient is not finite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

__all__ = ["OPTIMIZERS", "GuardedAdam", "GuardedMuon"]

LearningRate = float | keras.optimizers.schedules.LearningRateSchedule


class _Guarded:
    """Bounds the global norm of the gradient, and skips gradients that are not finite.

    A NaN in a gradient would make each weight NaN through the norm. If the gradient is
    not finite, the step uses zero in its place, and `iterations` does not increase.

    The norm is computed from the sum over the replicas, so that the bound does not
    depend on their number.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 1e-3,
        *,
        clip_norm: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        self.clip_norm = clip_norm

    def apply(
        self,
        grads: Sequence[tf.Tensor | None],
        trainable_variables: Sequence[keras.Variable] | None = None,
    ) -> None:
        """Takes one step, see `keras.optimizers.Optimizer.apply`."""
        pairs = super()._all_reduce_sum_gradients([(g, None) for g in grads])
        grads = [gradient for gradient, _ in pairs]
        norm = tf.linalg.global_norm(grads)
        finite = tf.math.is_finite(norm)
        clip_norm = self.clip_norm
        scale = 1.0 if clip_norm is None else clip_norm / tf.maximum(norm, clip_norm)
        scale = tf.where(finite, scale, tf.zeros_like(norm))
        # A product of NaN and zero would be NaN.
        grads = [g if g is None else tf.math.multiply_no_nan(g, scale) for g in grads]
        super().apply(grads, trainable_variables)
        skipped = tf.cast(tf.logical_not(finite), self.iterations.dtype)
        self.iterations.assign_sub(skipped)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        """Returns its argument: Keras would sum here, after the clipping."""
        return grads_and_vars

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "clip_norm": self.clip_norm}


@keras.saving.register_keras_serializable("tfflowdn")
class GuardedAdam(_Guarded, keras.optimizers.Adam):
    """Adam with a bounded gradient norm, which skips gradients that are not finite.

    Args:
      learning_rate: A number or a schedule.
      clip_norm: Bound on the global norm of the gradient; None for no bound.
    """


@keras.saving.register_keras_serializable("tfflowdn")
class GuardedMuon(_Guarded, keras.optimizers.Muon):
    """Muon for the kernels of layers, with the safeguards of GuardedAdam.

    The kernel of a convolution [height, width, in, out] is used as the matrix [height *
    width * in, out]; the kernel of a dense layer is the matrix [in, out]; a stack of
    kernels has one more axis in front. The momentum of a matrix is made orthogonal by
    the Newton-Schulz iteration and scaled to the root mean square of an Adam step
    (Jordan 2024; Liu et al. 2025, arXiv 2502.16982). Variables that are not named
    "kernel" or have fewer than `min_channels` outputs are updated by Adam.

    Args:
      learning_rate: A number or a schedule; a good rate for Adam is also good here.
      clip_norm: Bound on the global norm of the gradient; None for no bound.
      min_channels: Smallest number of outputs of a kernel that is made orthogonal.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 1e-3,
        *,
        min_channels: int = 16,
        **kwargs: Any,
    ) -> None:
        undecayed = {"weight_decay": None, "adam_weight_decay": None}
        super().__init__(learning_rate, **{**undecayed, **kwargs})
        self.min_channels = min_channels

    def zeropower_via_newtonschulz5(self, x: tf.Tensor, steps: int) -> tf.Tensor:
        """Returns the orthogonal factor of a kernel, or of each kernel of a stack."""
        inputs = _input_axes(x.shape)
        matrix = ops.reshape(x, (*x.shape[: -len(inputs) - 1], -1, x.shape[-1]))
        return ops.reshape(super().zeropower_via_newtonschulz5(matrix, steps), x.shape)

    def lr_adjust(self, x: tf.Tensor) -> tf.Tensor:
        """Scales an orthogonal kernel to the root mean square of an Adam step."""
        num_inputs = math.prod(_input_axes(x.shape))
        return x * self.rms_rate * max(num_inputs, x.shape[-1]) ** 0.5

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "min_channels": self.min_channels}

    def _should_use_adamw(self, variable):
        is_kernel = variable.name.endswith("kernel")
        return not is_kernel or variable.shape[-1] < self.min_channels


def _input_axes(shape):
    """Returns the sizes of the input axes of a kernel or of a stack of kernels."""
    return shape[-2:-1] if len(shape) < 4 else shape[-4:-1]


OPTIMIZERS = {"adam": GuardedAdam, "muon": GuardedMuon}
