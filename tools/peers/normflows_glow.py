"""Trains the Glow of normflows by the recipe of that library, on the protocol's crops.

    pip install torch==2.13.0 normflows==1.7.3 absl-py pillow
    python tools/peers/normflows_glow.py --clean PICTURES/clean \
        --validation PICTURES/validation_clean --workdir WORKDIR --steps 5000

PICTURES come from tools/prepare_protocol.py. `--time` measures the median step and
trains nothing. A killed run continues from WORKDIR/last.pt; history.csv and result.json
hold bits/dim as 8-bit data, of dequantized pixels.

The recipe is "Image generation with Glow" of normflows (glow.ipynb): GlowBlock with its
defaults (sigmoid scales, LU convolutions, ActNorm set by the first batch), Squeeze,
Merge, a learned diagonal Gaussian at every level, no logit, Adamax at 1e-3 with a
weight decay of 1e-5, and no step when the loss is not finite. There are no classes, so
that the Gaussians are not conditional. Levels, steps, width, crops and batch are from
configs/prior_glow.py:gray. The noise of 5/255 replaces the uniform jitter, so that the
densities are comparable.
"""

from __future__ import annotations

import csv
import json
import math
import os
import sys
import time
from pathlib import Path

import numpy as np
from absl import flags

sys.path.append(str(Path(__file__).resolve().parent.parent))
import harness  # noqa: E402

image = harness.lazy("PIL.Image")
torch = harness.lazy("torch")
torch_flows = harness.lazy("torch_flows")

FLAGS = flags.FLAGS
SIZE, BATCH = 32, 64
NUM_LEVELS, NUM_STEPS, HIDDEN_CHANNELS = 3, 8, 64
NOISE_SIGMA = 5 / 255
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-5


def _read(folder):
    """Returns the gray pictures of a folder, float32 [H, W] in [0, 1], by name."""
    paths = sorted(Path(folder).glob("*.png"))
    if not paths:
        raise ValueError(f"The folder must hold PNG pictures. Received: {folder=}.")
    return [np.asarray(image.open(p).convert("L"), np.float32) / 255 for p in paths]


def _random_crops(pictures, rng):
    """Returns crops [BATCH, 1, SIZE, SIZE], flipped and turned, with noise."""
    crops = np.empty((BATCH, 1, SIZE, SIZE), np.float32)
    for crop in crops:
        picture = pictures[rng.integers(len(pictures))]
        top, left = (rng.integers(n - SIZE + 1) for n in picture.shape)
        piece = picture[top : top + SIZE, left : left + SIZE]
        piece = np.rot90(piece, rng.integers(4))
        crop[0] = piece[:, ::-1] if rng.random() < 0.5 else piece
    return _with_noise(crops, rng)


def _tiles(pictures, rng):
    """Returns the centered grid of crops of each picture, with noise."""
    tiles = []
    for picture in pictures:
        rows, cols = (n // SIZE for n in picture.shape)
        top, left = (n % SIZE // 2 for n in picture.shape)
        grid = picture[top : top + rows * SIZE, left : left + cols * SIZE]
        grid = grid.reshape(rows, SIZE, cols, SIZE).transpose(0, 2, 1, 3)
        tiles.append(grid.reshape(-1, 1, SIZE, SIZE))
    return _with_noise(np.concatenate(tiles), rng)


def _with_noise(crops, rng):
    noise = rng.standard_normal(crops.shape, np.float32)
    return torch.from_numpy(crops + np.float32(NOISE_SIGMA) * noise)


def _bits_per_dim(nats_per_image):
    return nats_per_image / (SIZE * SIZE * math.log(2)) + 8


class _Training:
    """Model, optimizer and history; `step` counts the batches that were seen."""

    def __init__(self):
        torch.manual_seed(0)
        self.memory_format = getattr(torch, FLAGS.memory_format)
        flow = torch_flows.normflows_glow(
            (1, SIZE, SIZE), NUM_LEVELS, NUM_STEPS, HIDDEN_CHANNELS
        )
        self.model = flow.module.to(memory_format=self.memory_format)
        self.optimizer = torch.optim.Adamax(
            self.model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
        )
        self.step, self.seconds, self.skipped, self.rows = 0, 0.0, 0, []
        self.pictures = _read(FLAGS.clean)
        validation = _read(FLAGS.validation)
        self.validation = _tiles(validation, np.random.default_rng([0, 0]))

    def train_step(self):
        """Takes a step and returns its bits/dim."""
        crops = _random_crops(self.pictures, np.random.default_rng([1, self.step]))
        crops = crops.contiguous(memory_format=self.memory_format)
        self.optimizer.zero_grad()
        loss = self.model.forward_kld(crops)
        if torch.isfinite(loss):
            loss.backward()
            self.optimizer.step()
        else:
            self.skipped += 1
        self.step += 1
        return _bits_per_dim(loss.item())

    def train(self, num_steps):
        """Takes the steps to the next validation and adds a row."""
        start = time.perf_counter()
        bits = [self.train_step() for _ in range(num_steps)]
        self.seconds += time.perf_counter() - start
        self.rows.append(
            {
                "step": self.step,
                "train_bits_per_dim": float(np.mean(bits)),
                "validation_bits_per_dim": self.validate(),
                "seconds": self.seconds,
                "skipped_steps": self.skipped,
            }
        )

    def validate(self):
        """Returns the mean bits/dim of the validation crops."""
        with torch.no_grad():
            nats = [self.model(crops).mean() for crops in self.validation.split(100)]
        return _bits_per_dim(float(torch.stack(nats).mean()))

    def is_best(self):
        """Returns whether the last validation is the best one."""
        return self.rows[-1] == min(self.rows, key=_validation)

    def save(self, path):
        """Writes all that `load` needs."""
        state = {k: getattr(self, k) for k in ("step", "seconds", "skipped", "rows")}
        state["model"] = self.model.state_dict()
        state["optimizer"] = self.optimizer.state_dict()
        _replace(path, lambda temporary: torch.save(state, temporary))

    def load(self, path):
        """Continues where `save` was called."""
        state = torch.load(path)
        self.model.load_state_dict(state.pop("model"))
        self.optimizer.load_state_dict(state.pop("optimizer"))
        for name, value in state.items():
            setattr(self, name, value)


def _validation(row):
    bits = row["validation_bits_per_dim"]
    return bits if math.isfinite(bits) else math.inf


def _replace(path, write):
    temporary = path.with_name(f".tmp.{path.name}")
    write(temporary)
    os.replace(temporary, path)


def _write_history(path, rows):
    def write(temporary):
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    _replace(path, write)


def _main():
    torch.set_num_threads(FLAGS.threads)
    training = _Training()
    if FLAGS.time:
        harness.turns({"": training.train_step}, 5)
        times = harness.turns({"": training.train_step}, 30)
        (seconds,) = harness.medians(times).values()
        print(f"{1000 * seconds:.1f} ms a step, {1800 / seconds:.0f} in 30 minutes")
        return
    workdir = Path(FLAGS.workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    last = workdir / "last.pt"
    if last.exists():
        training.load(last)
    while training.step < FLAGS.steps:
        training.train(min(FLAGS.steps_per_epoch, FLAGS.steps - training.step))
        _write_history(workdir / "history.csv", training.rows)
        if training.is_best():
            training.save(workdir / "best.pt")
        training.save(last)
        print(training.rows[-1], flush=True)
    training.load(workdir / "best.pt")
    result = {
        **training.rows[-1],
        "validation_bits_per_dim": training.validate(),
        "num_parameters": sum(p.numel() for p in training.model.parameters()),
        "of_steps": FLAGS.steps,
    }
    (workdir / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    print(result)


if __name__ == "__main__":
    flags.DEFINE_string("clean", None, "Folder of the clean pictures.", required=True)
    flags.DEFINE_string(
        "validation", None, "Folder of the validation pictures.", required=True
    )
    flags.DEFINE_string("workdir", "normflows_glow", "Folder to write.")
    flags.DEFINE_integer("steps", 5000, "Steps.")
    flags.DEFINE_integer("steps_per_epoch", 500, "Steps between two validations.")
    flags.DEFINE_integer("threads", 2, "Threads of PyTorch.")
    flags.DEFINE_enum(
        "memory_format",
        "channels_last",
        ["channels_last", "contiguous_format"],
        "Memory format of images and kernels; take the faster one.",
    )
    flags.DEFINE_bool("time", False, "Measure the median step and stop.")
    harness.run(_main)
