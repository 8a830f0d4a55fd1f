"""Trains and scores one method on one noise of the protocol: a row of the table.

    python tools/measure_quality.py --pictures PICTURES --runs RUNS \
        --noise correlated --method distilled

PICTURES are those of tools/prepare_protocol.py. The methods, each after what it needs,
which is trained where RUNS does not have it yet:

    start       the clean pool with generic noise (one for all gray noises; for `real`
                the `denoiser_camera` that comes with tfflowdn)
    alone       the noisy pool under the prior from scratch, without synthetic noise
    objective   start, then the noisy pool under the prior, with rehearsal of the start
    unrehearsed objective without rehearsal
    distilled   start, the noise learned from its residuals (that of cameras from calm
                places), then the clean pool with it (for cameras enlarged until it is
                as soft as the noisy pictures of the test)
    ensemble    distilled, averaged over the eight flips and rotations
    pairs       start, then true pairs for as long: the clean pool with the true noise,
                or the references of `real`

tools/results/quality/ gets a JSON of the scores for each, table.md from all of them,
and plots of the learned noise beside the true one. A training that was killed goes on
when the command is given again.
"""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import app, flags, logging
from measure_softness import zoom_range
from prepare_protocol import SYNTHETIC, add_noise, test_sigmas

from tfflowdn import data, devices, files, inference, training
from tfflowdn.noise.curves import curves_of_model, curves_of_pairs, plot_curves
from tfflowdn.scripts.evaluate import evaluate
from tfflowdn.stages import (
    Run,
    noisy_pairs,
    train_denoiser,
    train_noise,
    weighted_pairs,
)

FLAGS = flags.FLAGS
TOOLS = Path(__file__).resolve().parent
CONFIGS = TOOLS.parent / "configs"
RESULTS = TOOLS / "results/quality"
NOISES = (*SYNTHETIC, "real")
METHODS = (
    "alone",
    "start",
    "objective",
    "unrehearsed",
    "distilled",
    "ensemble",
    "pairs",
)
PEERS = ("bm3d",)  # Measured by tools/peers/bm3d_quality.py.
NUM_STEPS = {"gaussian": 6000}  # Of distillation and pairs: one model for all levels.


class Protocol:
    """The trainings of one noise.

    Args:
      pictures: Folder of tools/prepare_protocol.py.
      runs: Folder of the work directories.
      noise: One of `NOISES`.
      precision: Of the trainings.
    """

    def __init__(self, pictures: Path, runs: Path, noise: str, precision: str):
        self.noise, self.runs, self.precision = noise, runs, precision
        self.folder = pictures / noise
        self.test = {name: self.folder / name for name in test_sigmas(noise)}
        self.is_real = noise not in SYNTHETIC
        pools = self.folder if self.is_real else pictures
        self.clean, self.test_clean = pools / "clean", pools / "test_clean"

    def model(self, method: str) -> str:
        """Returns the path of a method's denoiser, trained if need be."""
        return getattr(self, f"_{method}")()

    def _start(self):
        if self.is_real:
            return "denoiser_camera"
        config = self._denoiser_config("start")
        return self._train("start", train_denoiser, config)

    def _alone(self):
        config = self._denoiser_config("from_scratch", prior=FLAGS.prior)
        return self._train(f"{self.noise}/alone", train_denoiser, config)

    def _objective(self, name="objective", **loss):
        options = {"denoiser": self._start(), "prior": FLAGS.prior}
        config = self._denoiser_config("objective", **options)
        config.objective.loss.update(loss)
        if self.is_real:  # Rehearse the start of `denoiser_camera`.
            start = self._denoiser_config("camera").start
            config.objective.rehearsal.noise.update(start.noise)
            for key in ("zoom_range", "contrast_range"):
                config.objective.rehearsal.crops[key] = start.crops[key]
        return self._train(f"{self.noise}/{name}", train_denoiser, config)

    def _unrehearsed(self):
        return self._objective("unrehearsed", rehearsal_weight=0.0)

    def _distilled(self):
        # A camera's noise reaches over many pixels; denoisers leave most of it.
        evidence = "calm" if self.is_real else "residuals"
        noise = self._train(
            f"{self.noise}/noise",
            train_noise,
            self._config("noise", denoiser=self._start(), evidence=evidence),
            output="noise.keras",
        )
        config = self._distill_config(denoiser=self._start(), noise=noise)
        if self.is_real:  # The cameras differ; what is to be denoised says how soft.
            (pictures,) = map(str, self.test.values())
            config.distill.crops.zoom_range = zoom_range(
                pictures, str(self.clean), noise
            )
        name = f"{self.noise}/distilled"
        return self._train(name, train_denoiser, config)

    def _ensemble(self):
        return self._distilled()

    def _pairs(self):
        config = self._distill_config(denoiser=self._start())
        return self._train(f"{self.noise}/pairs", self._train_pairs, config)

    def _distill_config(self, **changes):
        variant = "camera_distill" if self.is_real else "distill"
        return self._denoiser_config(variant, **changes)

    def _denoiser_config(self, variant, **changes):
        return self._config("denoiser_resnet", variant, **changes)

    def _config(self, name, variant="full", **changes):
        config = runpy.run_path(str(CONFIGS / f"{name}.py"))["get_config"](variant)
        config.update(changes)
        if "distill" in config and self.noise in NUM_STEPS:
            config.distill.training.num_steps = NUM_STEPS[self.noise]
        config.clean.spec = str(self.clean)
        config.noisy.spec = str(self.folder / "noisy")
        if "network" in config:
            config.network.precision = self.precision
        return config

    def _train(self, name, train, config, output="denoiser.keras", **arguments):
        workdir = self.runs / name
        if not (workdir / output).exists():
            logging.info("Training %s", name)
            train(config, str(workdir), **arguments)
        return str(workdir / output)

    def _train_pairs(self, config, workdir):
        """Does as the stage `distill` does, with true pairs."""
        network = Run(config).network
        channels, part = network.channels, config.distill
        clean = data.open_source(str(self.clean), channels=channels)
        if not self.is_real:
            crops = data.RandomCrops(clean, **part.crops)
            batches = noisy_pairs(crops, _true_noise(self.noise), part.crops.seed)
        else:
            pools = (self.folder / pool for pool in ("noisy", "references"))
            # Enlarged, or of lowered contrast, the noise would be another.
            as_they_are = {"zoom_range": (1.0, 1.0), "contrast_range": (1.0, 1.0)}
            batches = _aligned_crops(
                [data.open_source(str(pool), channels=channels) for pool in pools],
                {**part.crops, **as_they_are},
            )
        batches = weighted_pairs(batches, **part.loss)
        directory = Path(workdir)
        training.fit(
            network, batches, directory=directory / "pairs", loss="mse", **part.training
        )
        path = directory / "denoiser.keras"
        training.save_copy(network, path, precision="float32")


def _true_noise(kind):
    """Returns a function that adds the protocol's noise to images [B, H, W, C]."""

    def add(images, seed):
        rng = np.random.default_rng(seed)
        return np.stack([add_noise(image, kind, rng) for image in images])

    def noise(images, seed):
        noisy = tf.numpy_function(add, (images, seed), tf.float32, stateful=False)
        return tf.ensure_shape(noisy, images.shape)

    return noise


def _aligned_crops(sources, options):
    """Returns batches of the same crops of two sources of pictures of equal sizes."""
    pools = [data.RandomCrops(source, **options) for source in sources]
    return lambda first_step: tf.data.Dataset.zip(*(pool(first_step) for pool in pools))


def _scores(protocol, method):
    model, clean = protocol.model(method), str(protocol.test_clean)
    options = {"self_ensemble": method == "ensemble"}
    return {
        name: evaluate(str(folder), clean, model, **options)["mean"]
        for name, folder in protocol.test.items()
    }


def publish(noise: str, method: str, scores: dict, results: Path) -> None:
    """Writes a row's JSON and the table, and prints the former.

    Args:
      noise: One of `NOISES`.
      method: Its name.
      scores: By the name of the test pictures' folder, each by the score's name.
      results: The folder.
    """
    rounded = {
        name: {key: round(value, 4) for key, value in mean.items()}
        for name, mean in scores.items()
    }
    row = {"noise": noise, "method": method, "scores": rounded}
    text = json.dumps(row, indent=2) + "\n"
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{noise}_{method}.json"
    files.replace(path, lambda temporary: temporary.write_text(text))
    write_table(results)
    print(text)


def _plot_noise(protocol: Protocol, path: Path) -> None:
    """Draws the learned noise beside that of the test pictures."""
    (folder,) = protocol.test.values()
    noise = inference.load_noise(protocol.runs / protocol.noise / "noise/noise.keras")
    sources = (
        data.open_source(str(spec), channels=noise.channels)
        for spec in (folder, protocol.test_clean)
    )
    pairs = data.paired_images(*sources).as_numpy_iterator()
    curves = {
        "learned": curves_of_model(noise),
        "true": curves_of_pairs(pairs),
    }
    files.replace(path, lambda file: plot_curves(file, curves))


def write_table(results: Path) -> None:
    """Writes table.md from the JSON files of a folder."""
    rows = {path.stem: json.loads(path.read_text()) for path in results.glob("*.json")}
    tests = [(noise, name) for noise in NOISES for name in test_sigmas(noise)]
    found = [(n, t) for n, t in tests if any(r["noise"] == n for r in rows.values())]
    titles = [f"{n} {t.removeprefix('test').strip('_')}".strip() for n, t in found]
    lines = ["| | " + " | ".join(titles) + " |", "| --- |" + " --: |" * len(found)]
    for method in ("noisy", *PEERS, *METHODS):
        cells = [_cell(rows, noise, method, test) for noise, test in found]
        if any(cells):
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
    text = "\n".join(lines) + "\n"
    files.replace(results / "table.md", lambda path: path.write_text(text))


def _cell(rows, noise, method, test):
    """Returns 'PSNR / SSIM' of a method, or nothing where it was not measured."""
    prefix = "noisy_" if method == "noisy" else ""
    for row in rows.values():
        if row["noise"] == noise and (method in ("noisy", row["method"])):
            score = row["scores"][test]
            if f"{prefix}psnr" in score:
                return f"{score[f'{prefix}psnr']:.2f} / {score[f'{prefix}ssim']:.3f}"
    return ""


def _main(argv):
    del argv
    precision = FLAGS.precision or devices.faster_precision() or "float32"
    protocol = Protocol(Path(FLAGS.pictures), Path(FLAGS.runs), FLAGS.noise, precision)
    scores = _scores(protocol, FLAGS.method)
    publish(FLAGS.noise, FLAGS.method, scores, Path(FLAGS.output))
    if FLAGS.method == "distilled" and len(protocol.test) == 1:
        _plot_noise(protocol, Path(FLAGS.output, f"noise_{FLAGS.noise}.png"))


if __name__ == "__main__":
    flags.DEFINE_string("pictures", None, "Folder of the pictures.", required=True)
    flags.DEFINE_string("runs", None, "Folder of the trainings.", required=True)
    flags.DEFINE_enum("noise", None, NOISES, "The noise.", required=True)
    flags.DEFINE_enum("method", None, METHODS, "The method.", required=True)
    flags.DEFINE_string("prior", "prior_gray", "Of `alone` and `objective`.")
    flags.DEFINE_string("precision", None, "Of the trainings; by default the faster.")
    flags.DEFINE_string("output", str(RESULTS), "Folder of scores.")
    app.run(_main)
