"""The networks by name."""

from __future__ import annotations

from typing import Any

from tfflowdn.checks import check_choice
from tfflowdn.models.network import DenoisingNetwork
from tfflowdn.models.resnet import ResNetDenoiser

__all__ = ["NETWORKS", "make_network"]

NETWORKS: dict[str, type[DenoisingNetwork]] = {"resnet": ResNetDenoiser}
"""The networks that `config.network.kind` can name."""


def make_network(
    channels: int, *, kind: str = "resnet", **options: Any
) -> DenoisingNetwork:
    """Returns a new network.

    Args:
      channels: Channels of the pictures, 1 or 3.
      kind: A key of `NETWORKS`.
      **options: Arguments of the network.

    Raises:
      ValueError: If `kind` is unknown.
    """
    check_choice("kind", kind, NETWORKS)
    return NETWORKS[kind](channels, **options)
