"""The clean photographs that come with the package."""

from __future__ import annotations

from pathlib import Path

__all__ = ["PHOTOGRAPHS", "photographs"]

PHOTOGRAPHS = Path(__file__).parent / "photographs"
"""The folder of the photographs; `LICENSE.md` in it says where they come from."""


def photographs() -> list[Path]:
    """Returns the files of the photographs: color, 576 x 576 pixels, 8 bits."""
    return sorted(PHOTOGRAPHS.glob("*.webp"))
