"""Trains a denoiser of saved_models/ on clean pictures with generic noise.

    python tools/train_general.py --data DATA --runs RUNS --kind gray

DATA holds the pictures that tools/prepare_general.py reads. RUNS gets the pictures and
the training; when it was killed, the same command continues it. Each kind starts from a
shipped denoiser (`--denoiser` names another file):

    gray    6,000 steps from denoiser_gray
    rgb     5,000 steps from denoiser_rgb
    camera  8,000 steps of `denoiser_resnet:camera` from denoiser_rgb, on BSDS only

`--steps` changes the number of steps; the learning rate ends with them. `--output` is a
file for the trained denoiser, such as saved_models/denoiser_gray.keras. There,
`--keep=0.25` takes a quarter of every weight from the denoiser that the training
started from: the average of both forgets less.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import harness
import prepare_general
from absl import flags

devices = harness.lazy("tfflowdn.devices")
inference = harness.lazy("tfflowdn.inference")
stages = harness.lazy("tfflowdn.stages")
training = harness.lazy("tfflowdn.training")

FLAGS = flags.FLAGS
GENERAL = {
    "start.crops.seed": 21,
    "start.noise.max_sigma": 0.235,  # 60 of 255.
    "start.noise.gain_probability": 0.3,
    "start.noise.correlated_probability": 0.2,
    "start.noise.row_probability": 0.08,
    "start.noise.impulse_probability": 0.1,
    "start.loss.noise_floor": 0.04,  # 10 of 255.
    "start.training.learning_rate": 8e-4,
    "start.training.max_skipped": 5,
}
# Kind: variant of denoiser_resnet, channels, pools of pictures, changes.
KINDS: dict[str, tuple[str, int, tuple[str, ...], dict[str, Any]]] = {
    "gray": (
        "start",
        1,
        prepare_general.POOLS,
        {**GENERAL, "denoiser": "denoiser_gray", "start.training.num_steps": 6000},
    ),
    "rgb": (
        "start",
        3,
        prepare_general.POOLS,
        {
            **GENERAL,
            "denoiser": "denoiser_rgb",
            "start.noise.shared_probability": 0.25,
            "start.training.num_steps": 5000,
        },
    ),
    "camera": (
        "camera",
        3,
        ("bsds400_color",),
        {"denoiser": "denoiser_rgb", "start.training.num_steps": 8000},
    ),
}


def make_config(kind: str, pictures: Path) -> Any:
    """Returns the configuration of the training of a kind, one of `KINDS`."""
    variant, _, _, changes = KINDS[kind]
    config = harness.config("denoiser_resnet", variant)
    config.update_from_flattened_dict(changes)
    config.clean.spec = str(pictures / "train")
    config.validation.clean = str(pictures / "clean")
    config.validation.noisy = str(pictures / "noisy")
    config.network.precision = "mixed_bfloat16"
    return config


def average(model: Any, other: Any, share: float) -> None:
    """Replaces `share` of every weight of `model` by the weight of `other`."""
    pairs = zip(model.get_weights(), other.get_weights(), strict=True)
    model.set_weights([(1 - share) * own + share * kept for own, kept in pairs])


def _main() -> None:
    folder = Path(FLAGS.runs, FLAGS.kind)
    _, channels, pools, _ = KINDS[FLAGS.kind]
    pictures = folder / "pictures"
    prepare_general.write_pictures(Path(FLAGS.data), pictures, channels, pools)
    config = make_config(FLAGS.kind, pictures)
    config.denoiser = FLAGS.denoiser or config.denoiser
    if FLAGS.steps:
        fit = config.start.training
        fit.num_steps = FLAGS.steps
        fit.steps_per_epoch = math.gcd(FLAGS.steps, fit.steps_per_epoch)
    trained = stages.train_denoiser(
        config,
        folder / "training",
        num_shards=devices.share_cores(),
    )
    if FLAGS.output:
        model = inference.load_denoiser(trained)
        first = inference.load_denoiser(config.denoiser)
        average(model, first, FLAGS.keep)
        training.save_copy(model, FLAGS.output, precision="float32")


if __name__ == "__main__":
    flags.DEFINE_string("data", None, "Folder of the data.", required=True)
    flags.DEFINE_string("runs", None, "Folder of the trainings.", required=True)
    flags.DEFINE_enum("kind", None, list(KINDS), "Denoiser to train.", required=True)
    flags.DEFINE_string("denoiser", None, "Denoiser to start from.")
    flags.DEFINE_integer("steps", None, "Steps of the training.", lower_bound=1)
    flags.DEFINE_string("output", None, "File to save the trained denoiser to.")
    flags.DEFINE_float("keep", 0.0, "Share of the first weights in --output.", 0.0, 1.0)
    harness.run(_main)
