"""SavedModels of priors and denoisers, as TF Serving loads them."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import keras
import tensorflow as tf

from tfflowdn import inference
from tfflowdn.models import FlowPrior

__all__ = ["export_model"]


def export_model(
    model: keras.Model, root: str | os.PathLike, name: str, version: int | None = None
) -> Path:
    """Writes a model as `<root>/<name>/<version>/`, in one rename.

    A denoiser's `serve` (also `serving_default`) takes `noisy` float32 [batch, H, W,
    C] of any size in [0, 1] units and gives `denoised` of the same shape; the range
    of these units is in `assets.extra/tfflowdn.json`. A prior has
    `log_prob` (also `serving_default`) and `bits_per_dim`, each of `images` to
    [batch], and `sample` of `num_samples` and `temperature` to images of the
    training's size.

    Args:
      model: A FlowPrior, or a denoiser's network.
      root: Folder of the served models.
      name: The model's name in the server.
      version: A positive integer; by default the next one that is free.

    Returns:
      The folder written.

    Raises:
      ValueError: If the version is there already or not positive.
    """
    target = _target(Path(root) / name, version)
    target.parent.mkdir(parents=True, exist_ok=True)
    # A server polls for folders named by a number: it never sees this one.
    temporary = Path(tempfile.mkdtemp(prefix=".tmp.", dir=target.parent))
    try:
        archive = keras.export.ExportArchive()
        archive.track(model)
        if isinstance(model, FlowPrior):
            _add_prior_endpoints(archive, model)
        else:
            _add_denoiser_endpoint(archive, model)
        archive.write_out(temporary, verbose=False)
        facts = temporary / inference.FACTS
        facts.parent.mkdir(exist_ok=True)
        pixel_range = getattr(model, "pixel_range", "dtype")
        facts.write_text(json.dumps({"pixel_range": pixel_range}))
        temporary.chmod(0o755)
        os.rename(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _add_denoiser_endpoint(archive, network):
    def serve(noisy):
        return {"denoised": network(noisy, training=False)}

    channels = inference.num_channels(network)
    archive.add_endpoint("serve", serve, [_images(channels, "noisy")])


def _add_prior_endpoints(archive, prior):
    def log_prob(images):
        return {"log_prob": prior.log_prob(images)}

    def bits_per_dim(images):
        return {"bits_per_dim": prior.bits_per_dim(images)}

    def sample(num_samples, temperature):
        return {"images": prior.sample(num_samples, temperature)}

    images = [_images(prior.channels, "images")]
    archive.add_endpoint("log_prob", log_prob, images)
    archive.add_endpoint("bits_per_dim", bits_per_dim, images)
    scalars = [
        tf.TensorSpec([], tf.int32, "num_samples"),
        tf.TensorSpec([], tf.float32, "temperature"),
    ]
    archive.add_endpoint("sample", sample, scalars)


def _images(channels, name):
    return keras.InputSpec("float32", (None, None, None, channels), name=name)


def _target(folder, version):
    versions = [int(p.name) for p in folder.glob("*") if p.name.isdigit()]
    if version is None:
        version = max(versions, default=0) + 1
    if version < 1 or version in versions:
        raise ValueError(
            f"version must be positive and not in {folder}. Received: {version=}."
        )
    return folder / str(version)
