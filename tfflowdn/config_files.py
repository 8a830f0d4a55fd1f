"""The configurations that come with the package."""

from __future__ import annotations

import runpy
from pathlib import Path

from ml_collections import config_dict

__all__ = ["configurations", "get_config"]


def configurations() -> dict[str, Path]:
    """Returns the files of the configurations that come with tfflowdn, by name."""
    package = Path(__file__).parent
    installed = package / "configs"
    folder = installed if installed.is_dir() else package.parent / "configs"
    files = sorted(folder.glob("*.py"))
    return {path.stem: path for path in files if not path.stem.startswith("_")}


def get_config(name: str) -> config_dict.ConfigDict:
    """Returns a configuration of the package.

    Args:
      name: `NAME[:VARIANT]`, with a name of `configurations`.

    Raises:
      ValueError: If there is no such name or variant.
    """
    name, _, variant = name.partition(":")
    known = configurations()
    if name not in known:
        raise ValueError(f"name must be one of {[*known]}. Received: {name=}.")
    get = runpy.run_path(str(known[name]))["get_config"]
    return get(variant) if variant else get()
