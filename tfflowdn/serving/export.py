"""Exported priors and denoisers: SavedModels for TF Serving, LiteRT and ONNX files."""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import re
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfflowdn import files, inference
from tfflowdn.checks import check_choice
from tfflowdn.models import FlowPrior
from tfflowdn.saving import FORMAT_VERSION, versions
from tfflowdn.serving import FORMATS, MAX_REQUEST_PIXELS, portable
from tfflowdn.serving.graph import ServedDenoiser

__all__ = ["export_model"]

WRITERS = {"litert": portable.write_litert, "onnx": portable.write_onnx}

# TensorFlow raises these when it cannot write a file.
WRITE_ERRORS = (
    OSError,
    tf.errors.PermissionDeniedError,
    tf.errors.ResourceExhaustedError,
    tf.errors.UnknownError,
)

# TF Serving and its users expect additional files here.
EXTRA = "assets.extra"
WARM_UP_SIZE = 256

# The server denoises as many pictures at once as it has batch threads. It never
# combines pictures of several requests, because their sizes differ.
BATCHING_PARAMETERS = """\
max_batch_size { value: 1024 }
max_execution_batch_size { value: 1 }
enable_large_batch_splitting { value: true }
batch_timeout_micros { value: 0 }
max_enqueued_batches { value: 4096 }
"""


def export_model(
    model: keras.Model,
    root: str | os.PathLike,
    name: str,
    version: int | None = None,
    *,
    format: str = "saved_model",  # noqa: A002
    max_pixels: int | None = 2**20,
    max_request_pixels: int | None = MAX_REQUEST_PIXELS,
    card: str | os.PathLike | None = None,
) -> Path:
    """Writes a model as `<root>/<name>/<version>`, completely or not at all.

    "saved_model" is a folder for TF Serving. A denoiser has four signatures, each for
    pictures of any size; large pictures are denoised by tiles, see `ServedDenoiser`:

    - `serve` (also named `serving_default`) maps `noisy`, float32 [batch, H, W, C], to
      `denoised` of the same shape. Pixels are in units of the model's pixel range,
      which is [0, 1] for most models. A picture of which a sizeable part lies outside
      of [0, 1] is scaled by its percentiles 0.1 and 99.9 in between.
    - `network` does the same without this choice, for callers that scale pictures.
    - `uint8` does the same for stored 8-bit pixels.
    - `encoded` maps `noisy_bytes`, PNG and JPEG files of any sizes and depths, to
      `denoised_bytes`, PNG files. Pixels are stored values: the graph applies the
      model's pixel range, and its inverse to the result.

    A prior has the signatures `log_prob` (also `serving_default`) and `bits_per_dim`,
    which map `images` to [batch], and `sample`, which maps `num_samples` and
    `temperature` to images of the size that the prior was trained on.

    The folder `assets.extra` contains metadata (`model.json`), the card, checksums
    (`manifest.json`), and the warm-up requests of TF Serving if tensorflow-serving-api
    is installed.

    "litert" and "onnx" are files `<version>.tflite` and `<version>.onnx` of a
    denoiser. They map `noisy`, float32 [batch, H, W, C] of any size, to `denoised`
    without tiles.

    Args:
      model: A FlowPrior, or the network of a denoiser.
      root: Folder of the served models.
      name: Name of the model in the server; one component of a path.
      version: A positive integer; by default the next free version.
      format: "saved_model", "litert" or "onnx".
      max_pixels: Number of pixels that the network of a denoiser's SavedModel
        processes at once. None means all pixels of a request.
      max_request_pixels: Largest number of pixels of a request to a denoiser's
        SavedModel, which is checked before files are decoded. None means no limit.
      card: File to copy into a SavedModel, such as a description of its training.

    Returns:
      The folder or file.

    Raises:
      ValueError: If `name` is not one component of a path, the version exists or is
        not positive, the card is not a file, the format is unknown or not available
        for priors, or the tiles of the denoiser are not longer than their margins.
      ImportError: If the format needs a package that is not installed.
      OSError: If the model cannot be written, for instance on a full disk.
    """
    _check_name(name)
    _check_format(format, model)
    if card is not None and not os.path.isfile(card):
        raise ValueError(f"card must be a file. Received: card={str(card)!r}.")
    folder = Path(root) / name
    target = _target(folder, version, format)

    def write(temporary):
        if format == "saved_model":
            served = _served(model, max_pixels, max_request_pixels)
            _write_saved_model(model, served, name, temporary, card)
        else:
            WRITERS[format](model, temporary)

    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A server looks for folders that are named by a number and ignores this one.
        with files.temporary_folder(folder) as temporary:
            write(temporary / target.name)
            os.rename(temporary / target.name, target)
    except WRITE_ERRORS as error:
        raise OSError(
            f"The disk must have room for {target} and let it be written; {target} was "
            f"not written. Received: {error}."
        ) from error
    return target


def _served(model, max_pixels, max_request_pixels):
    """Returns the endpoints of a denoiser, or None for a prior."""
    if isinstance(model, FlowPrior):
        return None
    return ServedDenoiser(
        model, max_pixels=max_pixels, max_request_pixels=max_request_pixels
    )


def _write_saved_model(model, served, name, folder, card):
    archive = keras.export.ExportArchive()
    if served is None:
        requests, facts = _add_prior_endpoints(archive, model), {}
    else:
        requests, facts = _add_denoiser_endpoints(archive, served), served.facts
        _warn_of_range(served)
        _warn_of_channels(served)
    archive.write_out(folder, verbose=False)
    extra = folder / EXTRA
    extra.mkdir()
    _write_json(folder / inference.FACTS, _facts(model, facts))
    if card is not None:
        shutil.copy(card, extra)
    if served is not None:
        (folder / "batching_params.pbtxt").write_text(BATCHING_PARAMETERS)
    _write_warm_up(extra / "tf_serving_warmup_requests", name, requests)
    _write_json(folder / inference.MANIFEST, inference.checksums(folder))


def _warn_of_range(served):
    if not served.fits_integers:
        logging.getLogger(__name__).warning(
            "Files and 8-bit arrays cannot hold the pixel range %s of the model: use "
            "the signature serving_default, in which the range becomes 0 to 1.",
            served.pixel_range,
        )


def _warn_of_channels(served):
    if not served.takes_files:
        logging.getLogger(__name__).warning(
            "PNG and JPEG files cannot hold the %d channels of the model: the "
            "signature encoded is left out; use serving_default or uint8.",
            served.channels,
        )


def _add_denoiser_endpoints(archive, served):
    """Adds the endpoints and returns a request for each of them."""
    shape = (None, None, None, served.channels)
    archive.add_endpoint("serve", served.serve, [_pictures(served.channels, "noisy")])
    archive.add_endpoint(
        "network", served.network, [_pictures(served.channels, "noisy")]
    )
    archive.add_endpoint(
        "uint8", served.uint8, [tf.TensorSpec(shape, tf.uint8, "noisy")]
    )
    if served.takes_files:
        archive.add_endpoint(
            "encoded", served.encoded, [tf.TensorSpec([None], tf.string, "noisy_bytes")]
        )
    side = WARM_UP_SIZE
    if served.max_request_pixels is not None:
        side = min(side, math.isqrt(served.max_request_pixels // 2))
    picture = np.zeros((max(side, 1), max(side, 1), served.channels), np.uint8)
    requests = {
        "serving_default": {"noisy": picture[np.newaxis].astype(np.float32)},
        "uint8": {"noisy": picture[np.newaxis]},
    }
    if served.takes_files:
        encoded = [
            tf.io.encode_png(picture.astype(t)).numpy() for t in (np.uint8, np.uint16)
        ]
        requests["encoded"] = {"noisy_bytes": np.array(encoded, object)}
    return requests


def _add_prior_endpoints(archive, prior):
    """Adds the endpoints and returns a request for each of them."""

    def log_prob(images):
        return {"log_prob": _finite(prior.log_prob(_finite_pixels(images)))}

    def bits_per_dim(images):
        return {"bits_per_dim": _finite(prior.bits_per_dim(_finite_pixels(images)))}

    def sample(num_samples, temperature):
        return {"images": prior.sample(num_samples, temperature)}

    images = [_pictures(prior.channels, "images")]
    archive.add_endpoint("log_prob", log_prob, images)
    archive.add_endpoint("bits_per_dim", bits_per_dim, images)
    scalars = [
        tf.TensorSpec([], tf.int32, "num_samples"),
        tf.TensorSpec([], tf.float32, "temperature"),
    ]
    archive.add_endpoint("sample", sample, scalars)
    request = {"images": np.full((1, *prior.image_shape), 0.5, np.float32)}
    return {
        "serving_default": request,
        "bits_per_dim": request,
        "sample": {"num_samples": np.int32(1), "temperature": np.float32(1)},
    }


def _finite_pixels(images):
    return tf.debugging.check_numerics(images, "The pixels of images must be finite")


def _finite(values):
    return tf.debugging.check_numerics(
        values, "The result must be finite; pixels may be too far from 0 to 1"
    )


def _facts(model, facts):
    return {
        "kind": "prior" if isinstance(model, FlowPrior) else "denoiser",
        "format_version": FORMAT_VERSION,
        "parameters": model.count_params(),
        "pixel_range": getattr(model, "pixel_range", "dtype"),
        **facts,
        "versions": {
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "tfflowdn": versions()["version"],
        },
        "model": keras.saving.serialize_keras_object(model),
    }


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(files.json_text(values))


def _write_warm_up(path, name, requests):
    """Writes one request for each signature, in the format of TF Serving."""
    if importlib.util.find_spec("tensorflow_serving") is None:
        logging.getLogger(__name__).warning(
            "The model has no warm-up requests, and its first answers will be slow, "
            "because tensorflow-serving-api is not installed. "
            "Run: pip install 'tfflowdn[serving]'"
        )
        return
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests.items():
            request = predict_pb2.PredictRequest()
            request.model_spec.name = name
            request.model_spec.signature_name = signature
            for key, value in inputs.items():
                request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictLog(request=request)
            record = prediction_log_pb2.PredictionLog(predict_log=log)
            writer.write(record.SerializeToString())


def _pictures(channels, name):
    return keras.InputSpec("float32", (None, None, None, channels), name=name)


def _check_name(name):
    if not re.fullmatch(r"[^./\\\0][^/\\\0]*", name):
        raise ValueError(
            "name must be one component of a path and must not start with a dot. "
            f"Received: {name=}."
        )


def _check_format(format, model):  # noqa: A002
    check_choice("format", format, FORMATS)
    if format != "saved_model" and isinstance(model, FlowPrior):
        raise ValueError(
            f"format must be 'saved_model' for a prior. Received: {format=}."
        )


def _target(folder, version, format):  # noqa: A002
    """Returns the path of the version; by default no format has this version."""
    try:
        versions = [int(p.stem) for p in folder.glob("*") if p.stem.isdecimal()]
    except OSError:
        versions = []  # Making the folder fails with an explanation.
    if version is None:
        version = max(versions, default=0) + 1
    target = folder / f"{version}{FORMATS[format]}"
    if version < 1 or target.exists():
        raise ValueError(
            "version must be positive and must not exist. "
            f"Received: {version=}, {str(folder)!r}."
        )
    return target
