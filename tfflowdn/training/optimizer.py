"""Optimizers that a single bad batch cannot poison."""

from __future__ import annotations

import math

import keras
import tensorflow as tf
from keras import ops

__all__ = ["OPTIMIZERS", "GuardedAdam", "GuardedMuon"]


class _Guarded:
    """Bounds a gradient's global norm, and passes over one that is not finite.

    One NaN in a gradient would make every weight NaN, through the norm. Here a step
    whose gradient is not finite on every replica takes the gradient for zero, and is
    not counted: `iterations` stays where it was, by which it can be told.

    The norm is that of the sum over the replicas, so that the bound does not depend
    on their number.
    """

    def __init__(self, learning_rate=1e-3, *, clip_norm: float | None = None, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.clip_norm = clip_norm

    def apply(self, grads, trainable_variables=None):
        """Takes one step; see `keras.optimizers.Optimizer.apply`."""
        pairs = super()._all_reduce_sum_gradients([(g, None) for g in grads])
        grads = [gradient for gradient, _ in pairs]
        norm = tf.linalg.global_norm(grads)
        finite = tf.math.is_finite(norm)
        clip_norm = self.clip_norm
        scale = 1.0 if clip_norm is None else clip_norm / tf.maximum(norm, clip_norm)
        scale = tf.where(finite, scale, tf.zeros_like(norm))
        # Unlike a product, this is zero where the scale is, even of a NaN.
        grads = [g if g is None else tf.math.multiply_no_nan(g, scale) for g in grads]
        super().apply(grads, trainable_variables)
        skipped = tf.cast(tf.logical_not(finite), self.iterations.dtype)
        self.iterations.assign_sub(skipped)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        """Returns its argument: Keras would sum here, after the clipping."""
        return grads_and_vars

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "clip_norm": self.clip_norm}


@keras.saving.register_keras_serializable("tfflowdn")
class GuardedAdam(_Guarded, keras.optimizers.Adam):
    """Adam on gradients of a bounded global norm, which passes over non-finite ones.

    Args:
      learning_rate: A number or a schedule.
      clip_norm: Bound on the gradient's global norm; None for none.
    """


@keras.saving.register_keras_serializable("tfflowdn")
class GuardedMuon(_Guarded, keras.optimizers.Muon):
    """Muon for the kernels of layers, guarded as GuardedAdam is.

    The kernel of a convolution, [height, width, in, out], is the matrix [height width
    in, out] of its patches, that of a dense layer is one, [in, out], and a stack of
    either has one more axis in front. A matrix's momentum is made orthogonal by Newton
    and Schulz's iteration, and its root mean square that of an Adam step (Jordan 2024;
    Liu et al. 2025, arXiv 2502.16982). What is not named "kernel", or has fewer than
    `min_channels` of output, is left to Adam.

    Args:
      learning_rate: A number or a schedule; that of Adam is a good one.
      clip_norm: Bound on the gradient's global norm; None for none.
      min_channels: Fewest outputs of a kernel to be made orthogonal.
    """

    def __init__(self, learning_rate=1e-3, *, min_channels: int = 16, **kwargs):
        undecayed = {"weight_decay": None, "adam_weight_decay": None}
        super().__init__(learning_rate, **{**undecayed, **kwargs})
        self.min_channels = min_channels

    def zeropower_via_newtonschulz5(self, x, steps):
        """Returns the orthogonal factor of a kernel or of each of a stack."""
        inputs = _input_axes(x.shape)
        matrix = ops.reshape(x, (*x.shape[: -len(inputs) - 1], -1, x.shape[-1]))
        return ops.reshape(super().zeropower_via_newtonschulz5(matrix, steps), x.shape)

    def lr_adjust(self, x):
        """Scales an orthogonal kernel to the root mean square of an Adam step."""
        num_inputs = math.prod(_input_axes(x.shape))
        return x * self.rms_rate * max(num_inputs, x.shape[-1]) ** 0.5

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "min_channels": self.min_channels}

    def _should_use_adamw(self, variable):
        is_kernel = variable.name.endswith("kernel")
        return not is_kernel or variable.shape[-1] < self.min_channels


def _input_axes(shape):
    """Returns the sizes of a kernel's axes but the last and, of a stack, the first."""
    return shape[-2:-1] if len(shape) < 4 else shape[-4:-1]


OPTIMIZERS = {"adam": GuardedAdam, "muon": GuardedMuon}
