"""Collections of pictures in TensorFlow Datasets."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from typing import Any

import tensorflow as tf

from tfflowdn.data import pixel_range as ranges
from tfflowdn.data.image_source import ImageSource, check_channels

__all__ = ["TfdsSource", "open_tfds"]

_TFDS_SPEC = re.compile(r"tfds:(?P<name>[^:]+(:[\d*][\d.*]*)?)(:(?P<split>.+))?")


@dataclasses.dataclass(frozen=True)
class TfdsSource(ImageSource):
    """The feature "image" of a prepared TFDS split; see `open_source`.

    Attributes:
      examples: The pictures, as TFDS yields them.
      names: Running numbers.
      channels: 1 or 3.
      sizes: (height, width) of each if the data set has one size, else None.
      pixel_range: The values that become 0 and 1, see `data.check_range`.
    """

    examples: tf.data.Dataset
    names: tuple[str, ...]
    channels: int
    sizes: tuple[tuple[int, int], ...] | None
    pixel_range: str = "dtype"

    def dataset(self) -> tf.data.Dataset:
        """See `ImageSource.dataset`; "dtype" is the range of the stored dtype."""
        if self.pixel_range == "dtype":
            return self.examples
        return self.examples.map(self._normalize, tf.data.AUTOTUNE)

    def verify(self) -> None:
        """Does nothing: TFDS has decoded the pictures when it prepared them."""

    def _normalize(self, picture: tf.Tensor) -> tf.Tensor:
        function = functools.partial(ranges.normalize, self.pixel_range)
        result = tf.numpy_function(function, [picture], tf.float32, stateful=False)
        return tf.ensure_shape(result, picture.shape)


def open_tfds(
    spec: str,
    channels: int | None,
    data_dir: str | os.PathLike | None,
    pixel_range: str,
) -> TfdsSource:
    """Opens `tfds:NAME[:SPLIT]`; arguments and errors as in `open_source`.

    Raises:
      ValueError: If `spec` is not valid, or the data set has no pictures, no feature
        "image" or another number of channels.
    """
    match = _TFDS_SPEC.fullmatch(spec)
    if match is None:
        raise ValueError(f"A TFDS source must be tfds:NAME[:SPLIT]. Received: {spec=}.")
    dataset, info = _load_tfds(spec, match["name"], match["split"] or "train", data_dir)
    if "image" not in info.features:
        features = list(info.features)
        raise ValueError(f'{spec} must have a feature "image". Received: {features=}.')
    height, width, received = info.features["image"].shape
    channels = channels or received
    check_channels(spec, received, channels)
    num_images = int(dataset.cardinality())
    if num_images < 1:
        raise ValueError(f"{spec} must hold pictures. Received: {num_images=}.")
    return TfdsSource(
        examples=dataset.map(lambda example: example["image"]),
        names=tuple(f"{index:06d}" for index in range(num_images)),
        channels=channels,
        sizes=None if None in (height, width) else ((height, width),) * num_images,
        pixel_range=pixel_range,
    )


def _load_tfds(
    spec: str, name: str, split: str, data_dir: str | os.PathLike | None
) -> tuple[tf.data.Dataset, Any]:
    import tensorflow_datasets as tfds  # optional, and slow to import

    try:
        return tfds.load(
            name, split=split, data_dir=data_dir, download=False, with_info=True
        )
    except (AssertionError, OSError, tfds.core.DatasetNotFoundError) as error:
        raise FileNotFoundError(
            f"The TFDS data set must be prepared already (tfds build {name}), in "
            f"data_dir if one is given. Received: {spec=}, {data_dir=}; TFDS says: "
            f"{error}"
        ) from error
