"""Adaptation of a denoiser to pictures: look, decide, train, compare."""

from __future__ import annotations

from tfflowdn.adapt.choose import Comparison, compare
from tfflowdn.adapt.decide import Decisions, decide
from tfflowdn.adapt.describe import describe
from tfflowdn.adapt.look import Look, choose_range, look_at
from tfflowdn.adapt.model_pick import (
    CAMERA,
    ModelPick,
    may_be_camera,
    pick_model,
)
from tfflowdn.adapt.pictures import Plane, find_files, read_planes
from tfflowdn.adapt.run import Adaptation
from tfflowdn.adapt.summary import write_summary

__all__ = [
    "CAMERA",
    "Adaptation",
    "Comparison",
    "Decisions",
    "Look",
    "ModelPick",
    "Plane",
    "choose_range",
    "compare",
    "decide",
    "describe",
    "find_files",
    "look_at",
    "may_be_camera",
    "pick_model",
    "read_planes",
    "write_summary",
]
