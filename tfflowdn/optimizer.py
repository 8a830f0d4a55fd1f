"""Adam that a single bad batch cannot poison."""

from __future__ import annotations

import keras
import tensorflow as tf

__all__ = ["GuardedAdam"]


@keras.saving.register_keras_serializable("tfflowdn")
class GuardedAdam(keras.optimizers.Adam):
    """Adam on gradients of a bounded global norm, which passes over non-finite ones.

    One NaN in a gradient would make every weight NaN, through the norm. Here a step
    whose gradient is not finite on every replica takes the gradient for zero, and is
    not counted: `iterations` stays where it was, by which it can be told.

    The norm is that of the sum over the replicas, so that the bound does not depend
    on their number.

    Args:
      learning_rate: A number or a schedule.
      clip_norm: Bound on the gradient's global norm; None for none.
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
