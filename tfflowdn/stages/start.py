"""The start: the network learns to remove generic noise from the clean pictures."""

from __future__ import annotations

from ml_collections import config_dict

from tfflowdn.noise import GenericNoise
from tfflowdn.stages.run import Run, Work

__all__ = ["start"]


def start(section: config_dict.ConfigDict, run: Run) -> Work:
    """Trains on the clean pictures with synthetic noise of random kind and level.

    Args:
      section: `crops` (data.RandomCrops), `noise` (GenericNoise), `loss`
        (weighted_pairs), `training` (training.fit).
      run: The run.
    """
    return run.pair_work(section, GenericNoise(**section.noise))
