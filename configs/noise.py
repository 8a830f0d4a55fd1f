"""Noise of the noisy pictures, learned without pairs.

    train_noise --config configs/noise.py --config.noisy.spec=NOISY \
        --config.clean.spec=CLEAN --config.denoiser=DENOISER --workdir WORKDIR

Variants: full (a few minutes), smoke (tests: seconds).
"""

from ml_collections import config_dict

VARIANTS = ("full", "smoke")


def get_config(variant: str = "full") -> config_dict.ConfigDict:
    """Returns the configuration of a variant."""
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {VARIANTS}. Received: {variant=}.")

    def pick(full, **others):
        return others.get(variant, full)

    return config_dict.create(
        denoiser="",
        noisy={
            "spec": "",
            "data_dir": config_dict.placeholder(str),
            "pixel_range": "dtype",
        },
        clean={
            "spec": "",
            "data_dir": config_dict.placeholder(str),
            "pixel_range": "dtype",
        },
        reference="",
        # What a denoiser takes away, or "calm": the calmest places of the pictures.
        evidence="residuals",
        # At most so many pictures of a pool, and so many pixels of a side of each.
        max_pictures=pick(full=256, smoke=4),
        max_side=512,
        residuals={
            "num_rounds": pick(full=3, smoke=1),
            "white_below": 0.05,
            "crop_size": pick(full=48, smoke=16),
            "crops_per_picture": pick(full=32, smoke=4),
            "batch_size": pick(full=64, smoke=4),
            "num_steps": pick(full=400, smoke=4),
            "learning_rate": 0.03,
            "seed": 0,
        },
        calm={
            "crop_size": pick(full=32, smoke=8),
            "calm_share": 0.1,
            "kept_share": 0.7,
            "num_trims": 2,
            "batch_size": pick(full=64, smoke=4),
            "num_steps": pick(full=300, smoke=4),
            "learning_rate": 0.03,
        },
        model={"num_knots": 17, "order": 6, "smoothness": 0.1},
    ).lock()
