"""Trains and scores one method on one noise of the protocol: a cell of the table.

    python tools/measure_quality.py --pictures PICTURES --runs RUNS \
        --noise correlated --method distilled --output RESULTS

PICTURES come from tools/prepare_protocol.py. A method first trains the models that
RUNS does not have yet:

    start       the clean pictures with generic noise (one for all gray noises; the
                shipped `denoiser_camera` for `real`, `denoiser_gray` for `microscope`)
    noise2void  only the noisy pictures, by blind spots
    scratch     only the noisy pictures under the prior, from scratch, without
                synthetic noise
    objective   start, then the noisy pictures under the prior, with rehearsal
    unrehearsed objective without rehearsal
    distilled   start, the noise learned from its residuals (for cameras from calm
                places), then the clean pictures with this noise (for cameras enlarged
                until they are as soft as the noisy pictures of the test)
    ensemble    distilled, averaged over the eight flips and rotations
    pairs       start, then as many steps on true pairs: the clean pictures with the
                true noise, or the references of `real`

Without `--output` the scores are only printed. RESULTS gets a JSON file of the scores
for each method, table.md from all of them, and plots of the learned and the true noise.
When a training was killed, the same command continues it.
"""

from __future__ import annotations

from pathlib import Path

import harness
import numpy as np
import prepare_protocol
from absl import flags, logging

curves = harness.lazy("tfflowdn.noise.curves")
data = harness.lazy("tfflowdn.data")
devices = harness.lazy("tfflowdn.devices")
evaluate = harness.lazy("tfflowdn.scripts.evaluate")
files = harness.lazy("tfflowdn.files")
inference = harness.lazy("tfflowdn.inference")
measure_softness = harness.lazy("tfflowdn.scripts.measure_softness")
stages = harness.lazy("tfflowdn.stages")
tf = harness.lazy("tensorflow")
training = harness.lazy("tfflowdn.training")

FLAGS = flags.FLAGS
NOISES = (*prepare_protocol.SYNTHETIC, "real", "microscope")
SHIPPED = {"real": "denoiser_camera", "microscope": "denoiser_gray"}
METHODS = (
    "noise2void",
    "scratch",
    "start",
    "objective",
    "unrehearsed",
    "distilled",
    "ensemble",
    "pairs",
)
PEERS = ("bm3d",)  # tools/peers/bm3d_quality.py measures it.
NUM_STEPS = {"gaussian": 6000}  # Of distilled and pairs; one model has all levels.


class Protocol:
    """The trainings of one noise.

    Args:
      pictures: Folder that tools/prepare_protocol.py wrote.
      runs: Folder of the work directories.
      noise: One of `NOISES`.
      precision: Precision of the trainings.
      prior: The prior of the objective; by default the prior of the flag.
      num_steps: Steps of each training, also of the noise; None for the steps of its
        configuration.
    """

    def __init__(
        self,
        pictures: Path,
        runs: Path,
        noise: str,
        precision: str,
        prior: str | None = None,
        num_steps: int | None = None,
    ):
        self.prior, self._num_steps = prior, num_steps
        self.noise, self.runs, self.precision = noise, runs, precision
        self.folder = pictures / noise
        self.test = {
            name: self.folder / name for name in prepare_protocol.test_sigmas(noise)
        }
        self.is_real = noise == "real"
        pools = self.folder if noise in SHIPPED else pictures
        self.clean, self.test_clean = pools / "clean", pools / "test_clean"

    def model(self, method: str) -> str:
        """Returns the path of the denoiser of a method; trains it if necessary."""
        return getattr(self, f"_{method}")()

    def _start(self):
        if self.noise in SHIPPED:
            return SHIPPED[self.noise]
        config = self._denoiser_config("start")
        return self._train("start", stages.train_denoiser, config)

    def _noise2void(self):
        config = self._denoiser_config("noise2void")
        return self._train(f"{self.noise}/noise2void", stages.train_denoiser, config)

    def _scratch(self):
        config = self._denoiser_config("from_scratch", prior=self._prior())
        return self._train(f"{self.noise}/scratch", stages.train_denoiser, config)

    def _objective(self, name="objective", **loss):
        options = {"denoiser": self._start(), "prior": self._prior()}
        config = self._denoiser_config("objective", **options)
        config.objective.loss.update(loss)
        if self.is_real:  # Rehearse the start of `denoiser_camera`.
            start = self._denoiser_config("camera").start
            config.objective.rehearsal.noise.update(start.noise)
            for key in ("zoom_range", "contrast_range"):
                config.objective.rehearsal.crops[key] = start.crops[key]
        return self._train(f"{self.noise}/{name}", stages.train_denoiser, config)

    def _unrehearsed(self):
        return self._objective("unrehearsed", rehearsal_weight=0.0)

    def _distilled(self):
        # Noise of cameras reaches over many pixels, and denoisers leave most of it.
        evidence = "calm" if self.is_real else "residuals"
        noise = self._train(
            f"{self.noise}/noise",
            stages.train_noise,
            self._config("noise", denoiser=self._start(), evidence=evidence),
            output="noise.keras",
        )
        config = self._distill_config(denoiser=self._start(), noise=noise)
        if self.is_real:  # The cameras differ; the pictures to denoise decide.
            (pictures,) = map(str, self.test.values())
            config.distill.crops.zoom_range = measure_softness.zoom_range(
                pictures, str(self.clean), noise
            )
        name = f"{self.noise}/distilled"
        return self._train(name, stages.train_denoiser, config)

    def _ensemble(self):
        return self._distilled()

    def _pairs(self):
        config = self._distill_config(denoiser=self._start())
        return self._train(f"{self.noise}/pairs", self._train_pairs, config)

    def _prior(self):
        return self.prior or FLAGS.prior

    def _distill_config(self, **changes):
        variant = "camera_distill" if self.is_real else "distill"
        return self._denoiser_config(variant, **changes)

    def _denoiser_config(self, variant, **changes):
        return self._config("denoiser_resnet", variant, **changes)

    def _config(self, name, variant="full", **changes):
        config = harness.config(name, variant)
        config.update(changes)
        if "distill" in config and self.noise in NUM_STEPS:
            config.distill.training.num_steps = NUM_STEPS[self.noise]
        config.clean.spec = str(self.clean)
        config.noisy.spec = str(self.folder / "noisy")
        if "network" in config:
            config.network.precision = self.precision
        for section in config.values() if self._num_steps else ():
            _set_steps(section, self._num_steps)
        return config

    def _train(self, name, train, config, output="denoiser.keras", **arguments):
        workdir = self.runs / name
        if not (workdir / output).exists():
            logging.info("Training %s", name)
            train(config, str(workdir), **arguments)
        return str(workdir / output)

    def _train_pairs(self, config, workdir):
        """Trains as the stage `distill` does, with true pairs."""
        network = stages.Run(config).network
        channels, part = network.channels, config.distill
        clean = data.open_source(str(self.clean), channels=channels)
        if not self.is_real:
            crops = data.RandomCrops(clean, **part.crops)
            batches = stages.noisy_pairs(
                crops, _true_noise(self.noise), part.crops.seed
            )
        else:
            pools = (self.folder / pool for pool in ("noisy", "references"))
            # Zooming or lowering the contrast would change the noise.
            as_they_are = {"zoom_range": (1.0, 1.0), "contrast_range": (1.0, 1.0)}
            batches = _aligned_crops(
                [data.open_source(str(pool), channels=channels) for pool in pools],
                {**part.crops, **as_they_are},
            )
        batches = stages.weighted_pairs(batches, **part.loss)
        directory = Path(workdir)
        training.fit(
            network, batches, directory=directory / "pairs", loss="mse", **part.training
        )
        path = directory / "denoiser.keras"
        training.save_copy(network, path, precision="float32")


def _set_steps(section, num_steps):
    """Sets the steps of a stage or of a fit of the noise, if a section is one."""
    part = section.get("training", section) if hasattr(section, "get") else {}
    for name in ("num_steps", "steps_per_epoch"):
        if name in part:
            part[name] = num_steps


def _true_noise(kind):
    """Returns a function that adds noise of the protocol to images [B, H, W, C]."""

    def add(images, seed):
        rng = np.random.default_rng(seed)
        return np.stack(
            [prepare_protocol.add_noise(image, kind, rng) for image in images]
        )

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
        name: evaluate.evaluate(str(folder), clean, model, **options)["mean"]
        for name, folder in protocol.test.items()
    }


def publish(noise: str, method: str, scores: dict, results: str | None) -> None:
    """Prints the scores of a method, or writes them and the table.

    Args:
      noise: One of `NOISES`.
      method: Name of the method.
      scores: Scores by the name of the folder of the test pictures and by their name.
      results: The folder to write; None prints.
    """
    rounded = {
        name: {key: round(value, 4) for key, value in mean.items()}
        for name, mean in scores.items()
    }
    row = {"noise": noise, "method": method, "scores": rounded}
    harness.save(row, results and Path(results, f"{noise}_{method}.json"))
    if results:
        write_table(Path(results))


def _plot_noise(protocol: Protocol, path: Path) -> None:
    """Draws the learned noise and the noise of the test pictures."""
    (folder,) = protocol.test.values()
    noise = inference.load_noise(protocol.runs / protocol.noise / "noise/noise.keras")
    sources = (
        data.open_source(str(spec), channels=noise.channels)
        for spec in (folder, protocol.test_clean)
    )
    pairs = data.paired_images(*sources).as_numpy_iterator()
    drawn = {
        "learned": curves.curves_of_model(noise),
        "true": curves.curves_of_pairs(pairs),
    }
    files.replace(path, lambda file: curves.plot_curves(file, drawn))


def write_table(results: Path) -> None:
    """Writes table.md from the JSON files of a folder."""
    rows = [harness.load(path) for path in sorted(results.glob("*_*.json"))]
    measured = {row["noise"] for row in rows}
    tests = [
        (noise, name)
        for noise in NOISES
        for name in prepare_protocol.test_sigmas(noise)
        if noise in measured
    ]
    titles = [f"{n} {t.removeprefix('test').strip('_')}".strip() for n, t in tests]
    lines = []
    for method in ("noisy", *PEERS, *METHODS):
        cells = [_cell(rows, noise, method, test) for noise, test in tests]
        if any(cells):
            lines.append([method, *cells])
    harness.write_text(results / "table.md", harness.markdown(["", *titles], lines))


def _cell(rows, noise, method, test):
    """Returns 'PSNR / SSIM' of a method, or '' if it was not measured."""
    prefix = "noisy_" if method == "noisy" else ""
    for row in rows:
        if row["noise"] == noise and (method in ("noisy", row["method"])):
            score = row["scores"][test]
            if f"{prefix}psnr" in score:
                return f"{score[f'{prefix}psnr']:.2f} / {score[f'{prefix}ssim']:.3f}"
    return ""


def _main():
    precision = FLAGS.precision or devices.faster_precision() or "float32"
    protocol = Protocol(
        Path(FLAGS.pictures),
        Path(FLAGS.runs),
        FLAGS.noise,
        precision,
        num_steps=FLAGS.num_steps,
    )
    scores = _scores(protocol, FLAGS.method)
    publish(FLAGS.noise, FLAGS.method, scores, FLAGS.output)
    if FLAGS.output and FLAGS.method == "distilled" and len(protocol.test) == 1:
        _plot_noise(protocol, Path(FLAGS.output, f"noise_{FLAGS.noise}.png"))


if __name__ == "__main__":
    flags.DEFINE_string("pictures", None, "Folder of the pictures.", required=True)
    flags.DEFINE_string("runs", None, "Folder of the trainings.", required=True)
    flags.DEFINE_enum("noise", None, NOISES, "Noise.", required=True)
    flags.DEFINE_enum("method", None, METHODS, "Method.", required=True)
    flags.DEFINE_string("prior", "prior_gray", "Prior of `scratch` and `objective`.")
    flags.DEFINE_string(
        "precision", None, "Precision of the trainings; by default the faster one."
    )
    flags.DEFINE_integer("num_steps", None, "Steps of each training, for a trial.", 1)
    flags.DEFINE_string("output", None, "Folder of scores to add to.")
    harness.run(_main)
