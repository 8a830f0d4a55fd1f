"""Devices: strategies, sharing of a batch among cores, and precision."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfflowdn.checks import check_choice

__all__ = [
    "STRATEGIES",
    "check_batch_size",
    "check_not_forked",
    "faster_precision",
    "is_chief",
    "is_single_worker",
    "make_strategy",
    "map_shards",
    "patches_pay",
    "prepare_for_workers",
    "share_cores",
]

STRATEGIES = ("auto", "mirrored", "multi_worker")


class _Process:
    """Whether TensorFlow has been used in this process, and before it was forked."""

    def __init__(self) -> None:
        self.has_used = self.is_broken = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self.is_broken = self.has_used


_PROCESS = _Process()


def check_not_forked() -> None:
    """Checks that this process is not a fork of a process that has used models.

    The threads of TensorFlow do not exist in the fork, which would wait for them
    forever. Models call this before they use TensorFlow.

    Raises:
      RuntimeError: If it is such a fork.
    """
    if _PROCESS.is_broken:
        raise RuntimeError(
            "A process must not be forked after it has used TensorFlow, because the "
            "fork would wait forever; start processes by the method spawn: "
            'multiprocessing.get_context("spawn"). Received: a forked process.'
        )
    _PROCESS.has_used = True


@functools.cache  # The all-reduces of two strategies would interfere.
def make_strategy(name: str = "auto") -> tf.distribute.Strategy:
    """Returns a strategy by name; must be called before other uses of TensorFlow.

    Args:
      name: "mirrored" for all GPUs of this machine; "multi_worker" for the GPUs of all
        machines in the environment variable TF_CONFIG; "auto" for "multi_worker" if
        there are several machines, otherwise "mirrored" if there are several GPUs,
        otherwise TensorFlow's default strategy.

    Raises:
      ValueError: If the name is not one of `STRATEGIES`, or "multi_worker" is given and
        TF_CONFIG names no workers.
    """
    check_choice("strategy", name, STRATEGIES)
    num_workers = _num_workers()
    if name == "multi_worker" and not num_workers:
        raise ValueError(
            "TF_CONFIG must name the workers for strategy='multi_worker'. Received: "
            "none."
        )
    if name == "multi_worker" or (name == "auto" and num_workers > 1):
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name == "mirrored" or len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def is_single_worker(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process is the only one of the training."""
    return not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process is the one that writes the outputs."""
    if is_single_worker(strategy):
        return True
    resolver = strategy.cluster_resolver
    if "chief" in resolver.cluster_spec().jobs:
        return resolver.task_type == "chief"
    return (resolver.task_type, resolver.task_id) == ("worker", 0)


def check_batch_size(dataset: tf.data.Dataset, num_replicas: int) -> None:
    """Checks that `num_replicas` divides the batch size.

    Raises:
      ValueError: If it does not.
    """
    batch_size = tf.nest.flatten(dataset.element_spec)[0].shape[0]
    if batch_size is not None and batch_size % num_replicas:
        raise ValueError(
            "batch_size must be a multiple of the number of replicas, which get equal "
            f"parts. Received: {batch_size=}, {num_replicas=}."
        )


def prepare_for_workers(model: keras.Model, batch: Callable[[], Any]) -> None:
    """Makes `model.fit` work with MultiWorkerMirroredStrategy.

    Keras 3 averages the logs of all workers along their first axis, which scalars do
    not have (tensorflow#72388); here the steps of the model return vectors of length 1.
    Keras also averages the first batch to build the model, which fails for pairs; here
    the model is built with a batch that is not distributed.

    Args:
      model: A compiled model.
      batch: Returns one batch of its data.
    """

    def with_vectors(step):
        def step_with_vectors(data):
            return {name: tf.reshape(log, [1]) for name, log in step(data).items()}

        return step_with_vectors

    if not is_single_worker(model.distribute_strategy):
        with model.distribute_strategy.scope():
            model._symbolic_build(data_batch=batch())
        model._maybe_symbolic_build = lambda **_: None
        model.train_step = with_vectors(model.train_step)
        model.test_step = with_vectors(model.test_step)


def _num_workers():
    """Returns the number of workers in TF_CONFIG, including the chief."""
    spec = tf.distribute.cluster_resolver.TFConfigClusterResolver().cluster_spec()
    return sum(spec.num_tasks(j) for j in ("chief", "worker") if j in spec.jobs)


def map_shards(
    function: Callable[[tf.Tensor], tf.Tensor], batch: tf.Tensor, num_shards: int
) -> tf.Tensor:
    """Computes `function(batch)` in `num_shards` parts and concatenates the results.

    If each operation has one CPU thread, each core computes a part of the batch. For
    small images this is faster than sharing each operation among the cores.

    Args:
      function: Maps a batch of images to a batch of results; each result depends only
        on its image.
      batch: [batch, ...]; it is not split if its first dimension is unknown.
      num_shards: Largest number of parts; their sizes differ by one image at most.

    Returns:
      The results, in the order of the batch.
    """
    num_shards = min(num_shards, batch.shape[0] or 1)
    if num_shards == 1:
        return function(batch)
    size, larger = divmod(batch.shape[0], num_shards)
    sizes = [size + 1] * larger + [size] * (num_shards - larger)
    return tf.concat([function(shard) for shard in tf.split(batch, sizes)], 0)


def share_cores() -> int:
    """Sets one thread per operation if there is no GPU, for `map_shards`.

    Returns:
      The number of parts for `map_shards`: the number of cores, or 1 with a GPU.
    """
    if tf.config.list_physical_devices("GPU"):
        return 1
    tf.config.threading.set_intra_op_parallelism_threads(1)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def faster_precision() -> str | None:
    """Returns "mixed_bfloat16" if convolutions train faster in it here, else None.

    Few processors support bfloat16; the others emulate it and are many times slower.
    """
    seconds = {
        dtype: _seconds_of_convolution(dtype) for dtype in ("float32", "bfloat16")
    }
    return "mixed_bfloat16" if seconds["bfloat16"] < seconds["float32"] else None


def patches_pay() -> bool:
    """Returns whether `patch_gradients` makes a flow train faster, that is, on CPUs."""
    return not tf.config.list_physical_devices("GPU")


def _seconds_of_convolution(dtype):
    """Returns the shortest of ten times of a 3x3 convolution and its gradient."""

    @tf.function
    def gradient(images, kernel):
        with tf.GradientTape() as tape:
            tape.watch([images, kernel])
            result = tf.nn.conv2d(images, kernel, 1, "SAME")
        return tape.gradient(result, [images, kernel])

    def seconds():
        start = time.perf_counter()
        gradient(images, kernel)[1].numpy()
        return time.perf_counter() - start

    images, kernel = tf.ones((16, 32, 32, 64), dtype), tf.ones((3, 3, 64, 64), dtype)
    gradient(images, kernel)
    return min(seconds() for _ in range(10))
