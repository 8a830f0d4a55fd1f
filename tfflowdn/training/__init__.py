"""Training runs: one `fit` for every stage, with its directory and callbacks."""

from __future__ import annotations

from tfflowdn.training.checkpoint import Checkpoint
from tfflowdn.training.denoised_pictures import DenoisedPictures, Example
from tfflowdn.training.fit import check_steps, fit
from tfflowdn.training.optimizer import OPTIMIZERS, GuardedAdam, GuardedMuon
from tfflowdn.training.sample_grid import SampleGrid
from tfflowdn.training.save_checkpoint import PreemptionError
from tfflowdn.training.state import DivergenceError
from tfflowdn.training.step_summaries import StepSummaries
from tfflowdn.training.workdir import prepare_workdir, save_copy

__all__ = [
    "OPTIMIZERS",
    "Checkpoint",
    "DenoisedPictures",
    "DivergenceError",
    "Example",
    "GuardedAdam",
    "GuardedMuon",
    "PreemptionError",
    "SampleGrid",
    "StepSummaries",
    "check_steps",
    "fit",
    "prepare_workdir",
    "save_copy",
]
