"""Noise2Void: the network learns on the noisy pictures only, by blind spots."""

from __future__ import annotations

from ml_collections import config_dict

from tfflowdn import data
from tfflowdn.models import Noise2Void
from tfflowdn.stages.pictures import check_given
from tfflowdn.stages.run import Run, Work

__all__ = ["noise2void"]


def noise2void(section: config_dict.ConfigDict, run: Run) -> Work:
    """Trains on the noisy pictures; it needs no clean pictures and no prior.

    Args:
      section: `crops` (data.RandomCrops), `loss` (Noise2Void), `training`
        (training.fit).
      run: The run.
    """
    reason = "Noise2Void learns from noisy pictures"
    check_given("noisy.spec", run.config.noisy.spec, "PICTURES", reason)
    crops = data.RandomCrops(run.pictures("noisy"), **section.crops)
    with run.strategy.scope():
        model = Noise2Void(run.network, **section.loss)
    return Work(model, crops, crops.names)
