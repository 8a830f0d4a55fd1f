"""The errors that a denoiser leaves in each pixel, learned on clean pictures.

    train_uncertainty --config uncertainty --config.denoiser=DENOISER.keras \
        --config.noise=NOISE.keras --config.clean.spec=CLEAN --workdir WORKDIR

Without --config.noise, generic noise of many kinds is added.

Variants: full (a few minutes), smoke (for tests, seconds).
"""

from __future__ import annotations

from tfflowdn import sections, variants


@variants.configuration("full", "smoke")
def get_config(pick: variants.Pick) -> variants.Config:
    return sections.uncertainty_config(
        uncertainty={
            "hidden_channels": pick(32, smoke=4),
            "num_layers": 4,
            "num_features": 2,
            "scale": 2,
            "seed": 0,
        },
        crops=sections.crops(crop_size=64, batch_size=16, seed=5),
        generic_noise=sections.generic_noise(
            max_sigma=0.235,  # 60 of 255.
            row_probability=0.1,
            impulse_probability=0.1,
        ),
        training=sections.training(num_steps=2000, learning_rate=2e-3),
    )
