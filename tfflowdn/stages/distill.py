"""Distillation: the network learns to remove learned noise from the clean pictures."""

from __future__ import annotations

import functools

from ml_collections import config_dict

from tfflowdn.stages.run import Run, Work

__all__ = ["distill"]


def distill(section: config_dict.ConfigDict, run: Run) -> Work:
    """Trains on the clean pictures with the noise of a model of `train_noise`.

    Args:
      section: `crops` (data.RandomCrops), `noise` (NoiseModel.call), `loss`
        (weighted_pairs), `training` (training.fit).
      run: The run.
    """
    noise = functools.partial(run.noise, **section.noise)
    return run.pair_work(section, noise, {"noise": run.digest("noise")})
