"""SavedModels of denoisers: whether to trust them, and their use as a network."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tfflowdn.devices import check_not_forked
from tfflowdn.saving import check_version

__all__ = ["FACTS", "MANIFEST", "SavedNetwork", "checksums", "is_saved_model"]

FACTS = "assets.extra/model.json"
"""Attributes that the graph cannot hold, and versions."""

MANIFEST = "assets.extra/manifest.json"
"""SHA-256 checksums of all other files of a SavedModel, by their relative paths."""

_GRAPH = "saved_model.pb"
_SIGNATURES = ("network", "serve")  # Exports of earlier versions have only the latter.
_FLAG = "--trust_saved_model (trust=True in Python)"

# Operations that reach files, other processes or state outside of the graph.
_UNSAFE = re.compile(
    "Checkpoint|Collective|Config|Custom|Dataset|Debug|Event|File|Iterator|LMDB|Load|"
    "Lookup|Mpi|Nccl|PyFunc|Print|Queue|Reader|Recv|Remote|Restore|Rpc|Save|Send|"
    "Session|Sql|Summary|TPU|Table|Tpu|^Write|Xla"
)


class SavedNetwork:
    """The SavedModel of a denoiser; it is called like the network.

    A SavedModel is a program: its operations can read and write files. Without `trust`
    it is loaded only if it is an export of this package that is complete and unchanged
    (its manifest fits all its files), and its graph has only operations that compute.
    The manifest shows damage; it does not show who wrote the files.

    Args:
      path: The folder of a version, as written by `export_model`.
      trust: Whether to load the folder without these checks.

    Raises:
      ValueError: If the folder is not trusted, is damaged, was written for a newer
        version, or does not hold a denoiser.
    """

    def __init__(self, path: str | os.PathLike, *, trust: bool = False) -> None:
        check_not_forked()
        self.name = os.fspath(path)
        self.weights = ()
        facts = _facts(Path(path))
        if not trust:
            _check_trusted(Path(path))
        try:
            self._model = tf.saved_model.load(self.name)
            known = [s for s in _SIGNATURES if s in self._model.signatures]
            self._serve = self._model.signatures[known[0] if known else "serve"]
            (noisy,) = self._serve.structured_input_signature[1].values()
            self.channels = noisy.shape[-1]
            self._serve.structured_outputs["denoised"]  # noqa: B018
        except Exception as error:  # TensorFlow raises nearly anything.
            raise ValueError(
                "A SavedModel must be complete and have the signature serve of a "
                f"denoiser. Received: {self.name!r}, which fails with "
                f"{type(error).__name__}: {str(error)[:300]}"
            ) from error
        for name in ("scale", "receptive_radius", "pixel_range"):
            if name in facts:
                setattr(self, name, facts[name])

    def __call__(
        self, noisy: np.ndarray | tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Returns the denoised pictures, float32 [batch, H, W, C]."""
        del training
        return self._serve(tf.convert_to_tensor(noisy))["denoised"]

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Sequence:
        """Returns the shape of the input."""
        return input_shape


def is_saved_model(path: str | os.PathLike) -> bool:
    """Returns whether a path is the folder of a SavedModel."""
    return os.path.isfile(os.path.join(path, _GRAPH))


def checksums(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of the files in a folder, except for the manifest.

    Args:
      folder: The folder of a SavedModel. Hidden files are left out.

    Returns:
      Hexadecimal digits by the relative path, with `/` between its parts.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in names.items()
        if name != MANIFEST and not path.name.startswith(".")
    }


def _facts(folder: Path) -> dict[str, Any]:
    """Returns the attributes that `export_model` wrote next to the graph."""
    path = folder / FACTS
    if not path.exists():
        return {}
    try:
        facts = json.loads(path.read_text("utf-8"))
        versions = facts.get("versions", {})
        recorded = {
            "format_version": facts.get("format_version"),
            "version": versions.get("tfflowdn"),
        }
    except (ValueError, RecursionError, AttributeError) as error:
        raise ValueError(
            f"{FACTS} of a SavedModel must be a JSON object. "
            f"Received: {str(folder)!r}, which fails with {error}."
        ) from error
    if recorded["format_version"] is not None:
        check_version(folder, recorded)
    return facts


def _check_trusted(folder: Path) -> None:
    problem = _manifest_problem(folder) or _graph_problem(folder / _GRAPH)
    if problem:
        raise ValueError(
            "A SavedModel is a program that runs with your rights; it must be an "
            f"unchanged export of tfflowdn, or be trusted by {_FLAG}. "
            f"Received: {str(folder)!r}, {problem}."
        )


def _manifest_problem(folder: Path) -> str:
    """Returns why the files differ from an export, or ""."""
    path = folder / MANIFEST
    if not path.is_file():
        return f"which has no {MANIFEST}"
    try:
        listed = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        return f"whose manifest is not JSON ({error})"
    found = checksums(folder)
    if not isinstance(listed, dict):
        return "whose manifest is not an object"
    for name in sorted({*listed, *found}):
        if name not in found:
            return f"which lacks {name!r}"
        if listed.get(name) != found[name]:
            return f"whose file {name!r} does not fit the manifest"
    return ""


def _graph_problem(path: Path) -> str:
    """Returns the problem of a graph with other operations than computations, or ""."""
    try:
        model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    except Exception as error:  # Protocol buffers raise errors of their own.
        return f"whose graph cannot be read ({error})"
    for meta_graph in model.meta_graphs:
        if not meta_graph.object_graph_def.nodes:
            return "whose graph has no objects"  # TensorFlow would run its nodes.
        for operation in _operations(meta_graph):
            if _UNSAFE.search(operation) or not hasattr(tf.raw_ops, operation):
                return f"whose graph has the operation {operation!r}"
    return ""


def _operations(meta_graph: Any) -> Iterator[str]:
    """Yields all operations, except for the functions that save the variables.

    These functions are part of every SavedModel. They are called only by the nodes that
    are named as such, and loading runs neither these nodes nor their functions.
    """
    graph, saver = meta_graph.graph_def, meta_graph.saver_def
    savers = {
        name.partition(":")[0]
        for name in (saver.save_tensor_name, saver.restore_op_name)
    }
    own, called = set(), {*meta_graph.object_graph_def.concrete_functions}
    for gradient in graph.library.gradient:
        called.update((gradient.function_name, gradient.gradient_func))
    for node in graph.node:
        (own if node.name in savers else called).update(_calls(node))
        yield node.op
    for function in graph.library.function:
        for node in function.node_def:
            called.update(_calls(node))
    for function in graph.library.function:
        if function.signature.name in own - called:
            continue
        yield from (node.op for node in function.node_def)


def _calls(node: Any) -> Iterator[str]:
    """Yields the names of the functions that a node calls."""
    for attribute in node.attr.values():
        if attribute.HasField("func"):
            yield attribute.func.name
        yield from (function.name for function in attribute.list.func)
