"""The shipped models: their outputs on a fixed picture are the recorded ones.

A change that alters results is caught here. After an intended change, such as a newly
trained model, record the statistics that the failing test shows.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tfflowdn.inference import find_model

SIZE = 64
TOLERANCE = 1e-5
# Model: mean, standard deviation and one pixel of the output, or log_prob per value.
RECORDED: dict[str, list[float]] = {
    "denoiser_camera": [0.5118135, 0.1909696, 0.7759883],
    "denoiser_gray": [0.5112391, 0.2139681, 0.7936996],
    "denoiser_rgb": [0.5117592, 0.1908909, 0.7700990],
    "prior_gray": [1.2302381],
    "prior_rgb": [0.5783625],
}


def noisy_picture(channels: int) -> np.ndarray:
    """Returns waves with noise, float32 [1, SIZE, SIZE, channels]."""
    ramp = np.linspace(0, 1, SIZE)
    waves = np.sin(9 * ramp[:, None, None] + 20 * ramp[:, None] ** 2)
    clean = 0.5 + 0.3 * waves * np.linspace(1, 0.8, channels)
    noise = np.random.default_rng(0).standard_normal(clean.shape)
    return np.float32(clean + 0.05 * noise)[np.newaxis]


def statistics(name: str) -> list[float]:
    """Returns the statistics of the output of a shipped model."""
    model = keras.models.load_model(find_model(name), compile=False)
    picture = noisy_picture(1 if name.endswith("gray") else 3)
    if name.startswith("prior"):
        return [float(model.log_prob(picture)[0]) / picture.size]
    denoised = np.float64(model(picture, training=False))
    return [denoised.mean(), denoised.std(), denoised[0, 20, 30, 0]]


@pytest.mark.parametrize("name", RECORDED)
def test_outputs_are_the_recorded_ones(name):
    np.testing.assert_allclose(statistics(name), RECORDED[name], atol=TOLERANCE)
