"""The denoiser of Kattakinda and Rajagopalan (2020, arXiv 2009.11532).

    train_denoiser --config denoiser_paper --config.noisy.spec=NOISY \
        --config.prior=PRIOR/best.keras --workdir WORKDIR

It has 64 residual blocks of 8 channels at full resolution and is trained from scratch
under the objective, with plain MSE and 1.5e-6 times the nats of a 3072-dimensional
crop, as in the published code. This is a lambda of 0.0046 for nats per dimension, the
MAP weight of sigma = 12/255.

Variants: full (needs a GPU; we did not run it to its end), smoke (for tests, seconds).
"""

from __future__ import annotations

from ml_collections import config_dict

from tfflowdn import sections

VARIANTS = ("full", "smoke")


def get_config(variant: str = "full") -> config_dict.ConfigDict:
    """Returns the configuration of a variant."""
    pick = sections.pick_by(variant, VARIANTS)
    return sections.denoiser_config(
        network=sections.resnet(
            num_blocks=pick(64, smoke=1),
            hidden_channels=pick(8, smoke=4),
            scale=1,
            use_bias=True,
        ),
        objective={
            "crops": sections.crops(
                crop_size=pick(32, smoke=8), batch_size=pick(64, smoke=4), seed=1
            ),
            "loss": sections.objective_loss(
                prior_weight=1.5e-6 * 3072,
                map_factor=config_dict.placeholder(float),
                dequantize=False,
                gradient_bound=config_dict.placeholder(float),
            ),
            "training": sections.training(
                num_steps=pick(100_000, smoke=4),
                steps_per_epoch=pick(500, smoke=2),
                learning_rate=1e-3,
                warmup_steps=pick(100, smoke=1),
            ),
        },
    )
