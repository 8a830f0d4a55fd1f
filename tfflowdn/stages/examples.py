"""The few pictures by which a training is watched."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tfflowdn import data, inference
from tfflowdn.stages.run import Run, Work
from tfflowdn.training import Example

__all__ = ["examples"]

COUNT = 4


def examples(run: Run, works: Mapping[str, Work], side: int) -> list[Example]:
    """Returns four fixed pictures, the same for each stage of a run.

    They are validation pictures, else noisy pictures if a stage reads them, else the
    first pairs that the last stage trains on.

    Args:
      run: The run.
      works: The works of its stages.
      side: Larger pictures are cropped to their middle.
    """
    if run.validation is not None:
        pairs = run.validation.take(COUNT).as_numpy_iterator()
        found = [(noisy[0], clean[0]) for noisy, clean in pairs]
    elif (noisy := run.opened("noisy")) is not None:
        pool = noisy.dataset().take(COUNT)
        found = [(data.to_unit(picture).numpy(), None) for picture in pool]
    else:
        found = _first_pairs([*works.values()][-1])
    return [(_cut(noisy, side, run), _cut(clean, side, run)) for noisy, clean in found]


def _first_pairs(work: Work) -> list[Example]:
    batch = next(iter(work.batches(0)))
    noisy, clean = batch[:2] if isinstance(batch, tuple) else (batch, None)
    noisy = noisy[0] if isinstance(noisy, tuple) else noisy
    cleans = [None] * COUNT if clean is None else np.asarray(clean[:COUNT])
    return [*zip(np.asarray(noisy[:COUNT]), cleans, strict=False)]


def _cut(picture: np.ndarray | None, side: int, run: Run) -> np.ndarray | None:
    if picture is None:
        return None
    middle = inference.middle(picture, side)
    multiple = getattr(run.network, "scale", 1)
    height, width = (size // multiple * multiple for size in middle.shape[:2])
    return np.float32(middle[:height, :width])
