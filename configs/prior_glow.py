"""Glow prior (Kingma and Dhariwal 2018) on crops of 32x32.

    train_prior --config prior_glow:gray --config.clean.spec=CLEAN \
        --config.validation.spec=HELD_OUT --workdir WORKDIR

Variants: gray (5.525 bits/dim on pictures of train400 with noise of 5/255, after 19
minutes on 2 cores), rgb (see the card of prior_rgb), multichannel (as many channels as
the pictures have), quickstart (trains in a minute), smoke (for tests, seconds).
"""

from __future__ import annotations

from tfflowdn import sections, variants


@variants.configuration("gray", "rgb", "multichannel", "quickstart", "smoke")
def get_config(pick: variants.Pick) -> variants.Config:
    return sections.prior_config(
        prior=sections.prior(
            "glow",
            (32, 32, pick(1, rgb=3, multichannel=0)),
            num_levels=pick(3, quickstart=2, smoke=2),
            num_steps=pick(8, quickstart=4, smoke=1),
            hidden_channels=pick(64, quickstart=32),
            squeeze="haar",
        ),
        training=sections.prior_training(
            num_steps=pick(36_000, quickstart=600),
            steps_per_epoch=pick(1000, quickstart=200),
            warmup_steps=pick(100, quickstart=20),
        ),
    )
