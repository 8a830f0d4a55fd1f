"""Every path that returns floats returns finite ones, or refuses in words."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import tfflowdn
from tfflowdn.models import FlowPrior, ResNetDenoiser
from tfflowdn.noise import NoiseModel

PICTURES = np.float32(np.random.default_rng(0).uniform(0.1, 0.9, (2, 4, 4, 1)))


def _broken(model):
    """Returns a model with a weight that is not finite in each of its arrays."""
    weights = model.get_weights()
    for weight in weights:
        if weight.dtype.kind == "f":
            weight.flat[0] = np.nan
    model.set_weights(weights)
    return model


@pytest.fixture(scope="module")
def prior():
    options = {"num_levels": 1, "num_steps": 1, "hidden_channels": 2}
    return _broken(FlowPrior("glow", (4, 4, 1), flow_options=options))


@pytest.fixture(scope="module")
def noise():
    return _broken(NoiseModel(order=1, num_knots=3))


@pytest.fixture(scope="module")
def network():
    return _broken(ResNetDenoiser(num_blocks=1, hidden_channels=2))


PRIOR_CALLS = {
    "sample": lambda prior: prior.sample(2, seed=0),
    "sample of a size": lambda prior: prior.sample(1, image_shape=(8, 6, 1)),
    "log_prob": lambda prior: prior.log_prob(PICTURES),
    "log_prob of any size": lambda prior: prior.log_prob(np.ones((1, 7, 5, 1))),
    "bits_per_dim": lambda prior: prior.bits_per_dim(PICTURES),
    "call": lambda prior: prior(PICTURES),
    "predict": lambda prior: prior.predict(PICTURES, verbose=0),
    "map": lambda prior: prior.likelihood_map(PICTURES[0]),
}
NOISE_CALLS = {
    "sample": lambda noise: noise.sample(PICTURES, [0, 0]),
    "sample of a level": lambda noise: noise.sample(PICTURES, [0, 0], [0.0, 0.0]),
    "log_prob": lambda noise: noise.log_prob(PICTURES, PICTURES),
    "log_prob of a level": lambda noise: noise.log_prob(PICTURES, PICTURES, 0.0),
    "level_curve": lambda noise: noise.level_curve(),
    "skewness_curve": lambda noise: noise.skewness_curve(),
    "autocorrelation": lambda noise: noise.autocorrelation(8),
}
OPTIONS = (
    *({}, {"strength": 0.5}, {"self_ensemble": True}, {"luminance_only": True}),
    *(
        {"transform": "asinh", "gain": 1.0, "offset": 0.0},
        {"transform": "anscombe", "gain": 0.1, "offset": 0.0},
    ),
    *({"pixel_range": "1%,99%"}, {"pixel_range": (0, 3)}, {"dtype": "float16"}),
    {"axes": "ZYX"},
)


@pytest.mark.parametrize("name", PRIOR_CALLS)
def test_a_prior_with_broken_weights(prior, name):
    with pytest.raises(ValueError, match=r"must be\s+finite"):
        PRIOR_CALLS[name](prior)


@pytest.mark.parametrize("name", NOISE_CALLS)
def test_a_noise_model_with_broken_weights(noise, name):
    with pytest.raises(ValueError, match=r"must be finite.*Received: \d+ of \d+ val"):
        NOISE_CALLS[name](noise)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_denoiser_with_broken_weights(network, options):
    picture = np.repeat(PICTURES[0], 3, -1)
    with pytest.raises(ValueError, match="must return finite values"):
        tfflowdn.Denoiser(network)(picture, **options)


def test_predictions_with_broken_weights(network):
    with pytest.raises(ValueError, match="predictions must be finite"):
        network.predict(PICTURES, verbose=0)


def test_a_temperature_that_is_too_high():
    options = {"num_levels": 1, "num_steps": 1, "hidden_channels": 2}
    prior = FlowPrior("nice", (4, 4, 1), flow_options=options)
    with pytest.raises(ValueError, match="temperature must be low enough"):
        prior.sample(2, temperature=3e38)
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be finite"):
        tf.function(prior.sample)(2, temperature=3e38)
    assert not np.isfinite(prior.sample(2, 3e38, allow_nonfinite=True)).all()


def test_numbers_that_are_too_large_for_a_noise_model():
    noise = NoiseModel(order=1, num_knots=3)
    with pytest.raises(ValueError, match="log-densities must be finite"):
        noise.log_prob(np.full((1, 4, 4, 1), 1e38, np.float32), PICTURES[:1], 0.0)
    for highest in (np.inf, np.nan, 0.5):
        with pytest.raises(ValueError, match="0 < low <= high, both finite"):
            noise.sample(PICTURES, [0, 0], level_range=(1.0, highest))
