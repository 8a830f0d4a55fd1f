"""The paper's own denoiser (Kattakinda and Rajagopalan 2020, arXiv 2009.11532).

    train_denoiser --config configs/denoiser_paper.py --config.noisy.spec=NOISY \
        --config.prior=PRIOR/best.keras --workdir WORKDIR

64 residual blocks of 8 channels at full resolution, from scratch under the objective,
with plain MSE and 1.5e-6 times the nats of a 3072-dimensional crop, as in the published
code: a lambda of 0.0046 for nats per dimension, the MAP weight of sigma = 12/255.

Variants: full (for a GPU; not run to its end by us), smoke (tests: seconds).
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
        prior="",
        denoiser="",
        noise="",
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
        validation={"noisy": "", "clean": ""},
        network={
            "num_blocks": pick(full=64, smoke=1),
            "hidden_channels": pick(full=8, smoke=4),
            "scale": 1,
            "use_bias": True,
            "precision": "float32",
            "seed": 0,
        },
        start={
            "crops": {
                "crop_size": pick(full=32, smoke=8),
                "batch_size": pick(full=16, smoke=4),
                "augment": True,
                "seed": 0,
                "zoom_range": (1.0, 1.0),
                "contrast_range": (1.0, 1.0),
            },
            "noise": {
                "max_sigma": 50 / 255,
                "gain_probability": 0.5,
                "correlated_probability": 0.25,
                "blur_range": (0.3, 1.5),
                "shared_probability": 0.5,
                "jpeg_probability": 0.0,
                "jpeg_quality_range": (60.0, 98.0),
            },
            "loss": {"noise_floor": config_dict.placeholder(float)},
            "training": {
                "num_steps": 0,
                "steps_per_epoch": pick(full=1000, smoke=2),
                "learning_rate": 1e-3,
                "optimizer": "adam",
                "warmup_steps": pick(full=200, smoke=1),
                "clip_norm": 1.0,
                "ema_momentum": config_dict.placeholder(float),
                "checkpoint_seconds": 60.0,
                "max_skipped": 0,
            },
        },
        objective={
            "crops": {
                "crop_size": pick(full=32, smoke=8),
                "batch_size": pick(full=64, smoke=4),
                "augment": True,
                "seed": 1,
                "zoom_range": (1.0, 1.0),
                "contrast_range": (1.0, 1.0),
            },
            "loss": {
                "blur_sigma": 0.0,
                "prior_weight": 1.5e-6 * 3072,
                "map_factor": config_dict.placeholder(float),
                "dequantize": False,
                "shift_grid": False,
                "initial_prior_factor": 1.0,
                "initial_blur_sigma": config_dict.placeholder(float),
                "annealing_steps": 0,
                "gradient_bound": config_dict.placeholder(float),
                "rehearsal_weight": 0.0,
                "seed": 0,
            },
            "training": {
                "num_steps": pick(full=100_000, smoke=4),
                "steps_per_epoch": pick(full=500, smoke=2),
                "learning_rate": 1e-3,
                "optimizer": "adam",
                "warmup_steps": pick(full=100, smoke=1),
                "clip_norm": 1.0,
                "ema_momentum": config_dict.placeholder(float),
                "checkpoint_seconds": 60.0,
                "max_skipped": 0,
            },
        },
        distill={
            "crops": {
                "crop_size": pick(full=32, smoke=8),
                "batch_size": pick(full=16, smoke=4),
                "augment": True,
                "seed": 2,
                "zoom_range": (1.0, 1.0),
                "contrast_range": (1.0, 1.0),
            },
            "noise": {"level_range": (1.0, 1.0)},
            "loss": {"noise_floor": config_dict.placeholder(float)},
            "training": {
                "num_steps": pick(full=4000, smoke=4),
                "steps_per_epoch": pick(full=1000, smoke=2),
                "learning_rate": 1e-3,
                "optimizer": "muon",
                "warmup_steps": pick(full=100, smoke=1),
                "clip_norm": 1.0,
                "ema_momentum": config_dict.placeholder(float),
                "checkpoint_seconds": 60.0,
                "max_skipped": 0,
            },
        },
    ).lock()
