"""Trains the priors, and Glow with each switch alone, for the same time each.

    python tools/ablate_prior.py --clean CLEAN --validation HELD_OUT --output ABLATION \
        --minutes 30 --step_ms 47

A variant's step is timed in turns with the default Glow's, so that the load of the
machine cancels. Their ratio times `--step_ms`, the default's step on the idle machine
(tools/benchmark_training.py), says how many steps fit into `--minutes`; with them it
trains as `train_prior` does, its cosine over its own number of steps. ABLATION gets a
JSON for each variant and, from these, table.md. A variant with a JSON is left as it is,
and one that was killed goes on; `--only` picks some.
"""

from __future__ import annotations

import csv
import json
import runpy
import time
from pathlib import Path

import keras
import numpy as np
from absl import app, flags, logging
from ml_collections import config_dict

from tfflowdn import devices
from tfflowdn.models import FlowPrior
from tfflowdn.stages.prior import train_prior
from tfflowdn.training.optimizer import OPTIMIZERS

FLAGS = flags.FLAGS
CONFIGS = Path(__file__).resolve().parent.parent / "configs"
NUM_EPOCHS = 10
DEFAULT = "glow"

# Variant: configuration, what is changed in it, and the variant to compare with.
VARIANTS = {
    "glow": ("prior_glow", {}, "glow"),
    "nice": ("prior_nice", {}, "glow"),
    "nice, logistic base": (
        "prior_nice",
        {"prior.flow_options.base": "logistic"},
        "nice",
    ),
    "real_nvp": ("prior_realnvp", {}, "glow"),
    "real_nvp, growing width": (
        "prior_realnvp",
        # At the others' rate its loss rises after 68 steps, and the training stops.
        {"prior.flow_options.hidden_growth": 2, "training.learning_rate": 2e-3},
        "real_nvp",
    ),
    "real_nvp, split prior": (
        "prior_realnvp",
        {"prior.flow_options.split_prior": True},
        "real_nvp",
    ),
    "no split prior": ("prior_glow", {"prior.flow_options.split_prior": False}, "glow"),
    "space_to_depth": (
        "prior_glow",
        {"prior.flow_options.squeeze": "space_to_depth"},
        "glow",
    ),
    "residual, 32 wide": (
        "prior_glow",
        {
            "prior.flow_options.conditioner": "residual",
            "prior.flow_options.hidden_channels": 32,
        },
        "glow",
    ),
    "gated, 32 wide": (
        "prior_glow",
        {
            "prior.flow_options.conditioner": "gated",
            "prior.flow_options.hidden_channels": 32,
        },
        "glow",
    ),
    "spline": ("prior_glow", {"prior.flow_options.coupling": "spline"}, "glow"),
    "additive": ("prior_glow", {"prior.flow_options.coupling": "additive"}, "glow"),
    "log-scales within 0.5": (
        "prior_glow",
        {"prior.flow_options.log_scale_bound": 0.5},
        "glow",
    ),
    "float32": ("prior_glow", {"prior.flow_options.precision": "float32"}, "glow"),
    "batches of 64": ("prior_glow", {"crops.batch_size": 64}, "glow"),
    "batches of 16": ("prior_glow", {"crops.batch_size": 16}, "glow"),
    "ema": ("prior_glow", {"training.ema_momentum": 0.999}, "glow"),
    "Muon": ("prior_glow", {"training.optimizer": "muon"}, "glow"),
    "uniform": ("prior_glow", {"prior.dequantization": "uniform"}, "uniform"),
    "variational": ("prior_glow", {"prior.dequantization": "variational"}, "uniform"),
}


def _config(name):
    """Returns the configuration of a variant, its number of steps not yet set."""
    file, changes, _ = VARIANTS[name]
    config = runpy.run_path(str(CONFIGS / f"{file}.py"))["get_config"](FLAGS.size)
    config.update_from_flattened_dict(changes)
    config.clean.spec, config.validation.spec = FLAGS.clean, FLAGS.validation
    return config


def _stepper(config: config_dict.ConfigDict, num_shards: int, precision: str | None):
    """Returns a function that takes one training step, and the number of weights."""
    config = config.copy_and_resolve_references()
    config.prior.flow_options.precision = (
        config.prior.flow_options.precision or precision
    )
    prior = FlowPrior(**config.prior)
    prior.num_shards = num_shards
    shape = (config.crops.batch_size, *config.prior.image_shape)
    images = np.random.default_rng(0).random(shape, np.float32)
    momentum = config.training.ema_momentum
    prior.compile(
        OPTIMIZERS[config.training.optimizer](
            1e-5,
            clip_norm=config.training.clip_norm,
            use_ema=momentum is not None,
            ema_momentum=momentum or 0.0,
        )
    )
    prior.initialize(images)
    prior.optimizer.build(prior.trainable_variables)
    num_weights = sum(int(np.prod(w.shape)) for w in prior.trainable_weights)
    return lambda: prior.train_on_batch(images), num_weights


def _seconds(step):
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def _ratio(step, default):
    """Returns the median of the ratios of steps that were taken in turns."""
    for _ in range(3):
        step()
        default()
    pairs = [(_seconds(step), _seconds(default)) for _ in range(FLAGS.timed_steps)]
    return float(np.median([ours / theirs for ours, theirs in pairs]))


def _plan(name, path, **device):
    """Measures a variant's step and writes how many fit into the time."""
    step, num_weights = _stepper(_config(name), **device)
    ratio = 1.0
    if name != DEFAULT:
        default, _ = _stepper(_config(DEFAULT), **device)
        ratio = _ratio(step, default)
    step_seconds = ratio * FLAGS.step_ms / 1000
    epoch_steps = max(1, round(60 * FLAGS.minutes / step_seconds / NUM_EPOCHS))
    plan = {
        "variant": name,
        "baseline": VARIANTS[name][2],
        "changes": VARIANTS[name][1],
        "minutes": FLAGS.minutes,
        "num_weights": num_weights,
        "step_ratio": ratio,
        "steps_per_epoch": epoch_steps,
    }
    path.write_text(json.dumps(plan))
    keras.backend.clear_session()


def _train(name, folder, **device):
    """Trains a variant, or what is left of it, and writes its JSON."""
    workdir = folder / _file_name(name)
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / "plan.json"
    if not path.exists():
        _plan(name, path, **device)
    plan = json.loads(path.read_text())
    config = _config(name)
    config.training.steps_per_epoch = plan["steps_per_epoch"]
    config.training.num_steps = NUM_EPOCHS * plan["steps_per_epoch"]
    try:
        train_prior(config, workdir, **device)
        with (workdir / "history.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        bits = [float(row["val_bits_per_dim"]) for row in rows]
        result = {"bits_per_dim": min(bits), "by_epoch": bits}
    except ArithmeticError as error:
        result = {"bits_per_dim": None, "error": str(error)}
    result = {**plan, "num_steps": config.training.num_steps, **result}
    (folder / f"{workdir.name}.json").write_text(json.dumps(result, indent=1))


def _write_table(folder):
    paths = (folder / f"{_file_name(name)}.json" for name in VARIANTS)
    results = [json.loads(path.read_text()) for path in paths if path.exists()]
    bits = {result["variant"]: result["bits_per_dim"] for result in results}
    lines = [
        "| variant | step | steps | weights | bits/dim | gain |",
        "| --- | --: | --: | --: | --: | --- |",
    ]
    for result in results:
        name, baseline = result["variant"], result["baseline"]
        own, other = bits[name], bits.get(baseline)
        comparable = None not in (own, other) and name != baseline
        gain = f"{other - own:+.3f} over {baseline}" if comparable else ""
        shown = "not finite" if own is None else f"{own:.3f}"
        lines.append(
            f"| {name} | {result['step_ratio']:.2f} | {result['num_steps']} | "
            f"{result['num_weights']:,} | {shown} | {gain} |"
        )
    (folder / "table.md").write_text("\n".join(lines) + "\n")


def _file_name(name):
    return name.replace(",", "").replace(" ", "_")


def _main(argv):
    del argv
    device = {"num_shards": devices.share_cores()}
    device["precision"] = devices.faster_precision()
    unknown = set(FLAGS.only) - set(VARIANTS)
    if unknown:
        raise ValueError(
            f"only must name some of {tuple(VARIANTS)}. Received: {sorted(unknown)}."
        )
    folder = Path(FLAGS.output)
    for name in FLAGS.only or VARIANTS:
        if not (folder / f"{_file_name(name)}.json").exists():
            logging.info("Variant %s", name)
            _train(name, folder, **device)
        _write_table(folder)


if __name__ == "__main__":
    flags.DEFINE_string("clean", None, "Folder of the clean pictures.")
    flags.DEFINE_string("validation", None, "Folder of held-out pictures.")
    flags.DEFINE_string("output", None, "Folder to write.")
    flags.DEFINE_float("minutes", 30, "Time of each training on the idle machine.")
    flags.DEFINE_float("step_ms", 47, "The default's step on the idle machine.")
    flags.DEFINE_integer("timed_steps", 30, "Steps to time for the ratio.")
    flags.DEFINE_multi_string("only", [], "Variants to train; all if none is named.")
    flags.DEFINE_string("size", "gray", "Variant of the configurations.")
    flags.mark_flags_as_required(["clean", "validation", "output"])
    app.run(_main)
