"""Loading of models by path, or by the name of a model that comes with tfflowdn."""

from __future__ import annotations

import os
from pathlib import Path

import keras

from tfflowdn.inference.model_files import load_keras_file
from tfflowdn.inference.saved_network import SavedNetwork, is_saved_model
from tfflowdn.models import FlowPrior, UncertaintyNetwork, UnpairedDenoiser
from tfflowdn.noise import NoiseModel

__all__ = [
    "GENERAL",
    "GENERAL_DENOISERS",
    "find_model",
    "find_uncertainty",
    "load_denoiser",
    "load_noise",
    "load_prior",
    "load_uncertainty",
    "num_channels",
    "pretrained_models",
]

GENERAL = "general"  # Names the two following models together.
GENERAL_DENOISERS = ("denoiser_gray", "denoiser_rgb")


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
    model: str | os.PathLike, channels: int = 1, *, trust: bool = False
) -> keras.Model | SavedNetwork:
    """Loads the network that maps noisy pictures to denoised pictures.

    Args:
      model: A `.keras` file of a network or of an UnpairedDenoiser, the folder of its
        SavedModel, a name of `pretrained_models`, such as "denoiser_gray", or
        "general" for the general network for pictures of `channels` channels.
      channels: 1 or 3; used only for "general".
      trust: Whether to load any SavedModel, which can run code, see `SavedNetwork`.

    Raises:
      ValueError: If there is no such file, it is damaged or not trusted, or it does not
        hold a denoiser.
    """
    if model == GENERAL:
        model = GENERAL_DENOISERS[0 if channels == 1 else 1]
    path = find_model(model)
    if is_saved_model(path):
        network = SavedNetwork(path, trust=trust)
        num_channels(network)
        return network
    kinds = "a .keras file, the folder of a SavedModel"
    names = [GENERAL, *_names("denoiser")]
    _check_exists("model", path, kinds, names)
    loaded = load_keras_file(path)
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
      ValueError: If there is no such file, it is damaged, or it does not hold a
        FlowPrior.
    """
    return _load(path, "prior", FlowPrior)


def load_noise(path: str | os.PathLike) -> NoiseModel:
    """Loads a noise model from a `.keras` file, or by its name.

    Raises:
      ValueError: If there is no such file, it is damaged, or it does not hold a
        NoiseModel.
    """
    return _load(path, "noise", NoiseModel)


def find_uncertainty(model: str | os.PathLike) -> Path | None:
    """Returns the file of the uncertainty of a denoiser, or None.

    It is `uncertainty.keras` in the folder of the denoiser's file. The models of the
    package have one file each, such as uncertainty_gray for denoiser_gray.

    Args:
      model: Name or path of the denoiser.
    """
    shipped = pretrained_models()
    if model in shipped:
        return shipped.get(str(model).replace("denoiser", "uncertainty"))
    path = Path(model).parent / "uncertainty.keras"
    return path if path.is_file() else None


def load_uncertainty(path: str | os.PathLike) -> UncertaintyNetwork:
    """Loads a network of `train_uncertainty` from a `.keras` file, or by its name.

    Raises:
      ValueError: If there is no such file, it is damaged, or it does not hold an
        UncertaintyNetwork.
    """
    return _load(path, "uncertainty", UncertaintyNetwork)


def num_channels(network: keras.Model | SavedNetwork) -> int:
    """Returns the number of channels, 1 to 16, of the pictures a network takes.

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
            "1 to 16: not a function, a path (see Denoiser.from_pretrained), or a "
            f"model that was never called on a picture. Received: {network!r}."
        ) from None
    if channels not in range(1, 17) or output != (1, 16, 16, channels):
        raise ValueError(
            "A denoiser must map [batch, H, W, C] to the same shape, C 1 to 16. "
            f"Received: {network.name}, from C={channels} to {output}."
        )
    return channels


def _load(path, name, kind):
    path = find_model(path)
    _check_exists(name, path, "a .keras file", _names(name))
    model = load_keras_file(path)
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
