"""The prior of Kattakinda and Rajagopalan (2020, arXiv 2009.11532).

    train_prior --config prior_paper:rgb --config.clean.spec=CLEAN \
        --config.validation.spec=HELD_OUT --workdir WORKDIR

Variants: rgb (needs a GPU; not run to its end), gray, smoke (for tests, seconds). Sizes
and learning rate are from the published code.
"""

from __future__ import annotations

from tfflowdn import sections, variants


@variants.configuration("rgb", "gray", "smoke")
def get_config(pick: variants.Pick) -> variants.Config:
    return sections.prior_config(
        prior=sections.prior(
            "glow",
            (32, 32, pick(3, gray=1, smoke=1)),
            dequantization="uniform",
            dequantization_sigma=0.0,
            num_levels=pick(3, smoke=2),
            num_steps=pick(32, smoke=1),
            hidden_channels=128,
            log_scale_bound=0.5,  # With 2.0, samples of 96 steps explode.
            logit_alpha=0.05,
        ),
        crops=sections.crops(batch_size=64),
        training=sections.prior_training(
            num_steps=100_000, learning_rate=1e-3, warmup_steps=1000
        ),
    )
