"""Repeat: the same steps several times, each time with its own weights."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from tfflowdn.bijectors.image_bijector import ImageBijector
from tfflowdn.bijectors.one_pass import OnePassBijector

__all__ = ["Repeat"]


class Repeat(OnePassBijector):
    """A chain of similar steps that is traced once, whatever their number.

    The `i`-th step is made by `steps[i % len(steps)]` from the `i`-th copy of the
    layers in `layer`. The inverse runs the steps from the first to the last. Each of
    `steps` is one traced function that takes the weights as arguments, so the traces of
    a flow and of its gradient do not grow with its depth.

    With `recompute` the gradient keeps only the input of each step, and evaluates the
    step once more (Chen et al. 2016, arXiv 1604.06174). This needs the memory of only
    one step.

    - forward: `y = step_0.forward(... step_n.forward(x))`
    - forward log-det: the sum of the log-dets of the steps
    - inverse: `x = step_n.inverse(... step_0.inverse(y))`
    - inverse log-det: the sum of the log-dets of the steps
    """

    def __init__(
        self,
        steps: Sequence[Callable[..., ImageBijector]],
        layer: keras.layers.Layer,
        *,
        recompute: bool = False,
        validate_args: bool = False,
        name: str = "repeat",
    ) -> None:
        parameters = dict(locals())
        self.layer = layer
        self.recompute = recompute
        self.steps = [step(*layer.first_copy()) for step in steps]
        self._forward_steps = [self._traced(step, _forward) for step in steps]
        self._inverse_steps = [self._traced(step, _inverse) for step in steps]
        super().__init__(parameters=parameters, name=name, validate_args=validate_args)

    def initialize(self, y: tf.Tensor) -> tf.Tensor:
        """Initializes the steps, each from the output of the step before it."""
        for i in range(self.layer.num_copies):
            self.layer.read(i)
            y = self.steps[i % len(self.steps)].initialize(y)
            self.layer.write(i)
        return y

    def _forward_and_ildj(self, x):
        calls = reversed(list(self._calls(self._forward_steps)))
        return _run(calls, x)

    def _inverse_and_ildj(self, y):
        return _run(self._calls(self._inverse_steps), y)

    def _calls(self, functions):
        trainable = self.layer.trainable
        for i, weights in enumerate(self.layer.unstack()):
            function = functions[i % len(functions)]
            yield functools.partial(function, trainable, weights)

    def _traced(self, step, evaluate):
        def run(weights, images):
            return evaluate(step(*self.layer.functions(weights)), images)

        run = _recomputing(run) if self.recompute else run

        def traced(trainable, weights, images):
            if not trainable:  # Outside of the trace it has no effect.
                weights = tf.nest.map_structure(tf.stop_gradient, weights)
            return run(weights, images)

        return tf.function(
            traced,
            autograph=False,
            reduce_retracing=True,
            # Inlining would keep the tensors of all steps in memory.
            experimental_attributes={"_noinline": True} if self.recompute else None,
        )


def _run(calls, images):
    ildj = 0.0
    for call in calls:
        images, step_ildj = call(images)
        ildj += step_ildj
    return images, ildj


def _forward(step, x):
    return step.forward(x), -step.forward_log_det_jacobian(x, event_ndims=3)


def _inverse(step, y):
    return step.inverse(y), step.inverse_log_det_jacobian(y, event_ndims=3)


def _recomputing(run):
    @tf.custom_gradient
    def recomputing(weights, images):
        def gradient(*output_gradients):
            # The dependency keeps both evaluations from being merged into one.
            with tf.control_dependencies(output_gradients):
                again = tf.nest.map_structure(tf.identity, (weights, images))
            with tf.GradientTape() as tape:
                tape.watch(again)
                outputs = run(*again)
            gradients = tape.gradient(
                outputs,
                again,
                output_gradients,
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
            return tf.nest.flatten(gradients)

        return run(weights, images), gradient

    return recomputing
