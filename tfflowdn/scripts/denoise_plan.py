"""The files that `denoise` reads and writes."""

from __future__ import annotations

import collections
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from absl import logging

import tfflowdn

__all__ = ["check_outputs", "log_renamed", "plan"]


def plan(
    inputs: Sequence[str | Path], output: Path
) -> tuple[list[tuple[Path, Path]], Mapping[Path, str]]:
    """Returns the pairs of input and output files, and the files that are left out.

    Raises:
      ValueError: If an input has no pictures.
    """
    pairs, omitted = [], {}
    for path in map(Path, inputs):
        if tfflowdn.data.is_picture(path):
            pairs.append((path, output / tfflowdn.data.result_name(path.name)))
            continue
        # An output folder below the input holds results of an earlier run.
        is_inside = output.resolve() != path.resolve()
        left_out = [output.resolve()] if is_inside else []
        listing = tfflowdn.data.list_pictures(path, left_out)
        omitted |= listing.omitted
        if not listing.pictures:
            tfflowdn.data.log_omitted(omitted)
            raise ValueError(
                "An input must be a picture or a folder with pictures "
                f"({', '.join(tfflowdn.data.PICTURE_SUFFIXES)}). "
                f"Received: {str(path)!r}."
            )
        pairs += [
            (file, output / tfflowdn.data.result_name(file.relative_to(path)))
            for file in listing.pictures
        ]
    return pairs, omitted


def check_outputs(targets: Sequence[Path], overwrite: bool) -> None:
    """Checks that outputs differ, and do not exist unless they may be replaced.

    Raises:
      ValueError: If they do not.
    """
    counts = collections.Counter(targets)
    twice = sorted(str(target) for target, count in counts.items() if count > 1)
    if twice:
        raise ValueError(f"Two inputs must not share an output. Received: {twice[:3]}.")
    existing = [str(target) for target in targets if target.exists()]
    if existing and not overwrite:
        raise ValueError(
            "Outputs must not exist, or --overwrite must be set. "
            f"Received: {existing[:3]}, {len(existing)} in all."
        )


def log_renamed(pairs: Sequence[tuple[Path, Path]], written: Collection[Path]) -> None:
    """Logs the results that have another format than their inputs."""
    written = set(written)
    renamed = [
        f"  {source} as {target.name}"
        for source, target in pairs
        if source.name != target.name and target in written
    ]
    if renamed:
        noun = "result is an" if len(renamed) == 1 else "results are"
        logging.info(
            "%d %s OME-TIFF, because no library writes the format of the input:\n%s",
            len(renamed),
            noun,
            "\n".join(renamed),
        )
