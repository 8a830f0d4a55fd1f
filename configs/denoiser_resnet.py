"""Residual denoiser, 5 blocks of 64 channels on pictures squeezed by 2.

    train_denoiser --config configs/denoiser_resnet.py --config.noisy.spec=NOISY \
        --config.clean.spec=CLEAN --config.prior=PRIOR/best.keras --workdir WORKDIR

The prior decides whether pictures are gray or RGB. On CPUs with AVX512_BF16 and on
GPUs `--config.network.precision=mixed_bfloat16` is about 1.5 times faster.

Variants: full; from_scratch (the objective alone, no synthetic noise anywhere); camera
(for --config.denoiser=denoiser_rgb: the start with weak noise, correlated over pixels
and channels and compressed as JPEG, on crops of lowered contrast that are enlarged, as
soft to the pixel as a camera's, every level of noise counting alike; with --stage
distill and --config.denoiser=denoiser_camera, such crops with the noise of calm places,
at up to four times its level, which is higher elsewhere); quickstart (a minute);
smoke (tests: seconds).
Result (full): BSD68 at sigma 25, never told: 28.63 dB after the start (15 minutes on 2
cores in bfloat16, beside other work); the others in tools/results/quality/table.md,
tools/measure_quality.py.
"""

from ml_collections import config_dict

VARIANTS = ("full", "from_scratch", "camera", "quickstart", "smoke")


def get_config(variant: str = "full") -> config_dict.ConfigDict:
    """Returns the configuration of a variant."""
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {VARIANTS}. Received: {variant=}.")

    def pick(full, **others):
        return others.get(variant, full)

    noise_floor = 2 / 255 if variant == "camera" else config_dict.placeholder(float)
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
            "num_blocks": pick(full=5, quickstart=4, smoke=1),
            "hidden_channels": pick(full=64, quickstart=48, smoke=4),
            "scale": 2,
            "use_bias": False,
            "precision": "float32",
            "seed": 0,
        },
        start={
            "crops": {
                "crop_size": pick(full=64, quickstart=48, smoke=8),
                "batch_size": pick(full=16, smoke=4),
                "augment": True,
                "seed": 0,
                "zoom_range": pick(full=(1.0, 1.0), camera=(2.0, 4.0)),
                "contrast_range": pick(full=(1.0, 1.0), camera=(0.2, 1.0)),
            },
            "noise": {
                "max_sigma": pick(full=50, camera=12) / 255,
                "gain_probability": 0.5,
                "correlated_probability": pick(full=0.25, camera=0.9),
                "blur_range": (0.3, 1.5),
                "shared_probability": pick(full=0.5, camera=0.75),
                "jpeg_probability": pick(full=0.0, camera=0.8),
                "jpeg_quality_range": (60.0, 98.0),
            },
            "loss": {"noise_floor": noise_floor},
            "training": {
                "num_steps": pick(
                    full=6000, from_scratch=0, camera=4000, quickstart=2000, smoke=4
                ),
                "steps_per_epoch": pick(full=1000, quickstart=400, smoke=2),
                "learning_rate": pick(full=2e-3, camera=1e-3),
                "optimizer": "muon",
                "warmup_steps": pick(full=200, quickstart=50, smoke=1),
                "clip_norm": 1.0,
                "ema_momentum": config_dict.placeholder(float),
                "checkpoint_seconds": 60.0,
                "max_skipped": 0,
            },
        },
        objective={
            "crops": {
                "crop_size": pick(full=64, from_scratch=48, quickstart=48, smoke=8),
                "batch_size": pick(full=16, from_scratch=8, quickstart=8, smoke=4),
                "augment": True,
                "seed": 1,
                "zoom_range": (1.0, 1.0),
                "contrast_range": (1.0, 1.0),
            },
            "loss": {
                "blur_sigma": 0.0,
                "prior_weight": config_dict.placeholder(float),
                "map_factor": pick(full=0.45, from_scratch=0.35, quickstart=0.6),
                "dequantize": True,
                "shift_grid": False,
                "initial_prior_factor": 1.0,
                "initial_blur_sigma": config_dict.placeholder(float),
                "annealing_steps": 0,
                "gradient_bound": pick(full=10.0, from_scratch=1.0),
                "rehearsal_weight": pick(full=10.0, from_scratch=0.0, quickstart=0.0),
                "seed": 0,
            },
            "training": {
                "num_steps": pick(full=500, from_scratch=4000, quickstart=200, smoke=4),
                "steps_per_epoch": pick(
                    full=125, from_scratch=500, quickstart=100, smoke=2
                ),
                "learning_rate": pick(full=1e-4, from_scratch=2e-3),
                "optimizer": pick(full="adam", from_scratch="muon"),
                "warmup_steps": pick(full=50, from_scratch=100, quickstart=20, smoke=1),
                "clip_norm": 1.0,
                "ema_momentum": config_dict.placeholder(float),
                "checkpoint_seconds": 60.0,
                "max_skipped": 0,
            },
        },
        distill={
            "crops": {
                "crop_size": pick(full=64, smoke=8),
                "batch_size": pick(full=16, smoke=4),
                "augment": True,
                "seed": 2,
                "zoom_range": pick(full=(1.0, 1.0), camera=(2.0, 4.0)),
                "contrast_range": pick(full=(1.0, 1.0), camera=(0.2, 1.0)),
            },
            "noise": {"level_range": pick(full=(1.0, 1.0), camera=(1.0, 4.0))},
            "loss": {"noise_floor": noise_floor},
            "training": {
                "num_steps": pick(full=4000, camera=2000, smoke=4),
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
