"""Trains a denoiser on noisy pictures and unrelated clean ones, stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf
from absl import logging
from ml_collections import config_dict

from tfflowdn import devices, training
from tfflowdn.report import config_markdown
from tfflowdn.stages.denoiser_report import write_denoiser_report
from tfflowdn.stages.distill import distill
from tfflowdn.stages.examples import examples
from tfflowdn.stages.noise2void import noise2void
from tfflowdn.stages.objective import objective
from tfflowdn.stages.recorrupt import recorrupt
from tfflowdn.stages.run import Run, Work
from tfflowdn.stages.start import start

__all__ = ["STAGES", "train_denoiser"]

SHOWN_SIDE = 256  # TensorBoard gets pictures at each epoch.

STAGES: dict[str, Callable[[config_dict.ConfigDict, Run], Work]] = {
    "start": start,
    "noise2void": noise2void,
    "objective": objective,
    "distill": distill,
    "recorrupt": recorrupt,
}
"""The stages by name, in the order in which they run.

A stage is a function of its section of the configuration and of the run. It checks and
opens its inputs, and returns its work; it trains nothing itself. A stage that is
added here runs for every configuration that has a section of its name.
"""


def train_denoiser(
    config: config_dict.ConfigDict,
    workdir: str | Path,
    *,
    num_shards: int = 1,
    strategy: tf.distribute.Strategy | None = None,
    stop: Callable[[], bool] | None = None,
    commands: Sequence[str] = (),
) -> Path:
    """Trains the denoiser of a configuration, in the stages that it has sections for.

    Everything is checked before the first stage trains.

    Args:
      config: `prior` (path of a FlowPrior), `denoiser` (path of the network to continue
        with), `noise` (path of a NoiseModel), `noisy` and `clean` (data.open_source),
        `validation` (paths of `noisy` and `clean` pictures that form pairs),
        `network` (models.make_network), and a section for each stage of `STAGES` that
        runs. Each has `training` (training.fit); the functions of the stages describe
        the rest. Only the models and pictures that a stage reads must be given. The
        trained network keeps the pixel range of the noisy pictures.
      workdir: The directory of the outputs; a run that was killed continues there.
      num_shards: Parts of a batch that run in parallel, see FlowPrior.
      strategy: The devices; by default `devices.make_strategy()`.
      stop: Called after each step; training stops when it returns True, see
        `training.fit`.
      commands: Commands that repeat the training, for the report.

    Returns:
      The path of the trained network, `denoiser.keras`.

    Raises:
      ValueError: If the configuration has no stage, for missing or bad pictures, a
        model that does not fit them, or a work directory of another run.
      PreemptionError: If `stop` has returned True.
    """
    names = [name for name in STAGES if config.get(name) is not None]
    if not names:
        raise ValueError(
            f"config must have a section for at least one of the stages {[*STAGES]}. "
            f"Received: config with the sections {sorted(config)}."
        )
    for name in names:
        settings = config[name].training
        training.check_steps(settings.num_steps, settings.steps_per_epoch)
    directory = Path(workdir)
    run = Run(config, num_shards, strategy or devices.make_strategy())
    works = {name: STAGES[name](config[name], run) for name in names}
    validation = run.validation
    if run.is_chief:
        _prepare(directory, run, works)
    shown = examples(run, works, SHOWN_SIDE) if run.is_chief else []
    for name, work in works.items():
        logging.info("Stage: %s", name)
        training.fit(
            work.model,
            work.batches,
            directory=directory / name,
            validation=validation,
            batch_names=work.names,
            stop=stop,
            callbacks=[_pictures(directory / name, run, shown, config[name])],
            text=config_markdown(config),
            **config[name].training,
            **work.compile_options,
        )
    path = directory / "denoiser.keras"
    if run.is_chief:
        training.save_copy(run.network, path, precision="float32")
        write_denoiser_report(directory, run, works, commands)
        logging.info("The denoiser is in %s", path)
    return path


def _pictures(
    directory: Path,
    run: Run,
    shown: Sequence[training.Example],
    section: config_dict.ConfigDict,
) -> training.DenoisedPictures:
    steps = section.training.steps_per_epoch
    return training.DenoisedPictures(directory, run.network, shown, steps)


def _prepare(directory: Path, run: Run, works: dict[str, Work]) -> None:
    """Makes the directories, or checks that they belong to the same run."""
    training.prepare_workdir(directory, run.identity)
    for name, work in works.items():
        if work.identity:
            training.prepare_workdir(directory / name, work.identity)
