"""The denoiser of Kattakinda and Rajagopalan (2020, arXiv 2009.11532).

    train_denoiser --config denoiser_paper --config.noisy.spec=NOISY \
        --config.prior=PRIOR/best.keras --workdir WORKDIR

It is trained from scratch under the objective, with plain MSE and 1.5e-6 times the nats
of a 3072-dimensional crop, as in the published code: the MAP weight of sigma = 12/255.

Variants: full (needs a GPU; we did not run it to its end), smoke (for tests, seconds).
"""

from __future__ import annotations

from tfflowdn import sections, variants


@variants.configuration("full", "smoke")
def get_config(_: variants.Pick) -> variants.Config:
    return sections.denoiser_config(
        network=sections.resnet(
            num_blocks=64, hidden_channels=8, scale=1, use_bias=True
        ),
        objective={
            "data_term": "blur",
            "crops": sections.crops(crop_size=32, batch_size=64, seed=1),
            "loss": sections.objective_loss(
                prior_weight=1.5e-6 * 3072,
                map_factor=None,
                dequantize=False,
                gradient_bound=None,
            ),
            "training": sections.training(num_steps=100_000, steps_per_epoch=500),
        },
    )
