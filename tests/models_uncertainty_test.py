"""The predicted standard deviations: their scale, their reach and their training."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tfflowdn.metrics import Coverage
from tfflowdn.models import (
    COVERAGES,
    ResNetDenoiser,
    UncertaintyNetwork,
    WithUncertainty,
    coverage_loss,
)

SIGMA = 0.1


def pictures(shape, seed=0, sigma=1.0):
    return np.float32(sigma * np.random.default_rng(seed).standard_normal(shape))


@pytest.mark.parametrize("shape", [(2, 12, 15, 1), (1, 8, 8, 3), (1, 9, 10, 5)])
def test_deviations_have_the_shape_and_the_scale_of_the_pictures(shape):
    network = UncertaintyNetwork(shape[-1], hidden_channels=8)
    denoised, noisy = pictures(shape), pictures(shape, 1)
    std = np.array(network((denoised, noisy)))
    assert std.shape == shape
    assert (std > 0).all()
    twice = np.array(network((2 * denoised, 2 * noisy)))
    np.testing.assert_allclose(twice, 2 * std, rtol=1e-3, atol=1e-3)


def test_a_pixel_reaches_no_further_than_the_receptive_radius():
    network = UncertaintyNetwork(1, hidden_channels=4, num_layers=1)
    noisy = pictures((1, 40, 40, 1))
    changed = noisy.copy()
    changed[0, 20, 20] += 1
    zeros = np.zeros_like(noisy)
    difference = np.array(network((zeros, changed)) - network((zeros, noisy)))
    rows, columns = np.nonzero(np.abs(difference[0, ..., 0]) > 1e-6)
    reach = max(np.abs(rows - 20).max(), np.abs(columns - 20).max())
    assert 1 < reach <= network.receptive_radius


def test_the_loss_is_least_at_the_true_deviation():
    clean = np.zeros((1, 100, 100, 1), np.float32)
    denoised = pictures(clean.shape, sigma=SIGMA)

    def loss(std):
        predicted = np.stack([denoised, np.full_like(denoised, std)], -1)
        return float(np.mean(coverage_loss(clean, predicted)))

    losses = [loss(factor * SIGMA) for factor in (0.5, 0.8, 1.0, 1.25, 2.0)]
    assert np.argmin(losses) == 2


def test_training_covers_the_errors_and_leaves_the_denoiser():
    denoiser = ResNetDenoiser(1, num_blocks=1, hidden_channels=4)  # Removes nothing.
    before = [weights.copy() for weights in denoiser.get_weights()]
    network = UncertaintyNetwork(1, hidden_channels=8, num_layers=1)
    model = WithUncertainty(denoiser, network)
    scores = [Coverage(factor) for factor in COVERAGES]
    model.compile(keras.optimizers.Adam(0.02), loss=coverage_loss, metrics=scores)
    # The noise is twice as strong on the right side, where the pictures are brighter.
    side = np.repeat([1.0, 2.0], 8)[:, np.newaxis]
    clean = np.float32(np.broadcast_to(side, (64, 16, 16, 1)))
    noisy = clean + SIGMA * clean * pictures(clean.shape)
    model.fit(noisy, clean, batch_size=16, epochs=40, verbose=0)
    noisy = clean + SIGMA * clean * pictures(clean.shape, 1)
    logs = model.evaluate(noisy, clean, verbose=0, return_dict=True)
    assert logs["within_1"] == pytest.approx(COVERAGES[1.0], abs=0.03)
    assert logs["within_2"] == pytest.approx(COVERAGES[2.0], abs=0.03)
    std = np.array(model(noisy))[..., 1].mean((0, 1, 3))
    assert std[12:].mean() / std[:4].mean() == pytest.approx(2, rel=0.25)
    for was, weights in zip(before, denoiser.get_weights(), strict=True):
        np.testing.assert_array_equal(was, weights)


def test_a_saved_network_returns_equal_deviations(tmp_path):
    network = UncertaintyNetwork(1, hidden_channels=4, num_layers=2, seed=3)
    network.save(tmp_path / "uncertainty.keras")
    loaded = keras.models.load_model(tmp_path / "uncertainty.keras")
    inputs = pictures((1, 8, 8, 1)), pictures((1, 8, 8, 1), 1)
    np.testing.assert_array_equal(np.array(loaded(inputs)), np.array(network(inputs)))


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="must have the channels of the denoiser"):
        denoiser = ResNetDenoiser(3, num_blocks=1, hidden_channels=4)
        WithUncertainty(denoiser, UncertaintyNetwork(1, hidden_channels=4))
    with pytest.raises(ValueError, match="factor must be positive"):
        Coverage(0)
