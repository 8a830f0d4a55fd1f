"""Parts of all tests: two CPU devices, tiny models and the autodiff Jacobian."""

from __future__ import annotations

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # Read once, when TensorFlow is imported.

import numpy as np
import pytest
import tensorflow as tf

from tfflowdn.models import FlowPrior

# Two replicas without a GPU; TensorFlow wants it said before its first operation.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)

# The files that take longest begin first: the two workers of pytest-xdist then end at
# about the same time.
LONGEST = (
    "training_workers_test.py",
    "scripts_test.py",
    "flows_test.py",
    "noise_model_test.py",
    "training_resume_test.py",
    "models_guarded_model_test.py",
    "models_unpaired_denoiser_test.py",
    "docs_test.py",
    "bijectors_test.py",
    "adapt_test.py",
    "serving_export_test.py",
    "models_flow_prior_test.py",
)


def pytest_configure(config):
    if hasattr(config.option, "loadscopereorder"):  # By the number of tests.
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    order = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture(scope="session")
def randomize():
    """Gives every trainable weight of layers or models a random value."""

    def randomize_weights(*owners, scale=0.3, seed=0):
        rng = np.random.default_rng(seed)
        for owner in owners:
            for weight in owner.trainable_weights:
                weight.assign(scale * rng.standard_normal(weight.shape))

    return randomize_weights


@pytest.fixture(scope="session")
def jacobian_log_det():
    """Gives log |det| of a map of images at each of a batch of points, by autodiff.

    Pictures of a batch are independent. So each point is repeated once for every
    output dimension, and one gradient of the trace gives all rows of the Jacobian.
    """

    def log_det(function, points):
        num_dims = int(np.prod(points.shape[1:]))
        repeated = tf.repeat(points, num_dims, axis=0)
        with tf.GradientTape() as tape:
            tape.watch(repeated)
            values = tf.reshape(function(repeated), [-1, num_dims, num_dims])
            traces = tf.linalg.trace(values)
        rows = tape.gradient(traces, repeated)
        jacobian = tf.reshape(rows, [-1, num_dims, num_dims])
        return np.linalg.slogdet(jacobian.numpy())[1]

    return log_det


@pytest.fixture(scope="session")
def count_ops():
    """Counts how often the graph of a function of images runs ops of some types.

    A function counts as often as it is called.
    """

    def count(function, shape, types=("Conv2D",)):
        spec = tf.TensorSpec(shape, tf.float32)
        graph = tf.function(function).get_concrete_function(spec).graph.as_graph_def()
        bodies = {f.signature.name: f.node_def for f in graph.library.function}

        def count_in(nodes):
            calls = [
                bodies[node.attr["f"].func.name] for node in nodes if "f" in node.attr
            ]
            return sum(node.op in types for node in nodes) + sum(map(count_in, calls))

        return count_in(graph.node)

    return count


@pytest.fixture(scope="session")
def make_prior(randomize):
    """Makes a tiny prior with random weights and, unless asked for, no noise."""

    def make(flow="nice", image_shape=(4, 4, 1), **kwargs):
        options = {"num_levels": 1, "hidden_channels": 2}
        options |= {} if flow == "real_nvp" else {"num_steps": 1}
        kwargs = {"flow_options": options, "dequantization": None, **kwargs}
        prior = FlowPrior(flow, image_shape, **kwargs)
        randomize(*prior.flow_layers)
        return prior

    return make


@pytest.fixture(scope="session")
def tiny_prior(make_prior):
    """A tiny Glow prior of gray 4x4 pictures; read only."""
    return make_prior("glow", trainable=False)


@pytest.fixture(scope="session")
def strategies():
    """One and two replicas, the only MirroredStrategy: a second one would clash."""
    return [
        tf.distribute.get_strategy(),
        tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]),
    ]
