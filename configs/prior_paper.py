"""The prior of Kattakinda and Rajagopalan (2020, arXiv 2009.11532).

    train_prior --config prior_paper:rgb --config.clean.spec=CLEAN \
        --config.validation.spec=HELD_OUT --workdir WORKDIR

It is a Glow with 32 steps on each of 3 levels, conditioners 128 wide, 32x32 crops, a
logit with alpha 0.05 and a learning rate of 1e-3, as in the published code.

Variants: rgb (needs a GPU, days on 2 cores; we did not run it to its end), gray, smoke
(for tests, seconds).
"""

from __future__ import annotations

from ml_collections import config_dict

from tfflowdn import sections

VARIANTS = ("rgb", "gray", "smoke")


def get_config(variant: str = "rgb") -> config_dict.ConfigDict:
    """Returns the configuration of a variant."""
    pick = sections.pick_by(variant, VARIANTS)
    size = pick(32, smoke=8)
    return sections.prior_config(
        prior=sections.prior(
            "glow",
            (size, size, pick(3, gray=1, smoke=1)),
            dequantization="uniform",
            dequantization_sigma=0.0,
            num_levels=pick(3, smoke=2),
            num_steps=pick(32, smoke=1),
            hidden_channels=pick(128, smoke=4),
            log_scale_bound=0.5,  # With 2.0, samples of 96 steps explode.
            coupling="affine",
            split_prior=True,
            squeeze="space_to_depth",
            logit_alpha=0.05,
        ),
        crops=sections.crops(batch_size=pick(64, smoke=4)),
        training=sections.training(
            num_steps=pick(100_000, smoke=4),
            steps_per_epoch=pick(1000, smoke=2),
            learning_rate=1e-3,
            warmup_steps=pick(1000, smoke=1),
            clip_norm=50.0,
        ),
    )
