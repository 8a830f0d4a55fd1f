"""The steps of an adaptation. Each one continues where a killed run stopped."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import logging

from tfflowdn import data, inference, stages, training
from tfflowdn.adapt import pictures
from tfflowdn.adapt.choose import Comparison, compare, denoise_by, mean_network
from tfflowdn.adapt.decide import Decisions, decide
from tfflowdn.adapt.describe import describe
from tfflowdn.adapt.look import Look, choose_range, look_at
from tfflowdn.adapt.model_pick import CAMERA, suits_camera
from tfflowdn.adapt.plans import (
    NOISE_SIDE,
    command_of,
    config_of,
    measured_zoom,
    noise_ratio,
    plan_denoiser,
    plan_noise,
)
from tfflowdn.adapt.prepare import (
    HELD_OUT,
    prepare_clean,
    prepare_noisy,
    read_folder,
)
from tfflowdn.adapt.record import Record, tuples

__all__ = ["Adaptation"]

SHARE_OF_REST = 0.15  # Of the minutes, for denoising and the report.
FAR = 2.0  # Ratio of the learned noise to the noise of calm places.
SSIM_SIDE = 11  # Smaller pictures have no SSIM.
DARK = 0.2  # Photographs have a higher median brightness.
SCRIPTS = {
    "noise": "train_noise",
    "denoiser": "train_denoiser",
    "own": "train_denoiser",
}
"""The commands of the trainings."""


class Adaptation:
    """Adapts a denoiser to noisy pictures, see the command `adapt`.

    Args:
      noisy: A folder of noisy pictures and stacks, or a file.
      workdir: The folder of the run.
      clean: A folder of clean pictures of the same kind, or None for the photographs
        of the package.
      minutes: Time for everything, in minutes.
      axes: The meaning of the axes of .npy files, see `inference.Denoiser`.
      photographs: Whether the noisy pictures are photographs; None decides by the
        measurements.
      overrides: Decisions by name, see `Decisions`.
      stop: Called after each training step; see `training.fit`.
      left_out: Folders whose pictures are not noisy pictures.

    Raises:
      ValueError: If there are no pictures, an option is not valid, or `workdir` holds
        another run.
    """

    def __init__(
        self,
        noisy: str | Path,
        workdir: str | Path,
        *,
        clean: str | Path | None = None,
        minutes: float = 15.0,
        axes: str | None = None,
        photographs: bool | None = None,
        overrides: Mapping[str, Any] | None = None,
        stop: Callable[[], bool] | None = None,
        left_out: Collection[Path] = (),
    ) -> None:
        if not minutes > 0:
            raise ValueError(f"minutes must be positive. Received: {minutes=}.")
        self.workdir = Path(workdir)
        self.files = pictures.find_files(noisy, left_out)
        self._clean_spec, self._axes, self._stop = clean, axes, stop
        self._minutes, self._began = minutes, time.monotonic()
        given = {name: v for name, v in (overrides or {}).items() if v is not None}
        identity = {
            "noisy": str(Path(noisy).resolve()),
            "clean": clean and str(Path(clean).resolve()),
            "minutes": minutes,
            "axes": axes,
            "photographs": photographs,
            "overrides": given,
        }
        training.prepare_workdir(self.workdir, identity)
        self._record = Record(self.workdir / "config.json", identity)
        self.look, self.decisions = self._look_and_decide(photographs, given)

    def train(self) -> Path:
        """Trains, compares, and returns the path of the denoiser to use.

        The work directory gets `noise/`, `denoiser/`, perhaps `own/`, and
        `denoiser.keras`, the best network.
        """
        noise = self._train_noise()
        self._check_noise(noise)
        trained = [self._train_denoiser(noise)]
        if self.decisions.own_share > 0:
            trained.append(self._train_denoiser(noise, trained[0]))
        path = self.workdir / "denoiser.keras"
        if not path.exists():
            self._choose(noise, trained, path)
        return path

    @property
    def comparison(self) -> Comparison:
        """The comparison of the denoisers, after `train`."""
        return Comparison(**self._record["comparison"])

    @property
    def has_clean(self) -> bool:
        """Whether the user has given clean pictures."""
        return self._clean_spec is not None

    @property
    def record(self) -> dict[str, Any]:
        """Everything that `config.json` has: inputs, decisions, trainings, results."""
        return dict(self._record.values)

    def commands(self) -> list[str]:
        """Returns the commands that repeat the trainings."""
        return [self._command(name) for name in SCRIPTS if name in self._record]

    def check_planes(self) -> list[np.ndarray]:
        """Returns the noisy planes of the comparison, float32 in [0, 1] units."""
        return read_folder(self.workdir / "check", self.decisions.pixel_range)

    def check_names(self) -> list[str]:
        """Returns the names of `check_planes`."""
        return pictures.plane_names(self.workdir / "check")

    def held_out_planes(self) -> list[np.ndarray]:
        """Returns clean pictures that no training has seen, float32 in [0, 1] units.

        There are none if there are fewer than four clean pictures.
        """
        return read_folder(self.workdir / HELD_OUT, "dtype")

    # Looks and decisions.

    def _look_and_decide(
        self, photographs: bool | None, given: Mapping[str, Any]
    ) -> tuple[Look, Decisions]:
        if "decisions" in self._record:
            look, made = self._record["look"], self._record["decisions"]
            return Look(**tuples(look)), Decisions(**tuples(made))
        planes = prepare_noisy(self.workdir, self.files, self._axes)
        pixel_range = data.check_range(given.get("pixel_range") or choose_range(planes))
        look = look_at(planes, len(self.files), pixel_range)
        if photographs is None:
            photographs = _may_be_photographs(look)
        decisions = decide(
            look,
            has_clean=self.has_clean,
            is_photograph=photographs,
            is_camera=look.channels == 3 and _are_of_camera(planes),
            minutes=self._minutes,
            overrides=given,
        )
        self._record["look"] = dataclasses.asdict(look)
        self._record["lines"] = describe(look)
        self._record["decisions"] = dataclasses.asdict(decisions)
        return look, decisions

    # Trainings.

    def _command(self, name: str) -> str:
        stage = self._record[name]
        workdir = self.workdir / name
        return command_of(SCRIPTS[name], stage["config"], stage["changes"], workdir)

    def _train_noise(self) -> Path:
        made = self.decisions
        prepare_clean(
            self.workdir / "clean",
            self._clean_spec,
            axes=self._axes,
            channels=self.look.channels,
            examples=self._denoised_examples if made.match_brightness else None,
        )
        path = self.workdir / "noise" / "noise.keras"
        stage = self._record.setdefault("noise", plan_noise(self.workdir, made))
        if not path.exists():
            commands = [self._command("noise")]
            stages.train_noise(config_of(stage), path.parent, commands=commands)
        return path

    def _check_noise(self, noise: Path) -> None:
        """Warns if the learned noise is far from the noise of calm places."""
        ratio = noise_ratio(self.look, inference.load_noise(noise))
        self._record["noise_ratio"] = ratio
        if not 1 / FAR < ratio < FAR:
            logging.warning(
                "The learned noise is %.2g times the noise of calm places, so the "
                "estimates may be wrong; try another --evidence.",
                ratio,
            )

    def _denoised_examples(self) -> list[np.ndarray]:
        denoise = denoise_by(inference.load_denoiser(self.decisions.start))
        return [denoise(inference.middle(p, NOISE_SIDE)) for p in self.check_planes()]

    def _train_denoiser(self, noise: Path, start: Path | None = None) -> Path:
        """Trains a denoiser; with `start`, on the noisy pictures themselves."""
        is_own = start is not None
        name = "own" if is_own else "denoiser"
        if name not in self._record:
            self._record[name] = plan_denoiser(
                self.workdir,
                self.decisions,
                is_own=is_own,
                channels=self.look.channels,
                noise=noise,
                start=start or self.decisions.start,
                zoom_range=self._zoom_range(noise),
                seconds=self._seconds_left(is_own),
            )
        path = self.workdir / name / "denoiser.keras"
        if not path.exists():
            stages.train_denoiser(
                config_of(self._record[name]),
                path.parent,
                stop=self._stop,
                commands=[self._command(name)],
            )
        return path

    def _zoom_range(self, noise: Path) -> tuple[float, float]:
        if self.decisions.zoom_range is not None:
            return self.decisions.zoom_range
        if "zoom_range" not in self._record:
            self._record["zoom_range"] = measured_zoom(
                self.check_planes(), self.workdir / "clean", noise
            )
        return tuple(self._record["zoom_range"])

    def _seconds_left(self, is_own: bool) -> float:
        """Returns the time for a training of the denoiser."""
        total = 60 * self._minutes
        left = total * (1 - SHARE_OF_REST) - (time.monotonic() - self._began)
        return left if is_own else left * (1 - self.decisions.own_share)

    # The choice.

    def _scored_planes(self) -> list[np.ndarray]:
        """Returns the held-out clean pictures if their scores say enough.

        Noise that was learned from calm places may be weaker than the noise elsewhere,
        so that a score on clean pictures with it says little.
        """
        if self.decisions.evidence != "residuals":
            return []
        planes = self.held_out_planes()
        return [plane for plane in planes if min(plane.shape[:2]) >= SSIM_SIDE]

    def _choose(self, noise: Path, trained: Sequence[Path], path: Path) -> None:
        start = inference.load_denoiser(self.decisions.start, self.look.channels)
        networks: dict[str, keras.Model] = {"start": start}
        for each in trained:
            network = inference.load_denoiser(each)
            networks[each.parent.name] = network
        networks["half"] = mean_network(start, networks["denoiser"])
        model = inference.load_noise(noise)
        result = compare(networks, self.check_planes(), model, self._scored_planes())
        best = networks[result.best]
        options = {"pixel_range": self.decisions.pixel_range, "precision": "float32"}
        self._record["comparison"] = dataclasses.asdict(result)
        training.save_copy(best, path, **options)  # The last one: `train` looks for it.


def _may_be_photographs(look: Look) -> bool:
    return look.channels == 3 or (look.dtype == "uint8" and look.spread[5] > DARK)


def _are_of_camera(planes: Sequence[pictures.Plane]) -> bool:
    camera = denoise_by(inference.load_denoiser(CAMERA))
    suited = [suits_camera(plane.pixels, camera) for plane in planes]
    return 2 * sum(suited) > len(suited)
