"""The paper's own prior (Kattakinda and Rajagopalan 2020, arXiv 2009.11532).

    train_prior --config configs/prior_paper.py:rgb --config.clean.spec=CLEAN \
        --config.validation.spec=HELD_OUT --workdir WORKDIR

Glow with 32 steps on each of 3 levels, conditioners 128 wide, 32x32 crops, logit with
alpha 0.05, learning rate 1e-3, as in the published code.

Variants: rgb (days on 2 cores: for a GPU; not run to its end by us), gray, smoke
(tests: seconds).
"""

from ml_collections import config_dict

VARIANTS = ("rgb", "gray", "smoke")


def get_config(variant: str = "rgb") -> config_dict.ConfigDict:
    """Returns the configuration of a variant."""
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {VARIANTS}. Received: {variant=}.")

    def pick(full, **others):
        return others.get(variant, full)

    size = pick(full=32, smoke=8)
    return config_dict.create(
        prior={
            "flow": "glow",
            "image_shape": (size, size, pick(full=3, gray=1, smoke=1)),
            "flow_options": {
                "num_levels": pick(full=3, smoke=2),
                "num_steps": pick(full=32, smoke=1),
                "hidden_channels": pick(full=128, smoke=4),
                "conditioner": "plain",
                "num_residual_blocks": 1,
                "log_scale_bound": 0.5,  # With 2.0, samples of 96 steps explode.
                "coupling": "affine",
                "split_prior": True,
                "squeeze": "space_to_depth",
                "logit_alpha": 0.05,
                "recompute": False,
                "precision": config_dict.placeholder(str),
                "patch_gradients": config_dict.placeholder(bool),
            },
            "dequantization": "uniform",
            "dequantization_sigma": 0.0,
            "seed": 0,
        },
        clean={
            "spec": "",
            "data_dir": config_dict.placeholder(str),
            "pixel_range": "dtype",
        },
        validation={"spec": "", "data_dir": config_dict.placeholder(str)},
        crops={
            "batch_size": pick(full=64, smoke=4),
            "augment": True,
            "seed": 0,
            "zoom_range": (1.0, 1.0),
            "contrast_range": (1.0, 1.0),
        },
        training={
            "num_steps": pick(full=100_000, smoke=4),
            "steps_per_epoch": pick(full=1000, smoke=2),
            "learning_rate": 1e-3,
            "optimizer": "adam",
            "warmup_steps": pick(full=1000, smoke=1),
            "clip_norm": 50.0,
            "ema_momentum": config_dict.placeholder(float),
            "checkpoint_seconds": 60.0,
            "max_skipped": 0,
        },
    ).lock()
