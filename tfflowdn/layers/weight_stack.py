"""Weights of many copies of the same layers, stacked."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras.ops import cast, convert_to_numpy, convert_to_tensor, reshape, unstack

from tfflowdn.layers.parameters import Parameters

__all__ = ["WeightStack"]


class WeightStack(keras.layers.Layer):
    """Owns the weights of `n` copies of the same layers, each as one array [n, ...].

    A deep flow repeats a few layers. After stacking, it has as few weights as one of
    its steps. An optimizer then updates few large arrays, and its trace is fast.

    `functions(stack.unstack()[i])` are the layers of copy `i`. Tensors that
    `Parameters` derive from their weights are computed for all copies at once, as are
    the casts of the weights of other layers to their `compute_dtype`.

    Args:
      copies: For each copy its built layers, with the same weights in shape and order.
    """

    def __init__(self, copies: Sequence[Sequence[keras.layers.Layer]], **kwargs: Any):
        super().__init__(**kwargs)
        self.num_copies = len(copies)
        variables = [_variables(layers) for layers in copies]
        first_copy = copies[0]
        # Keras does not track layers in a closure.
        self._first_copy = lambda: first_copy
        self.stacks = [
            self._stack(one_of_each) for one_of_each in zip(*variables, strict=True)
        ]
        self.built = True

    def first_copy(self) -> Sequence[keras.layers.Layer]:
        """Returns the layers of the first copy, with the weights `read` gave them."""
        # This is no property, because Keras would save its layers.
        return self._first_copy()

    def unstack(self) -> list[tuple]:
        """Returns for each copy and layer its weights or the derived tensors."""
        stacks = iter(self.stacks)
        layers = []
        for layer in self.first_copy():
            tensors = [convert_to_tensor(next(stacks)) for _ in layer.variables]
            if isinstance(layer, Parameters):
                names = [variable.name for variable in layer.variables]
                tensors = layer.derive(**dict(zip(names, tensors, strict=True)))
            else:
                tensors = [cast(tensor, layer.compute_dtype) for tensor in tensors]
            unstacked = [unstack(tensor, self.num_copies) for tensor in tensors]
            layers.append(list(zip(*unstacked, strict=True)))
        return list(zip(*layers, strict=True))

    def functions(self, tensors: Sequence[tuple]) -> list[Callable]:
        """Returns the layers of a copy as functions, given its part of `unstack`."""
        pairs = zip(self.first_copy(), tensors, strict=True)
        return [functools.partial(_call, layer, own) for layer, own in pairs]

    def read(self, index: int) -> None:
        """Sets the first copy's variables to the weights of copy `index`."""
        for variable, stack in self._pairs():
            variable.assign(stack[index])

    def write(self, index: int) -> None:
        """Sets the weights of copy `index` to the first copy's variables."""
        for variable, stack in self._pairs():
            value = np.array(convert_to_numpy(stack))
            value[index] = convert_to_numpy(variable)
            stack.assign(value)

    def _pairs(self):
        return zip(_variables(self.first_copy()), self.stacks, strict=True)

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


def _variables(layers):
    return [variable for layer in layers for variable in layer.variables]


def _call(layer, tensors, images):
    if isinstance(layer, Parameters):
        return tensors
    scope = keras.StatelessScope()
    # Given as an argument they would be cast back to the variables' dtype.
    variables = [id(variable) for variable in layer.variables]
    scope.state_mapping.update(zip(variables, tensors, strict=True))
    with scope:
        return layer(images)
