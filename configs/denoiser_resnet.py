"""Residual denoiser, 5 blocks of 64 channels on pictures squeezed by 2.

    train_denoiser --config denoiser_resnet --config.noisy.spec=NOISY \
        --config.clean.spec=CLEAN --config.prior=PRIOR/best.keras --workdir WORKDIR

The prior decides whether pictures are gray or RGB. On GPUs and on CPUs with
AVX512_BF16, `--config.network.precision=mixed_bfloat16` is about 1.5 times faster.

Variants, by the stages that they run:
  full: the start (generic noise on the clean pictures), then the objective (the noisy
    pictures under the prior).
  start: the start only; it needs no noisy pictures and no prior.
  objective: the objective only, for --config.denoiser=DENOISER, a trained denoiser.
  from_scratch: the objective only, without any synthetic noise or clean pictures.
  noise2void: the noisy pictures only, by blind spots; no clean pictures, no prior.
  distill: pairs of clean pictures and noise that `train_noise` has learned, for
    --config.denoiser=DENOISER --config.noise=NOISE/noise.keras.
  camera: the start for --config.denoiser=denoiser_rgb, with the weak noise of cameras:
    correlated over pixels and channels and compressed as JPEG, on crops that are
    enlarged until they are as soft as pictures of a camera, with lowered contrast.
  camera_distill: such crops with the noise of calm places at one to four times its
    level, since the level is higher elsewhere, for --config.denoiser=denoiser_camera.
  quickstart: start and objective in a minute.
  smoke, smoke_distill, smoke_noise2void: for tests, seconds.

Result of `start`: 28.63 dB on BSD68 at sigma 25, which it is not told (15 minutes on 2
cores in bfloat16, with other work running). tools/results/quality/table.md has the
other results, of tools/measure_quality.py.
"""

from __future__ import annotations

from typing import Any

from ml_collections import config_dict

from tfflowdn import sections

STAGES = {
    "full": ("start", "objective"),
    "start": ("start",),
    "objective": ("objective",),
    "from_scratch": ("objective",),
    "noise2void": ("noise2void",),
    "distill": ("distill",),
    "camera": ("start",),
    "camera_distill": ("distill",),
    "quickstart": ("start", "objective"),
    "smoke": ("start", "objective"),
    "smoke_distill": ("distill",),
    "smoke_noise2void": ("noise2void",),
}
VARIANTS = tuple(STAGES)
SMOKE = tuple(name for name in VARIANTS if name.startswith("smoke"))
CAMERA_NOISE = {
    "max_sigma": 12 / 255,
    "correlated_probability": 0.9,
    "shared_probability": 0.75,
    "jpeg_probability": 0.8,
}
CAMERA_CROPS = {"zoom_range": (2.0, 4.0), "contrast_range": (0.2, 1.0)}


def get_config(variant: str = "full") -> config_dict.ConfigDict:
    """Returns the configuration of a variant."""
    pick = sections.pick_by(variant, VARIANTS)
    stages = {
        "start": _start,
        "noise2void": _noise2void,
        "objective": _objective,
        "distill": _distill,
    }
    return sections.denoiser_config(
        network=sections.resnet(
            num_blocks=pick(5, quickstart=4, **dict.fromkeys(SMOKE, 1)),
            hidden_channels=pick(64, quickstart=48, **dict.fromkeys(SMOKE, 4)),
            residual=pick(True, noise2void=False, smoke_noise2void=False),
        ),
        **{name: stages[name](pick) for name in STAGES[variant]},
    )


def _start(pick) -> dict[str, Any]:
    return {
        "crops": sections.crops(
            crop_size=pick(64, quickstart=48, smoke=8),
            batch_size=pick(16, smoke=4),
            **pick({}, camera=CAMERA_CROPS),
        ),
        "noise": sections.generic_noise(**pick({}, camera=CAMERA_NOISE)),
        "loss": sections.pair_loss(pick(None, camera=2 / 255)),
        "training": sections.training(
            num_steps=pick(6000, camera=4000, quickstart=2000, smoke=4),
            steps_per_epoch=pick(1000, quickstart=400, smoke=2),
            learning_rate=pick(2e-3, camera=1e-3),
            optimizer="muon",
            warmup_steps=pick(200, quickstart=50, smoke=1),
        ),
    }


def _objective(pick) -> dict[str, Any]:
    sizes = {
        "crop_size": pick(64, from_scratch=48, quickstart=48, smoke=8),
        "batch_size": pick(16, from_scratch=8, quickstart=8, smoke=4),
    }
    return {
        "crops": sections.crops(**sizes, seed=1),
        "rehearsal": {
            "crops": sections.crops(**sizes, seed=1001),
            "noise": sections.generic_noise(),
        },
        "loss": sections.objective_loss(
            map_factor=pick(0.45, from_scratch=0.35, quickstart=0.6),
            gradient_bound=pick(10.0, from_scratch=1.0),
            rehearsal_weight=pick(10.0, from_scratch=0.0, quickstart=0.0),
        ),
        "training": sections.training(
            num_steps=pick(500, from_scratch=4000, quickstart=200, smoke=4),
            steps_per_epoch=pick(125, from_scratch=500, quickstart=100, smoke=2),
            learning_rate=pick(1e-4, from_scratch=2e-3),
            optimizer=pick("adam", from_scratch="muon"),
            warmup_steps=pick(50, from_scratch=100, quickstart=20, smoke=1),
        ),
    }


def _distill(pick) -> dict[str, Any]:
    return {
        "crops": sections.crops(
            crop_size=pick(64, smoke_distill=8),
            batch_size=pick(16, smoke_distill=4),
            seed=2,
            **pick({}, camera_distill=CAMERA_CROPS),
        ),
        "noise": {"level_range": pick((1.0, 1.0), camera_distill=(1.0, 4.0))},
        "loss": sections.pair_loss(pick(None, camera_distill=2 / 255)),
        "training": sections.training(
            num_steps=pick(4000, camera_distill=2000, smoke_distill=4),
            steps_per_epoch=pick(1000, smoke_distill=2),
            learning_rate=1e-3,
            optimizer="muon",
            warmup_steps=pick(100, smoke_distill=1),
        ),
    }


def _noise2void(pick) -> dict[str, Any]:
    return {
        "crops": sections.crops(
            crop_size=pick(64, smoke_noise2void=8),
            batch_size=pick(16, smoke_noise2void=4),
            seed=3,
        ),
        "loss": sections.blind_spot_loss(),
        "training": sections.training(
            num_steps=pick(6000, smoke_noise2void=4),
            steps_per_epoch=pick(1000, smoke_noise2void=2),
            learning_rate=2e-3,
            optimizer="muon",
            warmup_steps=pick(200, smoke_noise2void=1),
        ),
    }
