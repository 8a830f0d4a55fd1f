"""Loading of models by path, or by the name of one that comes with tfflowdn."""

from __future__ import annotations

import json
import os
from pathlib import Path

import keras
import tensorflow as tf

from tfflowdn.models import FlowPrior, UnpairedDenoiser
from tfflowdn.noise import NoiseModel

__all__ = [
    "FACTS",
    "SavedNetwork",
    "find_model",
    "load_denoiser",
    "load_noise",
    "load_prior",
    "num_channels",
    "pretrained_models",
]

FACTS = "assets.extra/model.json"  # What a SavedModel cannot say in its graph.


class SavedNetwork:
    """The SavedModel of a denoiser, to be called as its network is.

    Args:
      path: What `export_model` wrote, the folder of a version.
    """

    def __init__(self, path: str | os.PathLike):
        self.name = os.fspath(path)
        self.weights = ()
        self._model = tf.saved_model.load(self.name)
        (noisy,) = (
            self._model.signatures["serve"].structured_input_signature[1].values()
        )
        self.channels = noisy.shape[-1]
        self._read_facts()

    def _read_facts(self):
        """Reads what `export_model` has written beside the graph."""
        path = Path(self.name, FACTS)
        facts = json.loads(path.read_text("utf-8")) if path.exists() else {}
        for name in ("scale", "receptive_radius", "pixel_range"):
            if name in facts:
                setattr(self, name, facts[name])

    def __call__(self, noisy, training=False):
        """Returns the denoised pictures, float32 [batch, H, W, C]."""
        del training
        return self._model.signatures["serve"](tf.convert_to_tensor(noisy))["denoised"]

    def compute_output_shape(self, input_shape):
        """Returns the input's shape."""
        return input_shape


def pretrained_models() -> dict[str, Path]:
    """Returns the files of the models that come with tfflowdn, by their names."""
    package = Path(__file__).parent.parent
    installed = package / "saved_models"
    folder = installed if installed.is_dir() else package.parent / "saved_models"
    return {path.stem: path for path in sorted(folder.glob("*.keras"))}


def find_model(name_or_path: str | os.PathLike) -> str | os.PathLike:
    """Returns the path of a model, given its path or a name of `pretrained_models`."""
    return pretrained_models().get(name_or_path, name_or_path)


def load_denoiser(model: str | os.PathLike) -> keras.Model | SavedNetwork:
    """Loads the network that maps noisy pictures to denoised ones.

    Args:
      model: A `.keras` file of a network or of an UnpairedDenoiser, the folder of its
        SavedModel, or a name of `pretrained_models`, such as "denoiser_gray".

    Raises:
      ValueError: If there is no such file, or it holds no such model.
    """
    path = find_model(model)
    if os.path.isfile(os.path.join(path, "saved_model.pb")):
        return SavedNetwork(path)
    if not os.path.isfile(path):
        raise ValueError(
            "model must be a .keras file, the folder of a SavedModel, or one of "
            f"{list(pretrained_models())}. Received: model={str(path)!r}."
        )
    loaded = keras.models.load_model(path, compile=False)
    if isinstance(loaded, FlowPrior | NoiseModel):
        raise ValueError(
            "model must hold a denoiser. "
            f"Received: {str(path)!r}, a {type(loaded).__name__}."
        )
    network = loaded.network if isinstance(loaded, UnpairedDenoiser) else loaded
    num_channels(network)
    return network


def load_prior(path: str | os.PathLike) -> FlowPrior:
    """Loads a prior from a `.keras` file, or by its name in `pretrained_models`.

    Raises:
      ValueError: If there is no such file, or it holds no FlowPrior.
    """
    return _load(path, "prior", FlowPrior)


def load_noise(path: str | os.PathLike) -> NoiseModel:
    """Loads a noise model from a `.keras` file.

    Raises:
      ValueError: If there is no such file, or it holds no NoiseModel.
    """
    return _load(path, "noise", NoiseModel)


def _load(path, name, kind):
    path = find_model(path)
    if not os.path.isfile(path):
        raise ValueError(
            f"{name} must be a .keras file. Received: {name}={str(path)!r}."
        )
    model = keras.models.load_model(path, compile=False)
    if not isinstance(model, kind):
        raise ValueError(
            f"{name} must hold a {kind.__name__}. "
            f"Received: {path!r}, a {type(model).__name__}."
        )
    return model


def num_channels(network: keras.Model) -> int:
    """Returns the number of channels, 1 or 3, of the pictures a network takes."""
    channels = getattr(network, "channels", None)
    if channels is None:
        channels = network.input_shape[-1]
    output = network.compute_output_shape((1, 16, 16, channels))
    if channels not in (1, 3) or tuple(output) != (1, 16, 16, channels):
        raise ValueError(
            "A denoiser must map [batch, H, W, C] to the same shape, C 1 or 3. "
            f"Received: {network.name}, from C={channels} to {tuple(output)}."
        )
    return channels
