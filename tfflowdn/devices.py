"""Devices: strategies, cores that share a batch, and the faster precision."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable

import keras
import tensorflow as tf

from tfflowdn.checks import check_choice

__all__ = [
    "STRATEGIES",
    "check_batch_size",
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


@functools.cache  # Two strategies of one process would mix up their all-reduces.
def make_strategy(name: str = "auto") -> tf.distribute.Strategy:
    """Returns the strategy of a name; the first thing that a process asks TensorFlow.

    Args:
      name: "mirrored" for all GPUs of this machine; "multi_worker" for those of all
        machines that the environment variable TF_CONFIG names; "auto" for the latter
        if there are several of them, else for the former if there are several GPUs,
        else for TensorFlow's default.

    Raises:
      ValueError: For another name, or if TF_CONFIG names no workers for
        "multi_worker".
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
    """Whether this process trains alone."""
    return not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes."""
    if is_single_worker(strategy):
        return True
    resolver = strategy.cluster_resolver
    if "chief" in resolver.cluster_spec().jobs:
        return resolver.task_type == "chief"
    return (resolver.task_type, resolver.task_id) == ("worker", 0)


def check_batch_size(dataset: tf.data.Dataset, num_replicas: int) -> None:
    """Raises ValueError unless the replicas get equal parts of the batches."""
    batch_size = tf.nest.flatten(dataset.element_spec)[0].shape[0]
    if batch_size is not None and batch_size % num_replicas:
        raise ValueError(
            "batch_size must be a multiple of the number of replicas, of which each "
            f"takes an equal part. Received: {batch_size=}, {num_replicas=}."
        )


def prepare_for_workers(model: keras.Model, batch) -> None:
    """Has `model.fit` work with MultiWorkerMirroredStrategy.

    Keras 3 averages the logs of all workers along their first axis, which scalars do
    not have (tensorflow#72388). Here the steps of this model return vectors of one.
    It also averages the first batch, to build the model by, which fails for pairs:
    here it is built by a batch that is not distributed.

    Args:
      model: A compiled model.
      batch: Gives one batch of its data.
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
    """Returns the number of workers, the chief too, that TF_CONFIG names."""
    spec = tf.distribute.cluster_resolver.TFConfigClusterResolver().cluster_spec()
    return sum(spec.num_tasks(j) for j in ("chief", "worker") if j in spec.jobs)


def map_shards(
    function: Callable[[tf.Tensor], tf.Tensor], batch: tf.Tensor, num_shards: int
) -> tf.Tensor:
    """Returns `function(batch)`, computed in `num_shards` parts and concatenated.

    On a CPU whose operations have one thread each, the cores then work on parts of the
    batch; it takes less time than to have them share each operation of the whole, as
    long as images are small.

    Args:
      function: From a batch of images to one of results, each of its image alone.
      batch: [batch, ...]. Where its first dimension is unknown, it stays whole.
      num_shards: The most parts; they differ by one image at most.
    """
    num_shards = min(num_shards, batch.shape[0] or 1)
    if num_shards == 1:
        return function(batch)
    size, larger = divmod(batch.shape[0], num_shards)
    sizes = [size + 1] * larger + [size] * (num_shards - larger)
    return tf.concat([function(shard) for shard in tf.split(batch, sizes)], 0)


def share_cores() -> int:
    """Gives each core its part of a batch, where there is no GPU.

    Returns:
      The number of parts: that of the cores, each with one thread an operation; 1
      with a GPU.
    """
    if tf.config.list_physical_devices("GPU"):
        return 1
    tf.config.threading.set_intra_op_parallelism_threads(1)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def faster_precision() -> str | None:
    """Returns "mixed_bfloat16" if this device trains convolutions faster in it.

    Few processors have bfloat16, and the others take many times as long to imitate it.
    """
    seconds = {
        dtype: _seconds_of_convolution(dtype) for dtype in ("float32", "bfloat16")
    }
    return "mixed_bfloat16" if seconds["bfloat16"] < seconds["float32"] else None


def patches_pay() -> bool:
    """Returns whether a flow trains faster with `patch_gradients`: without a GPU."""
    return not tf.config.list_physical_devices("GPU")


def _seconds_of_convolution(dtype):
    """Returns the least time of a 3x3 convolution and its gradient, of ten."""

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
