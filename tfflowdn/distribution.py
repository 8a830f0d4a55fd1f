"""Training on several devices and on several machines."""

from __future__ import annotations

import functools

import keras
import tensorflow as tf

__all__ = [
    "STRATEGIES",
    "check_batch_size",
    "is_chief",
    "is_single_worker",
    "make_strategy",
    "prepare_for_workers",
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
    if name not in STRATEGIES:
        raise ValueError(f"strategy must be one of {STRATEGIES}. Received: {name!r}.")
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
