"""Describes measurements of pictures in plain sentences."""

from __future__ import annotations

import numpy as np

from tfflowdn.adapt.look import Look

__all__ = ["describe", "unit_name"]

LEANING = 0.3  # Skewness of noise that leans to one side.


def describe(look: Look) -> list[str]:
    """Returns ten plain sentences about the pictures, in their own units."""
    unit = unit_name(look)
    kind = {1: "gray", 3: "color"}.get(look.channels, f"{look.channels} channels")
    low, high = look.sizes
    dark, bright = look.noise[0], look.noise[-1]
    rows, columns = look.correlation
    reach = max(rows[0], columns[0])
    bits = int(np.ceil(np.log2(max(look.highest, 1) + 1)))
    integers = np.dtype(look.dtype).kind in "iu"
    used = f", {bits} bits are used" if integers else ""
    growth = (
        "grows with the brightness"
        if bright > 1.25 * dark
        else (
            "falls with the brightness"
            if bright < 0.8 * dark
            else "is about the same at all brightnesses"
        )
    )
    return [
        f"{look.num_files} files, {kind}, sides of {low} to {high} pixels; "
        f"{look.num_planes} planes were looked at.",
        f"Values: {look.dtype}, from {_short(look.lowest)} to {_short(look.highest)}"
        f"{used}.",
        f"Range: the networks see {_short(look.origin)} as 0 and "
        f"{_short(look.origin + look.unit)} as 1.",
        f"Noise: about {_short(np.median(look.noise))} {unit} in calm places.",
        f"By brightness: the noise {growth} ({_short(dark)} {unit} at "
        f"{_short(look.brightness[0])}, {_short(bright)} at "
        f"{_short(look.brightness[-1])}).",
        "Correlation: neighboring pixels have "
        + (
            f"similar noise ({reach:.2f})."
            if look.is_correlated
            else f"independent noise ({reach:.2f})."
        ),
        "Colors: "
        + (
            "the pictures are gray."
            if look.channels == 1
            else "the noise of the channels is correlated by "
            f"{look.color_correlation:.2f}."
        ),
        "Lean: the noise "
        + (
            f"leans to one side (skewness {look.skewness:.2f})."
            if abs(look.skewness) > LEANING
            else f"is about as often above as below (skewness {look.skewness:.2f})."
        ),
        "JPEG: the pictures "
        + (
            "were compressed as JPEG, which changes their noise."
            if look.jpeg
            else "show no JPEG compression."
        ),
        f"Defects: {100 * look.clipped[0]:.2g} % of the pixels are at the lowest and "
        f"{100 * look.clipped[1]:.2g} % at the highest value, and "
        f"{100 * look.hot:.2g} % are far from all their neighbors.",
    ]


def unit_name(look: Look) -> str:
    """Returns the name of the unit of stored values."""
    if look.dtype == "uint8":
        return "gray levels"
    return "counts" if np.dtype(look.dtype).kind in "iu" else "units"


def _short(value: float) -> str:
    """Returns a number with at most four digits, whole if it is large."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
