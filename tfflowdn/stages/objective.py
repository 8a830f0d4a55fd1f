"""The objective: the network learns on the noisy pictures under the prior."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ml_collections import config_dict

from tfflowdn import data
from tfflowdn.checks import check_choice
from tfflowdn.models import FlowPrior, UnpairedDenoiser
from tfflowdn.noise import GenericNoise
from tfflowdn.stages.pairs import Batches, noisy_pairs, with_pairs
from tfflowdn.stages.pictures import check_given
from tfflowdn.stages.run import Run, Work

__all__ = ["DATA_TERMS", "objective", "rehearsed_pairs"]


def objective(section: config_dict.ConfigDict, run: Run) -> Work:
    """Trains on the noisy pictures, and rehearses pairs with synthetic noise.

    Args:
      section: `data_term` (a name of `DATA_TERMS`), `crops` (data.RandomCrops), `loss`
        (UnpairedDenoiser), `training` (training.fit), and, if `loss.rehearsal_weight`
        is above 0, `rehearsal` with `crops` of the clean pictures and `noise`
        (GenericNoise; with the data term "noise" the learned noise is rehearsed).
      run: The run.

    Raises:
      ValueError: If a model or pictures are missing, or a value is not valid.
    """
    check_choice("objective.data_term", section.data_term, DATA_TERMS)
    prior = run.prior
    _check_crop_size(section.crops.crop_size, prior)
    with run.strategy.scope():
        options = DATA_TERMS[section.data_term](run)
        denoiser = UnpairedDenoiser(run.network, prior, **options, **section.loss)
    rehearses = section.loss.rehearsal_weight > 0
    if rehearses:
        reason = "objective.loss.rehearsal_weight is above 0"
        check_given("clean.spec", run.config.clean.spec, "PICTURES", reason)
    crops = data.RandomCrops(run.pictures("noisy"), **section.crops)
    batches = with_pairs(crops, rehearsed_pairs(section, run)) if rehearses else crops
    identity = {"prior": run.digest("prior")}
    if "noise" in options:
        identity["noise"] = run.digest("noise")
    return Work(denoiser, batches, crops.names, identity)


def _learned_noise(run: Run) -> dict[str, Any]:
    """Returns the noise model, and a copy of the first network."""
    network = run.network
    if run.is_new:
        return {"noise": run.noise}
    reference = type(network).from_config(network.get_config())
    reference.set_weights(network.get_weights())
    return {"noise": run.noise, "reference": reference}


DATA_TERMS: dict[str, Callable[[Run], dict[str, Any]]] = {
    "blur": lambda _: {},
    "noise": _learned_noise,
}
"""The data terms by name: their arguments of UnpairedDenoiser."""


def rehearsed_pairs(section: config_dict.ConfigDict, run: Run) -> Batches:
    """Returns batches (synthetic, clean), which accompany the noisy pictures."""
    settings = section.rehearsal
    crops = data.RandomCrops(run.pictures("clean"), **settings.crops)
    noise = (
        run.noise if section.data_term == "noise" else GenericNoise(**settings.noise)
    )
    return noisy_pairs(crops, noise, settings.crops.seed)


def _check_crop_size(crop_size: int, prior: FlowPrior) -> None:
    if crop_size % prior.size_multiple:
        raise ValueError(
            f"objective.crops.crop_size must be divisible by {prior.size_multiple}, "
            f"the prior's 2**num_levels. Received: crop_size={crop_size}."
        )
