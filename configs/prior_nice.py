"""NICE prior (Dinh et al. 2015) on crops of 32x32.

    train_prior --config prior_nice:gray --config.clean.spec=CLEAN \
        --config.validation.spec=HELD_OUT --workdir WORKDIR

Variants: gray, rgb, smoke (for tests, seconds).

Result of `gray`: 6.189 bits/dim on the validation pictures of train400 with noise of
5/255, after 700 steps in a minute on 2 cores (tools/ablate_prior.py). All of its 2,000
steps, and `rgb`, were not run.
"""

from __future__ import annotations

from ml_collections import config_dict

from tfflowdn import sections

VARIANTS = ("gray", "rgb", "smoke")


def get_config(variant: str = "gray") -> config_dict.ConfigDict:
    """Returns the configuration of a variant."""
    pick = sections.pick_by(variant, VARIANTS)
    size = pick(32, smoke=8)
    return sections.prior_config(
        prior=sections.prior(
            "nice",
            (size, size, pick(1, rgb=3)),
            num_levels=pick(2, smoke=1),
            num_steps=pick(6, smoke=2),
            hidden_channels=pick(64, smoke=4),
            base="normal",
            squeeze="space_to_depth",
        ),
        crops=sections.crops(batch_size=pick(32, smoke=4)),
        training=sections.training(
            num_steps=pick(2000, smoke=4),
            steps_per_epoch=pick(250, smoke=2),
            learning_rate=5e-3,
            warmup_steps=pick(100, smoke=1),
            clip_norm=50.0,
        ),
    )
