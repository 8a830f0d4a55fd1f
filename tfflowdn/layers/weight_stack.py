"""Weights of many copies of the same layers, stacked."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from keras.ops import convert_to_numpy, convert_to_tensor, reshape, unstack

__all__ = ["WeightStack"]


class WeightStack(keras.layers.Layer):
    """Owns the weights of `n` copies of the same layers, each as one array [n, ...].

    A deep flow repeats a few layers. Stacked, it has as few weights as one of its
    steps: an optimizer updates few large arrays, and is traced in a moment.

    The first copy lends its variables: whoever runs it in a
    `keras.StatelessScope(zip(stack.variables_of_copy, stack.unstack()[i]))` runs copy
    `i`.

    Args:
      copies: For each copy its built layers, with the same weights in shape and order.
    """

    def __init__(self, copies: Sequence[Sequence[keras.layers.Layer]], **kwargs):
        super().__init__(**kwargs)
        self.num_copies = len(copies)
        variables = [
            [variable for layer in layers for variable in layer.variables]
            for layers in copies
        ]
        # In a function's closure Keras does not find them: they are not its weights.
        self._first_copy = lambda: variables[0]
        self.stacks = [
            self._stack(one_of_each) for one_of_each in zip(*variables, strict=True)
        ]
        self.built = True

    @property
    def variables_of_copy(self) -> list[keras.Variable]:
        """The variables of the first copy, in the order of `unstack()[i]`."""
        return self._first_copy()

    def unstack(self) -> list[tuple]:
        """Returns for each copy its weights, as tensors."""
        unstacked = [unstack(stack, self.num_copies) for stack in self.stacks]
        return list(zip(*unstacked, strict=True))

    def read(self, index: int) -> None:
        """Sets the first copy's variables to the weights of copy `index`."""
        for variable, stack in zip(self.variables_of_copy, self.stacks, strict=True):
            variable.assign(stack[index])

    def write(self, index: int) -> None:
        """Sets the weights of copy `index` to the first copy's variables."""
        for variable, stack in zip(self.variables_of_copy, self.stacks, strict=True):
            value = np.array(convert_to_numpy(stack))
            value[index] = convert_to_numpy(variable)
            stack.assign(value)

    def _stack(self, variables):
        first = variables[0]
        value = np.stack([convert_to_numpy(variable) for variable in variables])
        return self.add_weight(
            shape=value.shape,
            dtype=first.dtype,
            initializer=lambda shape, dtype: reshape(
                convert_to_tensor(value, dtype), shape
            ),
            trainable=first.trainable,
            name=first.path.replace("/", "_"),
        )
