"""Pairs of a noisy and a clean picture, matched by their names."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfflowdn.data import gaps
from tfflowdn.data.pixel_range import to_float
from tfflowdn.data.sources import FileSource

__all__ = ["pair_sources", "paired_images"]


def paired_images(
    noisy: FileSource,
    clean: FileSource,
    *,
    noisy_ending: str = "",
    clean_ending: str = "",
    cut: bool = False,
) -> tf.data.Dataset:
    """Returns one pass over pairs (noisy, clean), each float32 [H, W, C].

    Both are in units of the noisy source's range; percentiles are the noisy picture's.
    Other arguments and errors are the same as in `pair_sources`.

    Args:
      noisy: Noisy pictures.
      clean: Their references.
      noisy_ending: See `pair_sources`.
      clean_ending: See `pair_sources`.
      cut: Whether pairs with missing pixels are cut to the largest part without them;
        else these pixels are NaN.
    """
    noisy, clean = pair_sources(
        noisy, clean, noisy_ending=noisy_ending, clean_ending=clean_ending
    )

    def read(index: int) -> list[np.ndarray]:
        pair, limits = (
            [one.stored(index) for one in (noisy, clean)],
            noisy.limits(index),
        )
        missing = [gaps.find_gaps(picture) for picture in pair]
        units = [to_float(np.ma.getdata(picture), limits) for picture in pair]
        missing = [np.False_ if one is None else one for one in missing]
        if not cut:
            return [
                np.where(one, np.float32(np.nan), picture)
                for one, picture in zip(missing, units, strict=True)
            ]
        mask = np.broadcast_to(missing[0] | missing[1], units[0].shape)
        return [gaps.cut_gaps(np.ma.array(picture, mask=mask)) for picture in units]

    def load(index: tf.Tensor) -> tuple[tf.Tensor, ...]:
        pair = tf.numpy_function(read, [index], [tf.float32] * 2, stateful=False)
        return tuple(
            tf.ensure_shape(picture, [None, None, source.channels])
            for picture, source in zip(pair, (noisy, clean), strict=True)
        )

    pairs = tf.data.Dataset.range(len(noisy.paths))
    return pairs.map(load, num_parallel_calls=tf.data.AUTOTUNE)


def pair_sources(
    noisy: FileSource,
    clean: FileSource,
    *,
    noisy_ending: str = "",
    clean_ending: str = "",
) -> tuple[FileSource, FileSource]:
    """Matches two sources by file name without suffix.

    Args:
      noisy: Noisy pictures.
      clean: Their references, as many.
      noisy_ending: Removed from the end of the noisy names before matching ("_real").
      clean_ending: The same for the clean names ("_mean").

    Returns:
      The two sources, in the order of the noisy names.

    Raises:
      ValueError: A file is in both, a name is unmatched or ambiguous, or the sizes
        of a pair differ.
    """
    for source in (noisy, clean):
        if not isinstance(source, FileSource):
            kind = type(source).__name__
            raise ValueError(f"Pairs must be files, matched by name. Received: {kind}.")
    both = {p.resolve() for p in noisy.paths} & {p.resolve() for p in clean.paths}
    if both:
        raise ValueError(
            "The noisy and the clean source must be different files. "
            f"Received in both: {sorted(map(str, both))[:3]}."
        )
    noisy_keys, clean_keys = _stems(noisy, noisy_ending), _stems(clean, clean_ending)
    unmatched = sorted(noisy_keys.keys() ^ clean_keys.keys())
    if unmatched:
        raise ValueError(
            "Every noisy picture must have a clean one of the same name, and the "
            f"reverse. Received: {unmatched=}."
        )
    noisy = noisy.select(list(noisy_keys.values()))
    clean = clean.select([clean_keys[key] for key in noisy_keys])
    _check_same_sizes(noisy, clean)
    return noisy, clean


def _stems(source: FileSource, ending: str) -> dict[str, int]:
    stems: dict[str, int] = {}
    for index, name in enumerate(source.names):
        stem = name.rpartition(".")[0].removesuffix(ending)
        if stem in stems:
            clash = (source.names[stems[stem]], name)
            raise ValueError(
                f"Names must differ in more than suffix. Received: {clash=}."
            )
        stems[stem] = index
    return stems


def _check_same_sizes(noisy: FileSource, clean: FileSource) -> None:
    for name, noisy_size, clean_size in zip(
        noisy.names, noisy.sizes, clean.sizes, strict=True
    ):
        if noisy_size != clean_size:
            raise ValueError(
                f"The pictures of a pair must have one size. Received: {name=}, "
                f"{noisy_size=}, {clean_size=}."
            )
