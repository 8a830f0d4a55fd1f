"""Residual denoiser, 5 blocks of 64 channels on pictures squeezed by 2.

    train_denoiser --config denoiser_resnet --config.noisy.spec=NOISY \
        --config.clean.spec=CLEAN --config.prior=PRIOR/best.keras --workdir WORKDIR

Variants, by the stages that they run:
  full: the start (generic noise on the clean pictures), then the objective (the noisy
    pictures under the prior). quickstart: the same in a minute.
  start: the start only; it needs no noisy pictures and no prior, and reaches 28.63 dB
    on BSD68 at an unknown sigma of 25 (15 minutes on 2 cores in bfloat16).
  objective: the objective only, for a trained --config.denoiser=DENOISER.
  likelihood: the same with the likelihood of the noise that `train_noise` has learned,
    --config.noise=NOISE/noise.keras, as the data term and in the rehearsal.
  from_scratch: the objective only, without any synthetic noise or clean pictures.
  noise2void: the noisy pictures only, by blind spots; no clean pictures, no prior.
  distill: pairs of clean pictures and noise that `train_noise` has learned, for
    --config.denoiser=DENOISER --config.noise=NOISE/noise.keras.
  camera: the start for --config.denoiser=denoiser_rgb, with weak, correlated noise and
    JPEG compression, on crops that are enlarged and of lower contrast.
  camera_distill: such crops with the noise of calm places at one to four times its
    level, since the level is higher elsewhere, for --config.denoiser=denoiser_camera.
  recorrupt: the noisy pictures with more of their learned noise, and half of each
    batch as in `distill`, for --config.denoiser=DENOISER --config.noise=NOISE.
  smoke, smoke_distill, smoke_likelihood, smoke_noise2void, smoke_recorrupt: for
    tests, seconds.
"""

from __future__ import annotations

from tfflowdn import sections, variants

LIKELIHOOD = ("likelihood", "smoke_likelihood")
STAGES = {
    "start": ("full", "start", "camera", "quickstart", "smoke"),
    "objective": (
        *("full", "objective", "from_scratch", "quickstart", "smoke"),
        *LIKELIHOOD,
    ),
    "distill": ("distill", "camera_distill", "smoke_distill"),
    "noise2void": ("noise2void", "smoke_noise2void"),
    "recorrupt": ("recorrupt", "smoke_recorrupt"),
}
SMALL = {"crop_size": 48, "batch_size": 8}
CAMERA_CROPS = {"zoom_range": (2.0, 4.0), "contrast_range": (0.2, 1.0)}
CAMERA_NOISE = {
    "max_sigma": 12 / 255,
    "correlated_probability": 0.9,
    "shared_probability": 0.75,
    "jpeg_probability": 0.8,
}


@variants.configuration(*sum(STAGES.values(), ()))
def get_config(pick: variants.Pick) -> variants.Config:
    stages = {"start": _start, "objective": _objective, "distill": _distill}
    stages |= {"noise2void": _noise2void, "recorrupt": _recorrupt}
    running = [name for name in STAGES if pick.variant in STAGES[name]]
    return sections.denoiser_config(
        network=sections.resnet(
            num_blocks=pick(5, quickstart=4),
            hidden_channels=pick(64, quickstart=48),
            residual="noise2void" not in running,
        ),
        **{name: stages[name](pick) for name in running},
    )


def _start(pick):
    crops = {"crop_size": pick(64, quickstart=48), **pick({}, camera=CAMERA_CROPS)}
    return {
        "crops": sections.crops(batch_size=16, **crops),
        "noise": sections.generic_noise(**pick({}, camera=CAMERA_NOISE)),
        "loss": sections.pair_loss(pick(None, camera=2 / 255)),
        "training": sections.training(
            num_steps=pick(6000, camera=4000, quickstart=2000),
            steps_per_epoch=pick(1000, quickstart=400),
            learning_rate=pick(2e-3, camera=1e-3),
            optimizer="muon",
            warmup_steps=pick(200, quickstart=50),
        ),
    }


def _objective(pick):
    sizes = pick(
        {"crop_size": 64, "batch_size": 16}, from_scratch=SMALL, quickstart=SMALL
    )
    return {
        "data_term": "noise" if pick.variant in LIKELIHOOD else "blur",
        "crops": sections.crops(**sizes, seed=1),
        "rehearsal": sections.rehearsal(**sizes),
        "loss": sections.objective_loss(
            map_factor=pick(0.45, likelihood=1.0, from_scratch=0.35, quickstart=0.6),
            gradient_bound=pick(10.0, from_scratch=1.0),
            rehearsal_weight=pick(10.0, from_scratch=0.0, quickstart=0.0),
        ),
        "training": sections.training(
            num_steps=pick(500, from_scratch=4000, quickstart=200),
            steps_per_epoch=pick(125, from_scratch=500, quickstart=100),
            learning_rate=pick(1e-4, from_scratch=2e-3),
            optimizer=pick("adam", from_scratch="muon"),
            warmup_steps=pick(50, from_scratch=100, quickstart=20),
        ),
    }


def _distill(pick):
    crops = pick({}, camera_distill=CAMERA_CROPS)
    return {
        "crops": sections.crops(crop_size=64, batch_size=16, seed=2, **crops),
        "noise": {"level_range": pick((1.0, 1.0), camera_distill=(1.0, 4.0))},
        "loss": sections.pair_loss(pick(None, camera_distill=2 / 255)),
        "training": sections.training(
            num_steps=pick(4000, camera_distill=2000), optimizer="muon"
        ),
    }


def _noise2void(_):
    return {
        "crops": sections.crops(crop_size=64, batch_size=16, seed=3),
        "loss": sections.blind_spot_loss(),
        "training": sections.training(
            num_steps=6000, learning_rate=2e-3, optimizer="muon", warmup_steps=200
        ),
    }


def _recorrupt(_):
    sizes = {"crop_size": 64, "batch_size": 8}
    return {
        "crops": sections.crops(**sizes, seed=3),
        "rehearsal": {"crops": sections.crops(**sizes, seed=1003)},
        "noise": {"level_range": (1.0, 1.0)},
        "loss": {"strength": 0.5},
        "training": sections.training(
            num_steps=2000, steps_per_epoch=500, learning_rate=5e-4, optimizer="muon"
        ),
    }
