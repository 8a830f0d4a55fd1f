"""A callback that exchanges weights and averaged weights."""

from __future__ import annotations

import keras

__all__ = ["Averaging"]


class Averaging(keras.callbacks.Callback):
    """Gives the model its averaged weights for validation and after an epoch.

    After an epoch they stay until `restore`. After the last epoch Keras gives the model
    its averaged weights permanently.
    """

    def __init__(self) -> None:
        super().__init__()
        self._own = None

    def on_test_begin(self, logs: dict | None = None) -> None:
        """Gives the model its averaged weights."""
        del logs
        self._swap()

    def on_test_end(self, logs: dict | None = None) -> None:
        """Gives the model its own weights again."""
        del logs
        self.restore()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Gives the model its averaged weights."""
        del epoch, logs
        self._swap()

    def restore(self) -> None:
        """Gives the model its own weights again."""
        variables = self.model.trainable_variables
        for variable, value in zip(variables, self._own, strict=True):
            variable.assign(value)

    def _swap(self):
        variables = self.model.trainable_variables
        self._own = [variable.numpy() for variable in variables]
        self.model.optimizer.finalize_variable_values(variables)
