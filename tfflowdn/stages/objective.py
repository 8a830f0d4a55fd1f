"""The objective: the network learns on the noisy pictures under the prior."""

from __future__ import annotations

from ml_collections import config_dict

from tfflowdn import data
from tfflowdn.models import FlowPrior, UnpairedDenoiser
from tfflowdn.noise import GenericNoise
from tfflowdn.stages.pairs import Batches, noisy_pairs, with_pairs
from tfflowdn.stages.pictures import check_given
from tfflowdn.stages.run import Run, Work

__all__ = ["objective", "rehearsed_pairs"]


def objective(section: config_dict.ConfigDict, run: Run) -> Work:
    """Trains on the noisy pictures, and rehearses pairs with synthetic noise.

    Args:
      section: `crops` (data.RandomCrops), `loss` (UnpairedDenoiser), `training`
        (training.fit), and, if `loss.rehearsal_weight` is above 0, `rehearsal` with
        `crops` of the clean pictures and `noise` (GenericNoise).
      run: The run.
    """
    prior = run.prior
    _check_crop_size(section.crops.crop_size, prior)
    with run.strategy.scope():
        denoiser = UnpairedDenoiser(run.network, prior, **section.loss)
    rehearses = section.loss.rehearsal_weight > 0
    if rehearses:
        reason = "objective.loss.rehearsal_weight is above 0"
        check_given("clean.spec", run.config.clean.spec, "PICTURES", reason)
    crops = data.RandomCrops(run.pictures("noisy"), **section.crops)
    batches = with_pairs(crops, rehearsed_pairs(section, run)) if rehearses else crops
    return Work(denoiser, batches, crops.names, {"prior": run.digest("prior")})


def rehearsed_pairs(section: config_dict.ConfigDict, run: Run) -> Batches:
    """Returns batches (synthetic, clean), which accompany the noisy pictures."""
    settings = section.rehearsal
    crops = data.RandomCrops(run.pictures("clean"), **settings.crops)
    return noisy_pairs(crops, GenericNoise(**settings.noise), settings.crops.seed)


def _check_crop_size(crop_size: int, prior: FlowPrior) -> None:
    if crop_size % prior.size_multiple:
        raise ValueError(
            f"objective.crops.crop_size must be divisible by {prior.size_multiple}, "
            f"the prior's 2**num_levels. Received: crop_size={crop_size}."
        )
