"""Trains the priors, and Glow with one switch changed each, for the same time.

    python tools/ablate_prior.py --clean CLEAN --validation HELD_OUT --output ABLATION \
        --minutes 30 --step_ms 47

The step of a variant is timed in turns with the step of the default Glow, so that the
load of the machine cancels. Their ratio times `--step_ms`, the default's step on the
idle machine (tools/benchmark_training.py), gives the number of steps that fit into
`--minutes`. The variant trains for that number as `train_prior` does. ABLATION gets a
JSON file for each variant and, from these, table.md. A variant with a JSON file is not
trained again, and a killed one continues; `--only` picks some.
"""

from __future__ import annotations

import csv
from pathlib import Path

import harness
import numpy as np
from absl import flags, logging

devices = harness.lazy("tfflowdn.devices")
keras = harness.lazy("keras")
models = harness.lazy("tfflowdn.models")
optimizer = harness.lazy("tfflowdn.training.optimizer")
stages = harness.lazy("tfflowdn.stages")

FLAGS = flags.FLAGS
NUM_EPOCHS = 10
DEFAULT = "glow"

# Variant: configuration, changes in it, and the variant to compare with.
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
        # At the rate of the others, its loss rises after 68 steps.
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
}


def _config(name):
    """Returns the configuration of a variant, still without its number of steps."""
    file, changes, _ = VARIANTS[name]
    config = harness.config(file, FLAGS.size)
    config.update_from_flattened_dict(changes)
    config.clean.spec, config.validation.spec = FLAGS.clean, FLAGS.validation
    return config


def _stepper(config, num_shards, precision):
    """Returns a function that takes one training step, and the number of weights."""
    config = config.copy_and_resolve_references()
    config.prior.flow_options.precision = (
        config.prior.flow_options.precision or precision
    )
    prior = models.FlowPrior(**config.prior)
    prior.num_shards = num_shards
    shape = (config.crops.batch_size, *config.prior.image_shape)
    images = np.random.default_rng(0).random(shape, np.float32)
    momentum = config.training.ema_momentum
    prior.compile(
        optimizer.OPTIMIZERS[config.training.optimizer](
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


def _plan(name, path, **device):
    """Measures the step of a variant and writes how many steps fit into the time."""
    step, num_weights = _stepper(_config(name), **device)
    ratio = 1.0
    if name != DEFAULT:
        default, _ = _stepper(_config(DEFAULT), **device)
        harness.turns({"": step, "default": default}, 3)
        times = harness.turns({"": step, "default": default}, FLAGS.timed_steps)
        ratio = harness.ratio(times[""], times["default"])
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
    harness.save(plan, path)
    keras.backend.clear_session()


def _train(name, folder, **device):
    """Trains a variant, or continues its training, and writes its JSON file."""
    workdir = folder / _file_name(name)
    path = workdir / "plan.json"
    if not path.exists():
        _plan(name, path, **device)
    plan = harness.load(path)
    config = _config(name)
    config.training.steps_per_epoch = plan["steps_per_epoch"]
    config.training.num_steps = NUM_EPOCHS * plan["steps_per_epoch"]
    try:
        stages.train_prior(config, workdir, **device)
        with (workdir / "history.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        bits = [float(row["val_bits_per_dim"]) for row in rows]
        result = {"bits_per_dim": min(bits), "by_epoch": bits}
    except ArithmeticError as error:
        result = {"bits_per_dim": None, "error": str(error)}
    result = {**plan, "num_steps": config.training.num_steps, **result}
    harness.save(result, folder / f"{workdir.name}.json")


def _write_table(folder):
    paths = [folder / f"{_file_name(name)}.json" for name in VARIANTS]
    results = [harness.load(path) for path in paths if path.exists()]
    bits = {result["variant"]: result["bits_per_dim"] for result in results}
    rows = []
    for result in results:
        name, baseline = result["variant"], result["baseline"]
        own, other = bits[name], bits.get(baseline)
        comparable = None not in (own, other) and name != baseline
        rows.append(
            [
                name,
                f"{result['step_ratio']:.2f}",
                result["num_steps"],
                f"{result['num_weights']:,}",
                "not finite" if own is None else f"{own:.3f}",
                f"{other - own:+.3f} over {baseline}" if comparable else "",
            ]
        )
    header = ["variant", "step", "steps", "weights", "bits/dim", "gain"]
    harness.write_text(folder / "table.md", harness.markdown(header, rows))


def _file_name(name):
    return name.replace(",", "").replace(" ", "_")


def _main():
    device = {"num_shards": devices.share_cores()}
    device["precision"] = devices.faster_precision()
    folder = Path(FLAGS.output)
    for name in FLAGS.only or VARIANTS:
        if not (folder / f"{_file_name(name)}.json").exists():
            logging.info("Variant %s", name)
            _train(name, folder, **device)
        _write_table(folder)


if __name__ == "__main__":
    flags.DEFINE_string("clean", None, "Folder of the clean pictures.", required=True)
    flags.DEFINE_string(
        "validation", None, "Folder of held-out pictures.", required=True
    )
    flags.DEFINE_string("output", None, "Folder to write.", required=True)
    flags.DEFINE_float("minutes", 30, "Time of each training on the idle machine.")
    flags.DEFINE_float("step_ms", 47, "Step of the default on the idle machine.")
    flags.DEFINE_integer("timed_steps", 30, "Steps to time for the ratio.")
    flags.DEFINE_multi_enum("only", [], list(VARIANTS), "Variants; all by default.")
    flags.DEFINE_string("size", "gray", "Variant of the configurations.")
    harness.run(_main)
