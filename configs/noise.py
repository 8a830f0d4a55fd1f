"""The noise of the noisy pictures, learned without pairs.

    train_noise --config noise --config.noisy.spec=NOISY \
        --config.clean.spec=CLEAN --config.denoiser=DENOISER --workdir WORKDIR

Variants: full (a few minutes), smoke (for tests, seconds).
"""

from __future__ import annotations

from tfflowdn import sections, variants


@variants.configuration("full", "smoke")
def get_config(pick: variants.Pick) -> variants.Config:
    return sections.noise_config(
        max_pictures=pick(256, smoke=4),  # Of each pool.
        max_side=512,  # Larger pictures are cropped to their middle.
        residuals={
            "num_rounds": pick(3, smoke=1),
            "white_below": 0.05,
            "crop_size": pick(48, smoke=16),
            "crops_per_picture": pick(32, smoke=4),
            "num_steps": 400,
            "seed": 0,
        },
        calm={
            "crop_size": pick(32, smoke=8),
            "calm_share": 0.1,
            "kept_share": 0.7,
            "num_trims": 2,
            "num_steps": 300,
        },
        model={"num_knots": 17, "order": 6, "smoothness": 0.1, "lines": True},
    )
