"""Registration of the package's Keras classes before they are imported.

`keras.models.load_model` finds a custom class only if it is registered. Importing all
classes would import TensorFlow with every `import tfflowdn`. Therefore a stand-in for
each class is registered; when Keras asks it for an object, it imports the class, which
takes its place.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from typing import Any

__all__ = ["CLASSES", "register"]

CLASSES = {
    "layers": [
        "ActNormParameters",
        "BrightnessCurve",
        "Cepstrum",
        "Conditioner",
        "Conv2D",
        "GaussianBlur",
        "LineVariance",
        "NoiseLevel",
        "NoiseSkew",
        "NormalizedPLUParameters",
        "OpponentColors",
        "PLUParameters",
        "PlainConditioner",
        "Pointwise",
        "ResidualBlock",
        "ResidualConditioner",
        "SymmetricParameters",
    ],
    "metrics": ["Coverage", "PSNR"],
    "models": [
        "FlowPrior",
        "Noise2Void",
        "ResNetDenoiser",
        "UncertaintyNetwork",
        "UnpairedDenoiser",
    ],
    "noise": ["NoiseModel"],
    "training": ["GuardedAdam", "GuardedMuon"],
}
"""Names of the registered classes by the module that imports them."""


def register() -> None:
    """Registers the classes now, or as soon as Keras is imported."""
    if "keras.saving" in sys.modules:
        _register_stand_ins()
    elif not any(isinstance(finder, _KerasFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _KerasFinder())


def _register_stand_ins():
    import keras

    for module, names in CLASSES.items():
        for name in names:
            if keras.saving.get_registered_object(f"tfflowdn>{name}") is None:
                stand_in = _stand_in(module, name)
                keras.saving.register_keras_serializable("tfflowdn", name)(stand_in)


def _stand_in(module, name):
    def from_config(cls: type, config: dict[str, Any], **options: Any) -> Any:
        del cls
        found = getattr(importlib.import_module(f"tfflowdn.{module}"), name)
        return found.from_config(config, **options)

    methods = {"from_config": classmethod(from_config), "get_config": None}
    return type(name, (), methods)


class _KerasFinder(importlib.abc.MetaPathFinder):
    """Finds `keras` as the other finders do, and registers the classes after it."""

    def find_spec(
        self, name: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Returns the spec of Keras with a loader that also registers; else None."""
        del path, target
        if name != "keras" or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: Any) -> None:
                execute(module)
                _register_stand_ins()

            spec.loader.exec_module = execute_and_register
        return spec
