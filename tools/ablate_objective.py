"""Trains a denoiser by the objective alone, from scratch, each choice changed alone.

    python tools/ablate_objective.py --pictures PICTURES --runs RUNS

PICTURES are those of tools/prepare_protocol.py, of which it takes the blind Gaussian
noisy pool and the validation pictures at sigma 25. Each variant of
configs/denoiser_resnet.py:from_scratch takes `--num_steps` steps. `--output` gets their
validation PSNR as JSON and, from it, a table; `--priors` adds rows of other priors,
trained by tools/ablate_prior.py. A variant that is in it is left as it is.
"""

from __future__ import annotations

import csv
import json
import runpy
from pathlib import Path

from absl import app, flags, logging

from tfflowdn import devices, files
from tfflowdn.stages import train_denoiser

FLAGS = flags.FLAGS
TOOLS = Path(__file__).resolve().parent
CONFIG = TOOLS.parent / "configs/denoiser_resnet.py"
BASE = "0.45 of the MAP weight"
WEAKER = "0.35"
AT_10 = {"loss.gradient_bound": 10.0}  # Before 1 was found to be better.
AT_BASE = {**AT_10, "loss.map_factor": 0.45}
ONE_LAMBDA = {**AT_10, "loss.prior_weight": 0.45 * 2 * (25 / 255) ** 2}
# Variant: what is changed in the objective, and the variant to compare with.
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
# Priors of tools/ablate_prior.py, a minute each; the default took 30.
PRIORS = {
    "NICE of a minute": "nice",
    "RealNVP of a minute": "real_nvp",
    "Glow of a minute": "glow",
}


def _variants():
    return [*VARIANTS, *(PRIORS if FLAGS.priors else ())]


def _changes(name):
    return VARIANTS[WEAKER if name in PRIORS else name][0]


def _baseline(name):
    # Rows of priors, and of choices that were measured and then removed.
    return VARIANTS[name][1] if name in VARIANTS else WEAKER


def _train(name, workdir, num_shards):
    """Returns the validation PSNR after the last epoch, None where it diverged."""
    config = runpy.run_path(str(CONFIG))["get_config"]("from_scratch")
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
        train_denoiser(config, str(workdir), num_shards=num_shards)
    except ArithmeticError as error:
        logging.warning("%s", error)
        return None
    with (workdir / "objective/history.csv").open(newline="") as file:
        return round(float(list(csv.DictReader(file))[-1]["val_psnr"]), 4)


def _table(psnrs):
    rows = [
        f"| {name} | {'diverges' if psnr is None else f'{psnr:.2f}'} | "
        f"{_gain(name, psnrs)} |"
        for name, psnr in psnrs.items()
    ]
    lines = ["| | PSNR | gain |", "| --- | --: | --- |", *rows]
    return "\n".join(lines) + "\n"


def _gain(name, psnrs):
    baseline = _baseline(name)
    if baseline == name or psnrs[name] is None:
        return ""
    return f"{psnrs[name] - psnrs[baseline]:+.2f} over {baseline}"


def _main(argv):
    del argv
    num_shards = devices.share_cores()
    output = Path(FLAGS.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    report = {"num_steps": FLAGS.num_steps, "psnr": {}}
    if output.exists():
        report = json.loads(output.read_text())
        if report["num_steps"] != FLAGS.num_steps:
            raise ValueError(
                f"{output.name} must be of as many steps. Received: "
                f"num_steps={FLAGS.num_steps}, {report['num_steps']} in it."
            )
    for name in _variants():
        if name in report["psnr"]:
            continue
        logging.info("Training: %s", name)
        workdir = Path(FLAGS.runs, "".join(c if c.isalnum() else "_" for c in name))
        report["psnr"][name] = _train(name, workdir, num_shards)
        texts = {".json": json.dumps(report, indent=2) + "\n"}
        texts[".md"] = _table(report["psnr"])
        for suffix, text in texts.items():
            path = output.with_suffix(suffix)
            files.replace(path, lambda file, text=text: file.write_text(text))
    print(_table(report["psnr"]))


if __name__ == "__main__":
    flags.DEFINE_string("pictures", None, "Folder of the pictures.", required=True)
    flags.DEFINE_string("prior", "prior_gray", "The prior.")
    flags.DEFINE_string("priors", "", "Folder of tools/ablate_prior.py's trainings.")
    flags.DEFINE_string("runs", None, "Folder of the trainings.", required=True)
    flags.DEFINE_integer("num_steps", 400, "Steps of each variant, an even number.")
    results = TOOLS / "results/ablation_objective.json"
    flags.DEFINE_string("output", str(results), "JSON; the table goes beside it.")
    app.run(_main)
