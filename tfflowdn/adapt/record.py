"""The record of an adaptation, a file that is written at each change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfflowdn import files

__all__ = ["Record", "tuples"]


class Record:
    """A JSON file that is written at each change."""

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self._path = path
        self.values: dict[str, Any] = {"inputs": identity}
        if path.exists():
            self.values = json.loads(path.read_text("utf-8"))

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.values[key] = json.loads(json.dumps(value))
        text = json.dumps(self.values, indent=2) + "\n"
        files.replace(self._path, lambda path: path.write_text(text, "utf-8"))

    def get(self, key: str) -> Any:
        """Returns a value, or None."""
        return self.values.get(key)

    def setdefault(self, key: str, value: Any) -> Any:
        """Returns a value; sets it if there is none."""
        if key not in self.values:
            self[key] = value
        return self.values[key]


def tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a dictionary of JSON with tuples in place of lists."""

    def convert(value: Any) -> Any:
        return tuple(map(convert, value)) if isinstance(value, list) else value

    return {name: convert(value) for name, value in values.items()}
