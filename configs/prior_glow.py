"""Glow prior (Kingma and Dhariwal 2018) on crops of 32x32.

    train_prior --config prior_glow:gray --config.clean.spec=CLEAN \
        --config.validation.spec=HELD_OUT --workdir WORKDIR

Variants: gray, rgb, quickstart (trains in a minute), smoke (for tests, seconds).

Result of `gray`: 5.525 bits/dim on the validation pictures of train400 with noise of
5/255, after 36,000 steps of 31 ms on 2 cores with bfloat16 (19 minutes). The Glow of
normflows, of the same size and trained by its own recipe, reaches 5.578 in 30 minutes.
The model card of saved_models/prior_rgb.keras has the result of `rgb`.
"""

from __future__ import annotations

from ml_collections import config_dict

from tfflowdn import sections

VARIANTS = ("gray", "rgb", "quickstart", "smoke")


def get_config(variant: str = "gray") -> config_dict.ConfigDict:
    """Returns the configuration of a variant."""
    pick = sections.pick_by(variant, VARIANTS)
    size = pick(32, smoke=8)
    return sections.prior_config(
        prior=sections.prior(
            "glow",
            (size, size, pick(1, rgb=3)),
            num_levels=pick(3, quickstart=2, smoke=2),
            num_steps=pick(8, quickstart=4, smoke=1),
            hidden_channels=pick(64, quickstart=32, smoke=4),
            log_scale_bound=2.0,
            coupling="affine",
            split_prior=True,
            squeeze="haar",
        ),
        crops=sections.crops(batch_size=pick(32, smoke=4)),
        training=sections.training(
            num_steps=pick(36_000, quickstart=600, smoke=4),
            steps_per_epoch=pick(1000, quickstart=200, smoke=2),
            learning_rate=5e-3,
            warmup_steps=pick(100, quickstart=20, smoke=1),
            clip_norm=50.0,
        ),
    )
