"""Loading of models by path, or by the name of a model that comes with tfflowdn."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfflowdn.models import FlowPrior, UnpairedDenoiser
from tfflowdn.noise import NoiseModel

__all__ = [
    "FACTS",
    "GENERAL",
    "GENERAL_DENOISERS",
    "SavedNetwork",
    "find_model",
    "load_denoiser",
    "load_noise",
    "load_prior",
    "num_channels",
    "pretrained_models",
]

FACTS = "assets.extra/model.json"  # Attributes that the graph cannot hold.
GENERAL = "general"  # Names the two following models together.
GENERAL_DENOISERS = ("denoiser_gray", "denoiser_rgb")


class SavedNetwork:
    """The SavedModel of a denoiser; it is called like the network.

    Args:
      path: The folder of a version, as written by `export_model`.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.name = os.fspath(path)
        self.weights = ()
        self._model = tf.saved_model.load(self.name)
        (noisy,) = (
            self._model.signatures["serve"].structured_input_signature[1].values()
        )
        self.channels = noisy.shape[-1]
        self._read_facts()

    def _read_facts(self):
        """Reads the attributes that `export_model` wrote next to the graph."""
        path = Path(self.name, FACTS)
        facts = json.loads(path.read_text("utf-8")) if path.exists() else {}
        for name in ("scale", "receptive_radius", "pixel_range"):
            if name in facts:
                setattr(self, name, facts[name])

    def __call__(
        self, noisy: np.ndarray | tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Returns the denoised pictures, float32 [batch, H, W, C]."""
        del training
        return self._model.signatures["serve"](tf.convert_to_tensor(noisy))["denoised"]

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Sequence:
        """Returns the shape of the input."""
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


def load_denoiser(
    model: str | os.PathLike, channels: int = 1
) -> keras.Model | SavedNetwork:
    """Loads the network that maps noisy pictures to denoised pictures.

    Args:
      model: A `.keras` file of a network or of an UnpairedDenoiser, the folder of its
        SavedModel, a name of `pretrained_models`, such as "denoiser_gray", or
        "general" for the general network for pictures of `channels` channels.
      channels: 1 or 3; used only for "general".

    Raises:
      ValueError: If there is no such file, or it does not hold a denoiser.
    """
    if model == GENERAL:
        model = GENERAL_DENOISERS[0 if channels == 1 else 1]
    path = find_model(model)
    if os.path.isfile(os.path.join(path, "saved_model.pb")):
        return SavedNetwork(path)
    kinds = "a .keras file, the folder of a SavedModel"
    names = [GENERAL, *_names("denoiser")]
    _check_exists("model", path, kinds, names)
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
      ValueError: If there is no such file, or it does not hold a FlowPrior.
    """
    return _load(path, "prior", FlowPrior)


def load_noise(path: str | os.PathLike) -> NoiseModel:
    """Loads a noise model from a `.keras` file, or by its name.

    Raises:
      ValueError: If there is no such file, or it does not hold a NoiseModel.
    """
    return _load(path, "noise", NoiseModel)


def num_channels(network: keras.Model | SavedNetwork) -> int:
    """Returns the number of channels, 1 or 3, of the pictures a network takes.

    Raises:
      ValueError: If it is not a built model that maps pictures to the same shape.
    """
    channels = getattr(network, "channels", None)
    try:
        if channels is None:
            channels = network.input_shape[-1]
        output = tuple(network.compute_output_shape((1, 16, 16, channels)))
    except Exception:  # Keras raises errors of many kinds for models of users.
        raise ValueError(
            "A denoiser must be a built Keras model with one input [batch, H, W, C], C "
            "1 or 3: not a function, a path (see Denoiser.from_pretrained), or a model "
            f"that was never called on a picture. Received: {network!r}."
        ) from None
    if channels not in (1, 3) or output != (1, 16, 16, channels):
        raise ValueError(
            "A denoiser must map [batch, H, W, C] to the same shape, C 1 or 3. "
            f"Received: {network.name}, from C={channels} to {output}."
        )
    return channels


def _load(path, name, kind):
    path = find_model(path)
    _check_exists(name, path, "a .keras file", _names(name))
    model = keras.models.load_model(path, compile=False)
    if not isinstance(model, kind):
        raise ValueError(
            f"{name} must hold a {kind.__name__}. "
            f"Received: {str(path)!r}, a {type(model).__name__}."
        )
    return model


def _check_exists(name, path, kinds, shipped):
    if os.path.isfile(path):
        return
    found = "which is a folder" if os.path.isdir(path) else "which does not exist"
    names = f", or one of {shipped}" if shipped else ""
    raise ValueError(
        f"{name} must be {kinds}{names}. Received: {name}={str(path)!r}, {found}."
    )


def _names(prefix):
    """Returns the names of the models of a kind that come with tfflowdn."""
    return [name for name in pretrained_models() if name.startswith(prefix)]
