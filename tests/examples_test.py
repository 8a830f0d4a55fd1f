"""The worked example of "Extend it": a flow with a step from outside the package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfflowdn import data, flows, sections, stages
from tfflowdn.models import FlowPrior

PATH = Path(__file__).parent.parent / "docs" / "examples" / "spline_coupling.py"
OPTIONS = {"num_levels": 1, "num_steps": 2, "hidden_channels": 3}


@pytest.fixture(scope="module", autouse=True)
def example():
    """The example, imported as a user's own module."""
    spec = importlib.util.spec_from_file_location("spline_coupling", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del flows.FLOWS["spline_glow"]


def _images(shape=(2, 4, 4, 1)):
    return tf.constant(np.random.default_rng(0).uniform(0, 1, shape))


def test_the_flow_is_exact(randomize, jacobian_log_det):
    flow = flows.FLOWS["spline_glow"]((4, 4, 1), dtype="float64", **OPTIONS)
    bijector, images = flow.bijector, _images()
    randomize(*bijector.layers)
    result = bijector.inverse_log_det_jacobian(images, event_ndims=3)
    expected = jacobian_log_det(bijector.inverse, images)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-9)
    latents = tf.identity(bijector.inverse(images))
    np.testing.assert_allclose(bijector.forward(latents), images, atol=1e-9)


def test_a_prior_of_it_is_saved_and_loaded(randomize, tmp_path):
    prior = FlowPrior("spline_glow", (4, 4, 1), flow_options=OPTIONS)
    randomize(*prior.flow_layers)
    prior.initialize(np.float32(_images()))
    prior.save(tmp_path / "prior.keras")
    loaded = keras.saving.load_model(tmp_path / "prior.keras")
    images = np.float32(_images((3, 6, 5, 1)))
    np.testing.assert_array_equal(loaded.log_prob(images), prior.log_prob(images))


def test_train_prior_trains_it(tmp_path):
    for name in "ab":
        rng = np.random.default_rng(ord(name))
        picture = rng.integers(0, 256, (16, 16, 1), np.uint8)
        data.write_image(tmp_path / f"{name}.png", picture)
    config = sections.prior_config(
        prior=sections.prior("spline_glow", (8, 8, 1), **OPTIONS),
        crops=sections.crops(batch_size=4),
        training=sections.training(
            num_steps=2, steps_per_epoch=2, learning_rate=1e-3, warmup_steps=1
        ),
    )
    config.clean.spec = config.validation.spec = str(tmp_path)
    path = stages.train_prior(config, tmp_path / "run")
    prior = keras.models.load_model(path, compile=False)
    assert prior.flow == "spline_glow" and prior.initialized
    assert np.isfinite(prior.log_prob(np.zeros((1, 8, 8, 1)))).all()
