"""Exported priors and denoisers: SavedModels for TF Serving, LiteRT and ONNX files."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfflowdn import inference
from tfflowdn.models import FlowPrior
from tfflowdn.serving import portable
from tfflowdn.serving.graph import ServedDenoiser

__all__ = ["FORMATS", "export_model"]

FORMATS = {"saved_model": "", "litert": ".tflite", "onnx": ".onnx"}  # and suffixes
WRITERS = {"litert": portable.write_litert, "onnx": portable.write_onnx}

# Where TF Serving and its users look for what comes with a model.
EXTRA = "assets.extra"
WARM_UP_SIZE = 256

# A queue: the server denoises as many pictures at once as it has batch threads, and
# never puts pictures of several requests together, which differ in size.
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
    card: str | os.PathLike | None = None,
) -> Path:
    """Writes a model as `<root>/<name>/<version>`, in one rename.

    "saved_model" is a folder for TF Serving. A denoiser's `serve` (also
    `serving_default`) takes `noisy` float32 [batch, H, W, C] in [0, 1] units and gives
    `denoised` of the same shape; `uint8` does so for 8-bit pixels; `encoded` takes
    `noisy_bytes`, PNG and JPEG files of any sizes and depths, and gives
    `denoised_bytes`, PNG files; a model of another range of pixel values than its
    dtype's has the first alone. All of them take pictures of any size and denoise large
    ones by tiles, see `ServedDenoiser`. A prior has `log_prob` (also
    `serving_default`) and `bits_per_dim`, each of `images` to [batch], and `sample` of
    `num_samples` and `temperature` to images of the training's size. In its
    `assets.extra` are `model.json`, what is known of the model, the card, and the
    requests that TF Serving warms it up with, if tensorflow-serving-api is installed.

    "litert" and "onnx" are files `<version>.tflite` and `<version>.onnx` of a
    denoiser, from `noisy` float32 [batch, H, W, C] of any size to `denoised`, without
    tiles.

    Args:
      model: A FlowPrior, or a denoiser's network.
      root: Folder of the served models.
      name: The model's name in the server.
      version: A positive integer; by default the next one that is free.
      format: "saved_model", "litert" or "onnx".
      max_pixels: Of a SavedModel of a denoiser: pixels that its network gets at once;
        None for all of a request's.
      card: Of a SavedModel: a file to keep beside the model, such as a description of
        what it was trained on.

    Returns:
      The folder or file written.

    Raises:
      ValueError: If the version is there already or not positive, the card is no file,
        the format is none of these or not for priors, or the denoiser's tiles would be
        no longer than their margins.
      ImportError: If the format needs a package that is not installed.
    """
    _check_format(format, model)
    if card is not None and not os.path.isfile(card):
        raise ValueError(f"card must be a file. Received: card={str(card)!r}.")
    target = _target(Path(root) / name, version, format)
    target.parent.mkdir(parents=True, exist_ok=True)
    # A server polls for folders named by a number: it never sees this one.
    folder = Path(tempfile.mkdtemp(prefix=".tmp.", dir=target.parent))
    try:
        temporary = folder / target.name
        if format == "saved_model":
            _write_saved_model(model, name, temporary, max_pixels, card)
        else:
            WRITERS[format](model, temporary)
        os.rename(temporary, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return target


def _write_saved_model(model, name, folder, max_pixels, card):
    archive = keras.export.ExportArchive()
    if isinstance(model, FlowPrior):
        requests, facts = _add_prior_endpoints(archive, model), {}
    else:
        served = ServedDenoiser(model, max_pixels=max_pixels)
        requests = _add_denoiser_endpoints(archive, served, _pixel_range(model))
        facts = served.facts
    archive.write_out(folder, verbose=False)
    extra = folder / EXTRA
    extra.mkdir()
    (folder / inference.FACTS).write_text(
        json.dumps(_facts(model, facts), indent=2) + "\n"
    )
    if card is not None:
        shutil.copy(card, extra)
    if not isinstance(model, FlowPrior):
        (folder / "batching_params.pbtxt").write_text(BATCHING_PARAMETERS)
    _write_warm_up(extra / "tf_serving_warmup_requests", name, requests)


def _add_denoiser_endpoints(archive, served, pixel_range):
    """Adds the endpoints and returns a request for each of them."""
    shape = (None, None, None, served.channels)
    archive.add_endpoint("serve", served.serve, [_pictures(served.channels, "noisy")])
    picture = np.zeros((WARM_UP_SIZE, WARM_UP_SIZE, served.channels), np.uint8)
    requests = {"serving_default": {"noisy": picture[np.newaxis].astype(np.float32)}}
    if pixel_range != "dtype":  # The others know no other range.
        return requests
    archive.add_endpoint(
        "uint8", served.uint8, [tf.TensorSpec(shape, tf.uint8, "noisy")]
    )
    archive.add_endpoint(
        "encoded", served.encoded, [tf.TensorSpec([None], tf.string, "noisy_bytes")]
    )
    files = [tf.io.encode_png(picture.astype(t)).numpy() for t in (np.uint8, np.uint16)]
    return {
        **requests,
        "uint8": {"noisy": picture[np.newaxis]},
        "encoded": {"noisy_bytes": np.array(files, object)},
    }


def _add_prior_endpoints(archive, prior):
    """Adds the endpoints and returns a request for each of them."""

    def log_prob(images):
        return {"log_prob": prior.log_prob(images)}

    def bits_per_dim(images):
        return {"bits_per_dim": prior.bits_per_dim(images)}

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


def _facts(model, facts):
    return {
        "kind": "prior" if isinstance(model, FlowPrior) else "denoiser",
        "parameters": model.count_params(),
        "pixel_range": _pixel_range(model),
        **facts,
        "versions": {"keras": keras.__version__, "tensorflow": tf.__version__},
        "model": keras.saving.serialize_keras_object(model),
    }


def _pixel_range(model):
    return getattr(model, "pixel_range", "dtype")


def _write_warm_up(path, name, requests):
    """Writes one request for each signature, as TF Serving replays them."""
    if importlib.util.find_spec("tensorflow_serving") is None:
        logging.getLogger(__name__).warning(
            "tensorflow-serving-api is not installed (pip install 'tfflowdn[serving]'):"
            " the model has no warm-up requests, and its first answers are slow."
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


def _check_format(format, model):  # noqa: A002
    if format not in FORMATS:
        raise ValueError(
            f"format must be one of {tuple(FORMATS)}. Received: {format=}."
        )
    if format != "saved_model" and isinstance(model, FlowPrior):
        raise ValueError(
            f"A prior is exported as a SavedModel alone. Received: {format=}."
        )


def _target(folder, version, format):  # noqa: A002
    """Returns the path of a version that no format has, unless it is asked for."""
    versions = [int(p.stem) for p in folder.glob("*") if p.stem.isdigit()]
    if version is None:
        version = max(versions, default=0) + 1
    target = folder / f"{version}{FORMATS[format]}"
    if version < 1 or target.exists():
        raise ValueError(
            f"version must be positive and not in {folder}. Received: {version=}."
        )
    return target
