"""Decides how to train from measurements of the pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfflowdn.adapt.look import Look
from tfflowdn.adapt.model_pick import CAMERA
from tfflowdn.checks import check_choice
from tfflowdn.inference import GENERAL, GENERAL_DENOISERS

__all__ = ["Decisions", "decide"]

EVIDENCE = ("residuals", "calm")
MIN_ZOOM = 2.0  # Softer pictures can be distinguished from sharp ones.


@dataclasses.dataclass(frozen=True)
class Decisions:
    """The decisions of `adapt`, with their reasons.

    Attributes:
      start: The model to start from.
      evidence: The source of the noise, see `stages.train_noise`.
      pixel_range: The stored values that become 0 and 1.
      zoom_range: Range of the factors by which clean crops are enlarged.
      level_range: Factors on the level of the learned noise.
      match_brightness: Whether the clean pictures get the brightness of the noisy ones.
      own_share: Share of the steps that learn from the noisy pictures themselves, see
        `stages.recorrupt`.
      prior: The prior of the scores in bits/dim.
      minutes: Time for everything, in minutes.
      reasons: A sentence for each decision, by its name.
    """

    start: str
    evidence: str
    pixel_range: str
    zoom_range: tuple[float, float] | None
    level_range: tuple[float, float]
    match_brightness: bool
    own_share: float
    prior: str
    minutes: float
    reasons: Mapping[str, str] = dataclasses.field(default_factory=dict)


def decide(
    look: Look,
    *,
    has_clean: bool,
    is_photograph: bool,
    is_camera: bool,
    minutes: float,
    overrides: Mapping[str, Any] | None = None,
) -> Decisions:
    """Makes the decisions, each with its reason.

    Args:
      look: Measurements of the noisy pictures.
      has_clean: Whether the user has given clean pictures.
      is_photograph: Whether the noisy pictures may be photographs.
      is_camera: Whether `denoiser_camera` suits most of them, see `suits_camera`.
      minutes: Time for everything, in minutes.
      overrides: Decisions of the user by name; None stands for no decision.

    Returns:
      The decisions. `zoom_range` is None where the softness must be measured.

    Raises:
      ValueError: If the evidence of the user is unknown.
    """
    made = {
        "start": _start(look, is_camera),
        "evidence": _evidence(is_camera),
        "pixel_range": (
            look.pixel_range,
            f"the pictures use the values from {look.lowest:g} to {look.highest:g}",
        ),
        "zoom_range": _zoom(has_clean, is_camera),
        "level_range": _levels(is_camera),
        "match_brightness": _brightness(has_clean, is_photograph),
        "own_share": (0.0, "training on clean pictures is better for most noise"),
        "prior": (
            "prior_gray" if look.channels == 1 else "prior_rgb",
            "it has the number of channels of the pictures",
        ),
        "minutes": (minutes, "--minutes"),
    }
    for name, value in (overrides or {}).items():
        if value is not None:
            made[name] = (value, "you have chosen it")
    if made["start"][0] == GENERAL:
        made["start"] = (GENERAL_DENOISERS[look.channels != 1], made["start"][1])
    check_choice("evidence", made["evidence"][0], EVIDENCE)
    values = {name: value for name, (value, _) in made.items()}
    return Decisions(**values, reasons={name: why for name, (_, why) in made.items()})


def _start(look: Look, is_camera: bool) -> tuple[str, str]:
    if is_camera:
        return CAMERA, "most pictures are as soft as a camera's own JPEG files"
    if look.channels == 3:
        return "denoiser_rgb", "the pictures are in color, and sharper than a camera's"
    return "denoiser_gray", "the pictures are gray"


def _evidence(is_camera: bool) -> tuple[str, str]:
    if is_camera:
        return (
            "calm",
            "noise of cameras reaches over many pixels, and denoisers miss much of it",
        )
    return "residuals", "the starting model removes most of such noise"


def _zoom(has_clean: bool, is_camera: bool) -> tuple[Any, str]:
    if has_clean and not is_camera:
        return (1.0, 1.0), "your clean pictures are of the same kind"
    return None, "measured: the clean pictures must be as soft as the noisy ones"


def _levels(is_camera: bool) -> tuple[tuple[float, float], str]:
    if is_camera:
        return (1.0, 4.0), "cameras smooth calm places, the noise is stronger elsewhere"
    return (1.0, 1.0), "the noise was measured everywhere"


def _brightness(has_clean: bool, is_photograph: bool) -> tuple[bool, str]:
    if has_clean or is_photograph:
        return False, "the clean pictures are of the same kind"
    return True, "photographs are brighter than these pictures"
