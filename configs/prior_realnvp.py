"""RealNVP prior (Dinh et al. 2017) on crops of 32x32.

    train_prior --config prior_realnvp:gray --config.clean.spec=CLEAN \
        --config.validation.spec=HELD_OUT --workdir WORKDIR

Variants: gray (5.686 bits/dim on pictures of train400 with noise of 5/255, after 420
steps in a minute on 2 cores), rgb, multichannel (the channels of
the pictures; both not run), smoke (for tests, seconds).
"""

from __future__ import annotations

from tfflowdn import sections, variants


@variants.configuration("gray", "rgb", "multichannel", "smoke")
def get_config(pick: variants.Pick) -> variants.Config:
    return sections.prior_config(
        prior=sections.prior(
            "real_nvp",
            (32, 32, pick(1, rgb=3, multichannel=0)),
            num_levels=pick(2, smoke=1),
            num_residual_blocks=pick(2, smoke=1),
            hidden_channels=32,
        ),
        training=sections.prior_training(num_steps=500, steps_per_epoch=125),
    )
