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
    names, omitted = [], {}
    for path in map(Path, inputs):
        if tfflowdn.data.is_picture(path):
            names.append((path, Path(path.name)))
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
        names += [(file, file.relative_to(path)) for file in listing.pictures]
    return _with_outputs(names, output), omitted


def _with_outputs(
    names: Sequence[tuple[Path, Path]], output: Path
) -> list[tuple[Path, Path]]:
    """Returns pairs of input and output files.

    Results in another format keep the suffix of the input where two outputs would have
    the same name: `a.nd2.ome.tif` and `a.dng.ome.tif`.
    """
    results = [
        (source, name, tfflowdn.data.result_name(name)) for source, name in names
    ]
    counts = collections.Counter(result for *_, result in results)
    pairs = []
    for source, name, result in results:
        if result != name and counts[result] > 1:
            added = result.name.removeprefix(name.stem)
            result = name.with_name(f"{name.name}{added}")
        pairs.append((source, output / result))
    return pairs


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
