"""NICE prior (Dinh et al. 2015) on crops of 32x32.

    train_prior --config prior_nice:gray --config.clean.spec=CLEAN \
        --config.validation.spec=HELD_OUT --workdir WORKDIR

Variants: gray (6.189 bits/dim on pictures of train400 with noise of 5/255, after 700
steps in a minute on 2 cores), rgb, multichannel (the channels of
the pictures; both not run), smoke (for tests, seconds).
"""

from __future__ import annotations

from tfflowdn import sections, variants


@variants.configuration("gray", "rgb", "multichannel", "smoke")
def get_config(pick: variants.Pick) -> variants.Config:
    return sections.prior_config(
        prior=sections.prior(
            "nice",
            (32, 32, pick(1, rgb=3, multichannel=0)),
            num_levels=pick(2, smoke=1),
            num_steps=pick(6, smoke=2),
        ),
        training=sections.prior_training(num_steps=2000, steps_per_epoch=250),
    )
