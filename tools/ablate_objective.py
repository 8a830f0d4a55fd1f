"""Trains a denoiser by the objective alone, from scratch, each choice changed alone.

    python tools/ablate_objective.py --pictures PICTURES --runs RUNS

PICTURES are those of tools/prepare_protocol.py, of which it takes the blind Gaussian
noisy pool and the validation pictures at sigma 25. Each variant of
configs/denoiser_resnet.py:from_scratch takes `--num_steps` steps. `--output` gets their
validation PSNR as JSON and, from it, a table. A variant that is in it is left as it is.
"""

from __future__ import annotations

import csv
import json
import runpy
from pathlib import Path

from absl import app, flags, logging

from tfflowdn import checkpoint
from tfflowdn.scripts import command
from tfflowdn.scripts.train_denoiser import train_denoiser

FLAGS = flags.FLAGS
TOOLS = Path(__file__).resolve().parent
CONFIG = TOOLS.parent / "configs/denoiser_resnet.py"
BASE = "0.45 of the MAP weight"
AT_BASE = {"loss.map_factor": 0.45}
VARIANTS = {
    BASE: AT_BASE,
    "0.35, the default": {},
    "0.6": {"loss.map_factor": 0.6},
    "prior without its noise, 0.35": {"loss.dequantize": False},
    "Adam at 1e-3": {
        **AT_BASE,
        "training.optimizer": "adam",
        "training.learning_rate": 1e-3,
    },
    "blur of 0.6 pixels": {**AT_BASE, "loss.blur_sigma": 0.6},
    "one lambda, of sigma 25": {"loss.prior_weight": 0.45 * 2 * (25 / 255) ** 2},
    "gradients bounded at 3": {**AT_BASE, "loss.gradient_bound": 3.0},
    "averaged weights": {**AT_BASE, "training.ema_momentum": 0.99},
    "learning rate 1e-3": {**AT_BASE, "training.learning_rate": 1e-3},
}


def _train(name, workdir):
    """Returns the validation PSNR of a variant after its last epoch."""
    config = runpy.run_path(str(CONFIG))["get_config"]("from_scratch")
    config.objective.update_from_flattened_dict(VARIANTS[name])
    pictures = Path(FLAGS.pictures)
    config.prior = FLAGS.prior
    config.noisy.spec = str(pictures / "gaussian/noisy")
    config.validation.noisy = str(pictures / "gaussian/validation_noisy")
    config.validation.clean = str(pictures / "validation_clean")
    config.network.precision = command.faster_precision() or "float32"
    config.objective.training.num_steps = FLAGS.num_steps
    config.objective.training.steps_per_epoch = FLAGS.num_steps // 2
    train_denoiser(config, str(workdir))
    with (workdir / "objective/history.csv").open(newline="") as file:
        return float(list(csv.DictReader(file))[-1]["val_psnr"])


def _table(psnrs):
    rows = [
        f"| {name} | {psnr:.2f} | {psnr - psnrs[BASE]:+.2f} |"
        for name, psnr in psnrs.items()
    ]
    return "\n".join(["| | PSNR | |", "| --- | --: | --: |", *rows]) + "\n"


def _main(argv):
    del argv
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
    for name in VARIANTS:
        if name in report["psnr"]:
            continue
        logging.info("Training: %s", name)
        workdir = Path(FLAGS.runs, "".join(c if c.isalnum() else "_" for c in name))
        report["psnr"][name] = round(_train(name, workdir), 4)
        texts = {".json": json.dumps(report, indent=2) + "\n"}
        texts[".md"] = _table(report["psnr"])
        for suffix, text in texts.items():
            path = output.with_suffix(suffix)
            checkpoint.replace(path, lambda file, text=text: file.write_text(text))
    print(_table(report["psnr"]))


if __name__ == "__main__":
    flags.DEFINE_string("pictures", None, "Folder of the pictures.", required=True)
    flags.DEFINE_string("prior", "prior_gray", "The prior.")
    flags.DEFINE_string("runs", None, "Folder of the trainings.", required=True)
    flags.DEFINE_integer("num_steps", 400, "Steps of each variant, an even number.")
    results = TOOLS / "results/ablation_objective.json"
    flags.DEFINE_string("output", str(results), "JSON; the table goes beside it.")
    app.run(_main)
