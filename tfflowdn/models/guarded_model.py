"""GuardedModel, the base class of the models that have their own loss."""

from __future__ import annotations

import functools
import types
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfflowdn.checks import check_choice
from tfflowdn.models.units import asserts_as_value_errors, check_units
from tfflowdn.saving import Versioned

__all__ = ["GuardedModel", "only_if"]

DTYPES = ("float32", "float64")


class GuardedModel(Versioned):
    """A Keras model with its own loss, which leaves out steps that are not finite.

    A subclass computes its loss in `train_step`, multiplies it by `scale()`, and calls
    `take_step` with the gradients. It computes in its `variable_dtype`, float32 or
    float64, whatever the compute dtype of its Keras dtype policy.

    A step whose gradient is not finite changes neither the weights nor the optimizer,
    for any optimizer. The log `skipped` is the number of such steps in an epoch; the
    other logs are means over the steps that were taken. Sample weights, [batch],
    multiply the loss of each picture, and the logs are weighted means.

    Args:
      **kwargs: Arguments of `keras.Model`.

    Raises:
      ValueError: If the dtype policy keeps weights in another dtype; from `compile`,
        for a loss or metrics; from `fit`, `evaluate`, `train_on_batch` and
        `test_on_batch`, for pictures that are not in [0, 1] units.
    """

    def __init__(self, **kwargs: Any) -> None:
        # Keras would cast inputs to float16 before the model casts them back.
        super().__init__(**{"autocast": False, **kwargs})
        check_choice("the dtype of the weights", self.variable_dtype, DTYPES)
        self.skipped_tracker = keras.metrics.Sum("skipped")

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """Sets the optimizer, see `keras.Model.compile`.

        Raises:
          ValueError: If there is a loss or a metric.
        """
        refused = {
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
        }
        for name, value in refused.items():
            if value:
                raise ValueError(
                    f"{name} must be None, since {type(self).__name__} has its own "
                    f"loss and logs. Received: {name}={value!r}."
                )
        super().compile(optimizer, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded model; Keras calls it."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def make_train_function(self, force: bool = False) -> None:
        """Makes the function of a step; Keras calls it."""
        # A step that may be left out cannot make the slots of the optimizer.
        if not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)
        super().make_train_function(force)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Trains on pictures or on a dataset of batches, see `keras.Model.fit`.

        Raises:
          ValueError: If there are weights of classes, which pictures do not have.
        """
        if kwargs.get("class_weight") is not None:
            raise ValueError(
                "class_weight must be None, since pictures have no classes; give "
                f"sample_weight. Received: class_weight={kwargs['class_weight']}."
            )
        y = _with_targets(y, kwargs.get("sample_weight"))
        validation = kwargs.get("validation_data")
        if isinstance(validation, tuple | list) and len(validation) == 3:
            x_val, y_val, weight = validation
            kwargs["validation_data"] = x_val, _with_targets(y_val, weight), weight
        elif validation is not None:
            kwargs["validation_data"] = _with_tuples(validation)
        with asserts_as_value_errors():
            return super().fit(_with_tuples(x), y, batch_size, *args, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Returns the logs of pictures, see `keras.Model.evaluate`."""
        y = _with_targets(y, kwargs.get("sample_weight"))
        with asserts_as_value_errors():
            return super().evaluate(_with_tuples(x), y, *args, **kwargs)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Takes a step, see `keras.Model.train_on_batch`."""
        with asserts_as_value_errors():
            return super().train_on_batch(*args, **kwargs)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the logs of a batch, see `keras.Model.test_on_batch`."""
        with asserts_as_value_errors():
            return super().test_on_batch(*args, **kwargs)

    def to_pictures(self, values: Any) -> tf.Tensor:
        """Returns pictures in `variable_dtype`, see `check_units`."""
        return tf.cast(check_units(values), self.variable_dtype)

    def to_weights(self, sample_weight: Any) -> tf.Tensor:
        """Returns the weights of pictures, [batch], or [] without sample weights.

        Raises:
          ValueError: If there is not one weight for each picture.
        """
        if sample_weight is None:
            return tf.ones((), self.variable_dtype)
        weight = tf.cast(sample_weight, self.variable_dtype)
        if weight.shape.rank != 1 and weight.shape[1:].num_elements() != 1:
            raise ValueError(
                "sample_weight must have one number for each picture. "
                f"Received: sample_weight.shape={tuple(weight.shape)}."
            )
        return tf.reshape(weight, [-1])

    def scale(self) -> tf.Tensor:
        """Returns the factor by which the optimizer scales the loss, []."""
        return tf.cast(self.optimizer.scale_loss(tf.ones(())), self.variable_dtype)

    def take_step(
        self, gradients: Sequence[tf.Tensor | None], variables: Sequence[keras.Variable]
    ) -> tf.Tensor:
        """Applies gradients if they are finite.

        Args:
          gradients: Gradients of the scaled loss on this replica.
          variables: The variables.

        Returns:
          Whether the gradients of all replicas are finite, a bool [].
        """
        # The gradients of tf.gather are slices, which some optimizers cannot scale.
        gradients = [g if g is None else tf.convert_to_tensor(g) for g in gradients]
        known = [gradient for gradient in gradients if gradient is not None]
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in known])
        strategy = tf.distribute.get_strategy()
        if strategy.num_replicas_in_sync > 1:
            context = tf.distribute.get_replica_context()
            num_bad = context.all_reduce("sum", tf.cast(~finite, tf.float32))
            finite = tf.equal(num_bad, 0)
        self._apply(finite, gradients, variables)
        skipped = tf.cast(~finite, tf.float32) / strategy.num_replicas_in_sync
        self.skipped_tracker.update_state(skipped)
        return finite

    def skipped(self) -> tf.Tensor:
        """Returns the log `skipped` of a replica; Keras logs the mean over replicas."""
        num_replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return self.skipped_tracker.result() * num_replicas

    def _apply(self, finite, gradients, variables):
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            # It lowers its scale if gradients are not finite, but checks only the
            # gradients of one replica.
            bad = tf.where(finite, 0.0, np.nan)
            gradients = [
                g if g is None else g + tf.cast(bad, g.dtype) for g in gradients
            ]
            self.optimizer.apply(gradients, variables)
        elif not tf.distribute.has_strategy():
            apply = functools.partial(self._apply_all, gradients, variables)
            tf.cond(finite, apply, _do_nothing)
        else:
            # The step merges the replicas, which a condition in a replica cannot do.
            context = tf.distribute.get_replica_context()
            context.merge_call(self._merged_apply, args=(finite, gradients, variables))

    def _merged_apply(self, strategy, finite, gradients, variables):
        finite = strategy.experimental_local_results(finite)[0]
        apply = functools.partial(
            strategy.extended.call_for_each_replica,
            self._apply_all,
            args=(gradients, variables),
        )
        tf.cond(finite, apply, _do_nothing)

    def _apply_all(self, gradients, variables):
        self.optimizer.apply(gradients, variables)


def only_if(
    finite: tf.Tensor | bool, values: tf.Tensor, weight: tf.Tensor | float = 1.0
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns values and their weights for a mean that holds them if `finite`."""
    kept = tf.where(finite, values, tf.zeros_like(values))
    return kept, tf.cast(finite, kept.dtype) * tf.cast(weight, kept.dtype)


def _do_nothing():
    return None


def _with_tuples(x):
    """Returns x; a generator gives tuples, as Keras needs them."""
    if not isinstance(x, types.GeneratorType):
        return x
    return (
        tuple(batch) if isinstance(batch, tuple | list) else (batch,) for batch in x
    )


def _with_targets(y, sample_weight):
    """Returns y, or numbers if there is none: Keras would drop the weights."""
    if y is None and sample_weight is not None:
        return np.zeros(len(sample_weight), np.float32)
    return y
