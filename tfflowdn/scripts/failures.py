"""The files of a batch that failed: their reasons in one message."""

from __future__ import annotations

import traceback
from pathlib import Path

__all__ = ["BatchError", "Failures"]

FORESEEN = (ValueError, OSError, MemoryError)


class BatchError(ValueError):
    """Some files of a batch failed, and the others did not.

    The traceback of each failure is a note, which `--traceback` shows.
    """


class Failures:
    """Collects the files that failed.

    Only texts are kept, because a traceback would keep the pixels in memory.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._notes: list[str] = []

    def __len__(self) -> int:
        """Returns the number of files that failed."""
        return len(self._lines)

    def add(self, path: Path | str, error: BaseException) -> None:
        """Adds a file with its error; unexpected errors are named with their type."""
        kind = "" if isinstance(error, FORESEEN) else f"{type(error).__name__}: "
        self._lines.append(f"{path}: {kind}{error}")
        self._notes.append("".join(traceback.format_exception(error)))

    def raise_any(self, total: int, output: Path | str) -> None:
        """Ends a batch: all failures become one error, if there are any.

        Args:
          total: Number of files of the batch.
          output: Folder of the results of the others.

        Raises:
          BatchError: If a file failed.
        """
        if not self._lines:
            return
        others = f"the others are in {output}"
        if len(self) == total:
            others = "nothing was written"
        count = f"{len(self)} of {total} pictures" if total > 1 else "The picture"
        lines = "\n".join(self._lines)
        error = BatchError(f"{count} failed, {others}. Received:\n{lines}")
        for note in self._notes:
            error.add_note(note)
        raise error
