"""Trains a denoiser only by the objective, from scratch, with one choice changed each.

    python tools/ablate_objective.py --pictures PICTURES --runs RUNS --output OUT.json

PICTURES come from tools/prepare_protocol.py; the noisy pictures with Gaussian noise of
unknown levels and the validation pictures at sigma 25 are used. Each variant of
`denoiser_resnet:from_scratch` takes `--num_steps` steps. `--output` gets the validation
PSNR and, next to it, a table (.md). A variant that is in the file is not trained again.
`--priors` adds rows with other priors, trained by tools/ablate_prior.py.
"""

from __future__ import annotations

import csv
from pathlib import Path

import harness
from absl import flags, logging

devices = harness.lazy("tfflowdn.devices")
stages = harness.lazy("tfflowdn.stages")

FLAGS = flags.FLAGS
BASE = "0.45 of the MAP weight"
WEAKER = "0.35"
AT_10 = {"loss.gradient_bound": 10.0}  # Before 1 was found to be better.
AT_BASE = {**AT_10, "loss.map_factor": 0.45}
ONE_LAMBDA = {**AT_10, "loss.prior_weight": 0.45 * 2 * (25 / 255) ** 2}
# Variant: changes of the section `objective`, and the variant to compare with.
VARIANTS = {
    BASE: (AT_BASE, BASE),
    WEAKER: (AT_10, BASE),
    "0.6": ({**AT_10, "loss.map_factor": 0.6}, BASE),
    "prior without its noise": ({**AT_10, "loss.dequantize": False}, WEAKER),
    "Adam at 1e-3": (
        {**AT_BASE, "training.optimizer": "adam", "training.learning_rate": 1e-3},
        BASE,
    ),
    "blur of 0.6 pixels": ({**AT_BASE, "loss.blur_sigma": 0.6}, BASE),
    "one lambda, of sigma 25": (ONE_LAMBDA, BASE),
    "one lambda, blur of 0.6 pixels": (
        {**ONE_LAMBDA, "loss.blur_sigma": 0.6},
        "one lambda, of sigma 25",
    ),
    "bounded at 3": ({**AT_BASE, "loss.gradient_bound": 3.0}, BASE),
    "averaged weights": ({**AT_BASE, "training.ema_momentum": 0.99}, BASE),
    "learning rate 1e-3": ({**AT_BASE, "training.learning_rate": 1e-3}, BASE),
    "bounded at 3, 0.35": ({"loss.gradient_bound": 3.0}, WEAKER),
    "bounded at 1, 0.35: the default": ({}, WEAKER),
    "not bounded, 0.35": ({"loss.gradient_bound": None}, WEAKER),
}
# Priors of tools/ablate_prior.py, one minute each; the default took 30.
PRIORS = {
    "NICE of a minute": "nice",
    "RealNVP of a minute": "real_nvp",
    "Glow of a minute": "glow",
}


def _variants():
    return FLAGS.only or [*VARIANTS, *(PRIORS if FLAGS.priors else ())]


def _changes(name):
    return VARIANTS[WEAKER if name in PRIORS else name][0]


def _baseline(name):
    # Rows of priors, and of choices that were measured and then removed.
    return VARIANTS[name][1] if name in VARIANTS else WEAKER


def _train(name, workdir, num_shards):
    """Returns the validation PSNR after the last epoch, or None if it diverged."""
    config = harness.config("denoiser_resnet", "from_scratch")
    config.objective.update_from_flattened_dict(_changes(name))
    pictures = Path(FLAGS.pictures)
    config.prior = FLAGS.prior
    if name in PRIORS:
        config.prior = str(Path(FLAGS.priors, PRIORS[name], "best.keras"))
    config.noisy.spec = str(pictures / "gaussian/noisy")
    config.validation.noisy = str(pictures / "gaussian/validation_noisy")
    config.validation.clean = str(pictures / "validation_clean")
    config.network.precision = devices.faster_precision() or "float32"
    config.objective.training.num_steps = FLAGS.num_steps
    config.objective.training.steps_per_epoch = FLAGS.num_steps // 2
    try:
        stages.train_denoiser(config, str(workdir), num_shards=num_shards)
    except ArithmeticError as error:
        logging.warning("%s", error)
        return None
    with (workdir / "objective/history.csv").open(newline="") as file:
        return round(float(list(csv.DictReader(file))[-1]["val_psnr"]), 4)


def _table(psnrs):
    rows = []
    for name, psnr in psnrs.items():
        baseline, gain = _baseline(name), ""
        if psnr is not None and baseline != name and psnrs.get(baseline):
            gain = f"{psnr - psnrs[baseline]:+.2f} over {baseline}"
        rows.append([name, "diverges" if psnr is None else f"{psnr:.2f}", gain])
    return harness.markdown(["", "PSNR", "gain"], rows)


def _main():
    num_shards = devices.share_cores()
    output = Path(FLAGS.output)
    record = harness.load(output) or {"num_steps": FLAGS.num_steps, "psnr": {}}
    if record["num_steps"] != FLAGS.num_steps:
        raise ValueError(
            f"num_steps must be {record['num_steps']}, as in {output.name}. "
            f"Received: num_steps={FLAGS.num_steps}."
        )
    for name in _variants():
        if name in record["psnr"]:
            continue
        logging.info("Training: %s", name)
        workdir = Path(FLAGS.runs, "".join(c if c.isalnum() else "_" for c in name))
        record["psnr"][name] = _train(name, workdir, num_shards)
        harness.save(record, output)
        harness.write_text(output.with_suffix(".md"), _table(record["psnr"]))
    print(_table(record["psnr"]))


if __name__ == "__main__":
    flags.DEFINE_string("pictures", None, "Folder of the pictures.", required=True)
    flags.DEFINE_string("runs", None, "Folder of the trainings.", required=True)
    flags.DEFINE_string("output", None, "JSON file to add the rows to.", required=True)
    flags.DEFINE_string("prior", "prior_gray", "Prior.")
    flags.DEFINE_string("priors", "", "Folder of the trainings of ablate_prior.py.")
    flags.DEFINE_multi_enum("only", [], list(VARIANTS), "Variants; all by default.")
    flags.DEFINE_integer("num_steps", 400, "Steps of each variant, an even number.")
    harness.run(_main)
