"""Glow prior (Kingma and Dhariwal 2018) on crops of 32x32.

    train_prior --config configs/prior_glow.py:gray --config.clean.spec=CLEAN \
        --config.validation.spec=HELD_OUT --workdir WORKDIR

Variants: gray, rgb, quickstart (a minute), smoke (tests: seconds).
Result (gray): 5.525 bits/dim on the validation pictures of train400 with noise of
5/255, after 36,000 steps of 31 ms on 2 cores with bfloat16 (19 minutes); normflows'
Glow of the same size, by its own recipe, 5.578 in 30 minutes. rgb: see the card of
saved_models/prior_rgb.keras.
"""

from ml_collections import config_dict

VARIANTS = ("gray", "rgb", "quickstart", "smoke")


def get_config(variant: str = "gray") -> config_dict.ConfigDict:
    """Returns the configuration of a variant."""
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {VARIANTS}. Received: {variant=}.")

    def pick(full, **others):
        return others.get(variant, full)

    size = pick(full=32, smoke=8)
    return config_dict.create(
        prior={
            "flow": "glow",
            "image_shape": (size, size, pick(full=1, rgb=3)),
            "flow_options": {
                "num_levels": pick(full=3, quickstart=2, smoke=2),
                "num_steps": pick(full=8, quickstart=4, smoke=1),
                "hidden_channels": pick(full=64, quickstart=32, smoke=4),
                "conditioner": "plain",
                "num_residual_blocks": 1,
                "log_scale_bound": 2.0,
                "coupling": "affine",
                "split_prior": True,
                "squeeze": "haar",
                "logit_alpha": config_dict.placeholder(float),
                "recompute": False,
                "precision": config_dict.placeholder(str),
                "patch_gradients": config_dict.placeholder(bool),
            },
            "dequantization": "gaussian",
            "dequantization_sigma": 5 / 255,
            "seed": 0,
        },
        clean={
            "spec": "",
            "data_dir": config_dict.placeholder(str),
            "pixel_range": "dtype",
        },
        validation={"spec": "", "data_dir": config_dict.placeholder(str)},
        crops={
            "batch_size": pick(full=32, smoke=4),
            "augment": True,
            "seed": 0,
            "zoom_range": (1.0, 1.0),
            "contrast_range": (1.0, 1.0),
        },
        training={
            "num_steps": pick(full=36_000, quickstart=600, smoke=4),
            "steps_per_epoch": pick(full=1000, quickstart=200, smoke=2),
            "learning_rate": 5e-3,
            "optimizer": "adam",
            "warmup_steps": pick(full=100, quickstart=20, smoke=1),
            "clip_norm": 50.0,
            "ema_momentum": config_dict.placeholder(float),
            "checkpoint_seconds": 60.0,
            "max_skipped": 0,
        },
    ).lock()
