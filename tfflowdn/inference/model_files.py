"""Checks `.keras` files before a model is made from them.

Keras raises errors of many kinds for a damaged file, and takes any time and memory for
a file that declares absurd sizes. These checks raise a ValueError that names the file.
"""

from __future__ import annotations

import collections
import inspect
import io
import json
import math
import os
import zipfile
from collections.abc import Iterator
from typing import Any

import h5py
import keras
import numpy as np
import tensorflow as tf

from tfflowdn.data import check_fits
from tfflowdn.devices import check_not_forked
from tfflowdn.saving import RECORD, check_version

__all__ = ["load_keras_file"]

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_MEMBERS = ("metadata.json", _CONFIG, _WEIGHTS)
_MAX_CONFIG_BYTES = 2**24
_MAX_GROWTH = 200  # Of a compressed member; Keras stores without compression.
_MAX_OBJECTS = 20_000  # In a configuration.
_MAX_DATASETS = 100_000  # In the file of the weights.
# Flows make the weights of each step, and stack them afterwards.
_VALUES_SLACK, _VARIABLES_SLACK = 5, 100
_MIN_VALUES, _MIN_VARIABLES = 2**16, 200

_MAX_INTEGER = 2**24
_MAX_IMAGE_VALUES = 2**24
_LIMITS = {
    "num_blocks": 512,
    "num_residual_blocks": 512,
    "num_steps": 512,
    "num_levels": 10,
    "hidden_channels": 2**14,
    "hidden_growth": 64,
    "scale": 256,
    "order": 1024,
    "num_knots": 2**14,
    "blur_sigma": 1000,
    "sigma": 1000,
}
"""Largest numbers of arguments by their names, in all objects of a file."""
_FREE_INTEGERS = ("seed", "shared_object_id")

_KERAS_MODULES = (
    "keras.activations",
    "keras.constraints",
    "keras.dtype_policies",
    "keras.initializers",
    "keras.layers",
    "keras.models",
    "keras.ops",
    "keras.regularizers",
    "keras.src.models",
    "keras.src.ops",
)
_KERAS_NAMES = ("DTypePolicy", "Functional", "InputSpec", "Model", "Sequential")
_UNSAFE_NAMES = (  # They hold code, or read files.
    "FlaxLayer",
    "HashedCrossing",
    "IntegerLookup",
    "JaxLayer",
    "Lambda",
    "StringLookup",
    "TFSMLayer",
    "TextVectorization",
    "TorchModuleWrapper",
)
_VALUES = (  # Of Keras, which are no objects.
    "__bool__",
    "__ellipsis__",
    "__keras_tensor__",
    "__numpy__",
    "__slice__",
    "__tensor__",
    "__tuple__",
)


def load_keras_file(path: str | os.PathLike) -> keras.Model:
    """Loads a model from a `.keras` file without its optimizer.

    The members of the file, its classes and its sizes are checked before the model is
    built.

    Args:
      path: The file. Its classes are classes of tfflowdn, layers of Keras, or classes
        that this process has registered with Keras.

    Raises:
      ValueError: If the file is damaged, has no configuration or no weights, has an
        unknown class or absurd sizes, has weights that are not finite, or was written
        for a newer version of tfflowdn.
    """
    check_not_forked()
    try:
        num_values, num_variables = _check(path)
        with tf.variable_creator_scope(_limited(num_values, num_variables)):
            model = keras.models.load_model(path, compile=False)
        _check_weights(model)
    except _ModelFileError as error:
        raise ValueError(f"{error} Received: {os.fspath(path)!r}.") from error.__cause__
    except _NewerFileError as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # Damaged files raise nearly anything.
        raise ValueError(
            "A model file must be complete and hold a model of this version. Received: "
            f"{os.fspath(path)!r}, which fails with {type(error).__name__}: "
            f"{_short(error)}"
        ) from error
    return model


class _ModelFileError(Exception):
    """A requirement on a model file; the name of the file is added."""


class _NewerFileError(Exception):
    """A file that only newer code can use."""


def _check(path):
    """Checks a file and returns the numbers of values and of arrays of its weights."""
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise _ModelFileError(
            f"A .keras file must be a complete ZIP archive, but: {error}."
        ) from error
    with archive:
        _check_members(path, archive)
        _check_config(path, archive)
        return _check_arrays(archive)


def _check_members(path, archive):
    sizes = {info.filename: info.file_size for info in archive.infolist()}
    missing = [name for name in _MEMBERS if name not in sizes]
    if missing or len(sizes) < len(archive.infolist()):
        raise _ModelFileError(
            f"A .keras file must have the members {', '.join(_MEMBERS)}, each once, "
            f"but {', '.join(missing) or 'none'} is missing."
        )
    unknown = [n for n in sizes if n not in _MEMBERS and not n.startswith("assets")]
    if unknown:
        raise _ModelFileError(
            f"A .keras file must have no other members, but it has {unknown[:3]}."
        )
    total, stored = sum(sizes.values()), os.path.getsize(path)
    if total > _MAX_GROWTH * stored or sizes[_CONFIG] > _MAX_CONFIG_BYTES:
        raise _ModelFileError(
            f"The members of a .keras file must not be larger than {_MAX_GROWTH} times "
            f"the file, and its configuration not than {_MAX_CONFIG_BYTES} bytes, but "
            f"they have {total} and {sizes[_CONFIG]} bytes."
        )
    check_fits((total,), np.uint8, what="a model file")
    broken = archive.testzip()
    if broken:
        raise _ModelFileError(f"The checksums must fit, but {broken} is damaged.")


def _check_config(path, archive):
    try:
        config = json.loads(archive.read(_CONFIG))
        json.loads(archive.read("metadata.json"))
    except (ValueError, RecursionError) as error:
        raise _ModelFileError(f"{_CONFIG} must be JSON, but: {error}.") from error
    if not isinstance(config, dict) or "class_name" not in config:
        raise _ModelFileError(f"{_CONFIG} must name the class of a model.")
    build_config = config.get("build_config")
    if isinstance(build_config, dict):
        try:
            check_version(path, build_config.get(RECORD))
        except ValueError as error:
            raise _NewerFileError(str(error)) from None
    # Optimizer, loss and metrics are not loaded.
    objects = list(_dictionaries({**config, "compile_config": None}))
    if len(objects) > _MAX_OBJECTS:
        raise _ModelFileError(
            f"A model must have at most {_MAX_OBJECTS} parts, but {len(objects)}."
        )
    for values in objects:
        if "class_name" in values:
            _check_class(values)
        _check_sizes(values)


def _dictionaries(value: Any) -> Iterator[dict]:
    """Yields all dictionaries in a value of JSON."""
    waiting = collections.deque([value])
    while waiting:
        value = waiting.popleft()
        if isinstance(value, dict):
            yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _check_class(values):
    name, module = values["class_name"], values.get("module")
    registered = values.get("registered_name") or name
    if not isinstance(name, str) or not isinstance(registered, str):
        raise _ModelFileError(f"The name of a class must be a text, but is {name!r}.")
    if name in _VALUES or keras.saving.get_registered_object(registered) is not None:
        return
    is_function = name == "function" and isinstance(values.get("config"), str)
    if is_function and module == "builtins":
        return  # Keras looks for it among its own functions.
    if _is_of_keras(name, str(module)):
        return
    raise _ModelFileError(
        "The classes of a model must be classes of tfflowdn, layers of Keras without "
        "code of their own, or classes that were registered with Keras before, but one "
        f"is {registered!r} of {module!r}."
    )


def _is_of_keras(name, module):
    if name in _UNSAFE_NAMES:
        return False
    if module == "keras":
        return name in _KERAS_NAMES
    return any(module == m or module.startswith(f"{m}.") for m in _KERAS_MODULES)


def _check_sizes(values):
    for name, value in values.items():
        limit = _LIMITS.get(name, _MAX_INTEGER)
        is_size = name in _LIMITS or name not in _FREE_INTEGERS
        for number in value if isinstance(value, list) else [value]:
            is_number = isinstance(number, int | float)
            if is_size and is_number and _is_absurd(number, name, limit):
                raise _ModelFileError(
                    f"{name} must be within 0 and {limit} in a file, but is {number}."
                )
    shape = values.get("image_shape")
    if isinstance(shape, list) and _product(shape) > _MAX_IMAGE_VALUES:
        raise _ModelFileError(
            f"image_shape must have at most {_MAX_IMAGE_VALUES} values in a file, but "
            f"is {shape}."
        )


def _is_absurd(number, name, limit):
    is_limited = isinstance(number, int) or name in _LIMITS
    least = 0 if name in _LIMITS else -limit
    return is_limited and not least <= number <= limit


def _product(shape):
    return math.prod(size for size in shape if isinstance(size, int))


def _check_arrays(archive):
    """Checks the weights; returns the numbers of their values and of their arrays."""
    content = archive.read(_WEIGHTS)
    arrays, problems = [], []

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            arrays.append(item.size)
            if item.external or item.is_virtual:
                problems.append(f"{name} is in another file")
            elif item.nbytes > item.id.get_storage_size():
                problems.append(f"{name} is {item.nbytes} bytes without content")

    with h5py.File(io.BytesIO(content)) as file:
        for name in _links(file):
            problems.append(f"{name} is a link")
        file.visititems(visit)
    if problems or len(arrays) > _MAX_DATASETS:
        raise _ModelFileError(
            f"{_WEIGHTS} must hold the values of at most {_MAX_DATASETS} arrays, but "
            f"it has {len(arrays)}, and {'; '.join(problems[:3]) or 'no problem'}."
        )
    return sum(map(int, arrays)), len(arrays)


def _links(group):
    """Yields the names of links to other places in a group and in its groups."""
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            yield name
        elif isinstance(group.get(name), h5py.Group):
            yield from _links(group[name])


def _limited(num_values, num_variables):
    """Returns a creator of variables that refuses more than a file has values for."""
    most_values = _MIN_VALUES + _VALUES_SLACK * num_values
    most_variables = _MIN_VARIABLES + _VARIABLES_SLACK * num_variables
    values = variables = 0

    def create(next_creator, **kwargs):
        nonlocal values, variables
        values += math.prod(_shape(kwargs.get("initial_value")))
        variables += 1
        if values > most_values or variables > most_variables:
            raise _ModelFileError(
                f"{_CONFIG} and {_WEIGHTS} must describe one model, but the former has "
                f"more values than the latter, which has {num_values}."
            )
        return next_creator(**kwargs)

    return create


def _shape(initial_value):
    """Returns the shape of the value of a variable, and does not compute the value."""
    if not callable(initial_value):
        return np.shape(initial_value)
    # The function of Keras is a closure of the variable, which knows its shape.
    owner = inspect.getclosurevars(initial_value).nonlocals.get("self")
    if isinstance(owner, keras.Variable):
        return tuple(owner.shape)
    with tf.Graph().as_default():
        return tuple(initial_value().shape)


def _check_weights(model):
    for weight in model.weights:
        if not np.isfinite(np.asarray(weight, np.float32)).all():
            raise _ModelFileError(
                "The weights of a model must be finite, but values of "
                f"{weight.path} are not."
            )


def _short(error):
    """Returns the first line of a message, without a configuration in it."""
    return (str(error).splitlines() or [""])[0][:300]
