"""Prepares a folder of pictures as a TFDS data set of sharded records.

    prepare_tfds --input PICTURES --name NAME --data_dir DATA

writes DATA/NAME/VERSION. Trainings read it with --config.clean.spec=tfds:NAME (or
tfds:NAME:VERSION:SPLIT) and --config.clean.data_dir=DATA; `tfds.load` also reads it.
The features are `image` (PNG of 8 or 16 bits) and `name`. The hash of a file decides
whether a picture belongs to the split `validation`: copies of a picture are in the same
split, and a picture stays in its split when others are added. Each shard is written
whole or not at all. The same command continues after a kill, and does nothing if all
shards are there. Other pictures under the same version are an error.

Example:
    prepare_tfds --input photos --name photos --data_dir data
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import math
import os
import re
from pathlib import Path

from absl import flags, logging

import tfflowdn
from tfflowdn.scripts import command

__all__ = ["check_names", "main", "prepare"]

FLAGS = flags.FLAGS


def _splits(paths, validation_share):
    """Returns the hashes of the files of each split, sorted, with their numbers."""
    unique = list(dict.fromkeys(paths))  # A stack has several pictures.
    with concurrent.futures.ThreadPoolExecutor() as pool:
        digests = dict(zip(unique, pool.map(_digest, unique), strict=True))
    splits = {"train": [], "validation": []}
    for number, digest in enumerate(digests[path] for path in paths):
        held_out = int(digest.hexdigest()[:8], 16) < validation_share * 16**8
        split = "validation" if held_out else "train"
        splits[split].append((digest.hexdigest(), number))
    return {name: sorted(split) for name, split in splits.items() if split}


def _digest(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256")


def _check_same(folder, splits, shard_size):
    """Checks that the files in `folder` are of the same pictures and shards."""
    plan = {"shard_size": shard_size, "splits": splits}
    digest = hashlib.sha256(json.dumps(plan).encode()).hexdigest()
    path = folder / ".plan"
    if not path.exists():
        tfflowdn.files.replace(path, lambda temporary: temporary.write_text(digest))
    elif path.read_text() != digest:
        raise ValueError(
            "A version must hold the pictures, the split and the shards that it was "
            f"begun with; raise --version for others. Received: {str(folder)!r}."
        )


def _write_shard(path, features, source, numbers):
    import numpy as np
    import tensorflow as tf

    def serialize(number):
        image = source.stored(number)
        if source.dtype == "uint16" and image.dtype == np.uint8:
            image = image.astype(np.uint16) * np.uint16(257)
        return features.serialize_example(
            {"image": image, "name": source.names[number]}
        )

    def write(temporary):
        with (
            tf.io.TFRecordWriter(str(temporary)) as writer,
            concurrent.futures.ThreadPoolExecutor() as pool,
        ):
            for record in pool.map(serialize, numbers):
                writer.write(record)

    tfflowdn.files.replace(path, write)


def prepare(
    source: tfflowdn.data.FileSource,
    folder: Path,
    *,
    validation_share: float = 0.1,
    shard_size: int = 256,
) -> None:
    """Writes a TFDS data set, or the shards that it lacks.

    Args:
      source: The pictures, of 8 or 16 bits.
      folder: NAME/VERSION in TFDS's directory.
      validation_share: Approximate share of the pictures in the split `validation`.
      shard_size: Pictures in a file.

    Raises:
      ValueError: If pictures are floats, or are not the pictures that `folder` was
        begun with.
      ImageReadError: If pictures cannot be read, for all of them, before any is
        written.
    """
    import tensorflow_datasets as tfds

    if source.dtype == "float32":
        raise ValueError(
            "A TFDS data set of pictures must have 8 or 16 bits. Received: "
            f"dtype={source.dtype}."
        )
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(
                shape=(None, None, source.channels),
                dtype=numpy_type(source.dtype),
                encoding_format="png",
            ),
            "name": tfds.features.Text(),
        }
    )
    if not (folder / "dataset_info.json").exists():
        source.verify()
    splits = _splits(source.paths, validation_share)
    folder.mkdir(parents=True, exist_ok=True)
    _check_same(folder, splits, shard_size)
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder,
        dataset_name=folder.parent.name,
        filetype_suffix="tfrecord",
        template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    )
    infos = []
    for split, files in splits.items():
        numbers = [number for _, number in files]
        num_shards = math.ceil(len(numbers) / shard_size)
        shards = [numbers[index::num_shards] for index in range(num_shards)]
        names = template.replace(split=split)
        paths = [Path(p) for p in names.sharded_filepaths(num_shards)]
        for path, shard in zip(paths, shards, strict=True):
            if not path.exists():
                _write_shard(path, features, source, shard)
                logging.info("%s has %d pictures", path.name, len(shard))
        info = tfds.core.SplitInfo(
            name=split,
            shard_lengths=[len(shard) for shard in shards],
            num_bytes=sum(path.stat().st_size for path in paths),
            filename_template=names,
        )
        infos.append(info)
    if not (folder / "dataset_info.json").exists():
        tfds.folder_dataset.write_metadata(
            data_dir=folder, features=features, split_infos=infos
        )


def check_names(*names: str) -> None:
    """Checks the names of folders.

    Raises:
      ValueError: If one of them is not one component of a path, or starts with a dot.
    """
    for name in names:
        if not re.fullmatch(r"[^./\\\0][^/\\\0]*", name):
            raise ValueError(
                "--name and --version must each be one component of a path, and must "
                f"not start with a dot. Received: {name!r}."
            )


def _main(argv):
    del argv
    check_names(FLAGS.name, FLAGS.version)
    source = tfflowdn.data.open_source(FLAGS.input, channels=FLAGS.channels)
    folder = Path(os.path.expanduser(FLAGS.data_dir)) / FLAGS.name / FLAGS.version
    prepare(
        source,
        folder,
        validation_share=FLAGS.validation_share,
        shard_size=FLAGS.shard_size,
    )
    logging.info("%d pictures are in %s", len(source), folder)


def main() -> None:
    """Runs the command."""
    flags.DEFINE_string("input", None, "Folder, or another source of files.")
    flags.DEFINE_string("name", None, "Name of the data set.")
    flags.DEFINE_string("version", "1.0.0", "Version of the data set.")
    flags.DEFINE_string("data_dir", "~/tensorflow_datasets", "TFDS's directory.")
    flags.DEFINE_integer(
        "channels", None, "1 or 3; by default the channels of the first picture."
    )
    flags.DEFINE_float("validation_share", 0.1, "Share of the validation split.")
    flags.DEFINE_integer("shard_size", 256, "Pictures in a file.")
    command.require("input", "name")
    command.run(_main)


def numpy_type(name: str) -> type:
    """Returns the NumPy type of a name, such as "uint8"."""
    import numpy as np

    return np.dtype(name).type


if __name__ == "__main__":
    main()
