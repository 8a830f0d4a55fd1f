"""The steps of an adaptation, each of which continues where a killed run stopped."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging
from ml_collections import config_dict

from tfflowdn import config_files, data, devices, files, inference, stages, training
from tfflowdn.adapt import clean, pictures
from tfflowdn.adapt.choose import Comparison, compare, denoise_by, mean_network
from tfflowdn.adapt.decide import Decisions, decide
from tfflowdn.adapt.describe import describe
from tfflowdn.adapt.look import Look, choose_range, look_at
from tfflowdn.adapt.pictures import Plane
from tfflowdn.noise import NoiseModel

__all__ = ["Adaptation", "noise_ratio"]

NUM_NOISY, NUM_CHECK, NUM_CLEAN = 48, 8, 128
NOISY_SIDE, CLEAN_SIDE = 512, 512
NOISE_SIDE, NOISE_PICTURES = 256, 32  # What the noise is learned from.
NOISE, DENOISER = "noise", "denoiser_resnet"  # The configurations.
NUM_EPOCHS = 4
MIN_STEPS, MAX_STEPS = 200, 4000
SHARE_OF_REST = 0.15  # Of the minutes, for denoising and the report.
FAR = 2.0  # Ratio of the learned noise to the noise of calm places.
DARK = 0.2  # Photographs have a higher median brightness.


class Adaptation:
    """Adapts a denoiser to noisy pictures, see the command `adapt`.

    Args:
      noisy: A folder of noisy pictures and stacks, or a file.
      workdir: The folder of the run.
      clean: A folder of clean pictures of the same kind, or None for the photographs
        of the package.
      minutes: Time for everything, in minutes.
      axes: The meaning of the axes of .npy files, see `inference.Denoiser`.
      photographs: Whether the noisy pictures are photographs; None finds out.
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
        self._record = _Record(self.workdir / "config.json", identity)
        self.look, self.decisions = self._look_and_decide(photographs, given)

    def train(self) -> Path:
        """Trains, compares, and returns the path of the denoiser to use.

        The work directory gets `noise/`, `denoiser/`, perhaps `own/`, and
        `denoiser.keras`, the best network.
        """
        noise = self._train_noise()
        self._check_noise(noise)
        trained = [self._train_denoiser("denoiser", "distill", noise)]
        if self.decisions.own_share > 0:
            trained.append(self._train_denoiser("own", "recorrupt", noise, trained[0]))
        path = self.workdir / "denoiser.keras"
        if not path.exists():
            self._choose(noise, trained, path)
        return path

    @property
    def comparison(self) -> Comparison:
        """The comparison of the denoisers, after `train`."""
        return Comparison(**self._record["comparison"])

    @property
    def record(self) -> dict[str, Any]:
        """Everything that `config.json` has: inputs, decisions, trainings, results."""
        return dict(self._record.values)

    def commands(self) -> list[str]:
        """Returns the commands that repeat the trainings."""
        return [
            _command(script, stage["config"], stage["changes"], self.workdir / name)
            for name, script in (
                ("noise", "train_noise"),
                ("denoiser", "train_denoiser"),
                ("own", "train_denoiser"),
            )
            if (stage := self._record.get(name))
        ]

    def check_planes(self) -> list[np.ndarray]:
        """Returns the noisy planes that decide, float32 in [0, 1] units."""
        return _read_folder(self.workdir / "check", self.decisions.pixel_range)

    def check_names(self) -> list[str]:
        """Returns the names of `check_planes`."""
        return pictures.plane_names(self.workdir / "check")

    def clean_planes(self) -> list[np.ndarray]:
        """Returns the clean pictures, float32 in [0, 1] units."""
        return _read_folder(self.workdir / "clean", "dtype")

    # Looks and decisions.

    def _look_and_decide(
        self, photographs: bool | None, given: Mapping[str, Any]
    ) -> tuple[Look, Decisions]:
        if "decisions" in self._record:
            look, made = self._record["look"], self._record["decisions"]
            return Look(**_tuples(look)), Decisions(**_tuples(made))
        planes = self._prepare_noisy()
        pixel_range = data.check_range(given.get("pixel_range") or choose_range(planes))
        look = look_at(planes, len(self.files), pixel_range)
        if photographs is None:
            photographs = _may_be_photographs(look)
        decisions = decide(
            look,
            has_clean=self._clean_spec is not None,
            is_photograph=photographs,
            minutes=self._minutes,
            overrides=given,
        )
        self._record["look"] = dataclasses.asdict(look)
        self._record["lines"] = describe(look)
        self._record["decisions"] = dataclasses.asdict(decisions)
        return look, decisions

    def _prepare_noisy(self) -> list[Plane]:
        """Writes noisy planes to `noisy/` for the training and to `check/`."""
        count = NUM_NOISY + NUM_CHECK
        planes, failures = pictures.read_planes(
            self.files, count, side=NOISY_SIDE, axes=self._axes
        )
        for name, reason in failures.items():
            logging.warning("%s cannot be read: %s", name, reason)
        planes = _largest_group(planes)
        if not planes:
            raise ValueError(
                "At least one picture must be readable. Received: "
                f"{next(iter(failures.values()), 'none')}"
            )
        check, train = _split(planes)
        pictures.write_planes(self.workdir / "noisy", [p.pixels for p in train])
        names = [p.name for p in check]
        pictures.write_planes(self.workdir / "check", [p.pixels for p in check], names)
        return planes

    # Trainings.

    def _train_noise(self) -> Path:
        self._prepare_clean()
        made = self.decisions
        changes = {
            "noisy.spec": str(self.workdir / "noisy"),
            "noisy.pixel_range": made.pixel_range,
            "clean.spec": str(self.workdir / "clean"),
            "denoiser": made.start,
            "evidence": made.evidence,
            "max_pictures": NOISE_PICTURES,
            "max_side": NOISE_SIDE,
        }
        path = self.workdir / "noise" / "noise.keras"
        stage = self._record.setdefault("noise", {"config": NOISE, "changes": changes})
        if not path.exists():
            stages.train_noise(_config(stage), path.parent)
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

    def _prepare_clean(self) -> None:
        folder = self.workdir / "clean"
        if (folder / ".complete").exists():
            return
        spec = self._clean_spec or data.PHOTOGRAPHS
        planes, failures = pictures.read_planes(
            pictures.find_files(spec), NUM_CLEAN, side=CLEAN_SIDE, axes=self._axes
        )
        if failures:
            name, reason = next(iter(failures.items()))
            raise ValueError(f"{name} must be readable. Received: {reason}")
        result = clean.clean_pictures(planes, self.look.channels)
        if self.decisions.match_brightness:
            denoise = denoise_by(inference.load_denoiser(self.decisions.start))
            examples = [
                denoise(inference.middle(p, NOISE_SIDE)) for p in self.check_planes()
            ]
            result = clean.with_brightness_of(result, examples)
        pictures.write_planes(folder, result)

    def _train_denoiser(
        self, name: str, variant: str, noise: Path, start: Path | None = None
    ) -> Path:
        if name not in self._record:
            self._record[name] = self._plan(name, variant, noise, start)
        path = self.workdir / name / "denoiser.keras"
        if not path.exists():
            stages.train_denoiser(
                _config(self._record[name]), path.parent, stop=self._stop
            )
        return path

    def _plan(
        self, name: str, variant: str, noise: Path, start: Path | None
    ) -> dict[str, Any]:
        """Returns the configuration of a training of the denoiser."""
        made = self.decisions
        is_camera = made.evidence == "calm" and self.look.channels == 3
        is_camera = is_camera and variant == "distill"
        changes: dict[str, Any] = {
            "clean.spec": str(self.workdir / "clean"),
            "noisy.pixel_range": made.pixel_range,
            "noise": str(noise),
            "denoiser": str(start or made.start),
            "network.precision": devices.faster_precision() or "float32",
        }
        if name == "own":
            changes["noisy.spec"] = str(self.workdir / "noisy")
        crops = f"{variant}.rehearsal.crops" if name == "own" else f"{variant}.crops"
        changes[f"{crops}.zoom_range"] = self._zoom_range(noise)
        changes[f"{variant}.noise.level_range"] = made.level_range
        config = f"{DENOISER}:{'camera_distill' if is_camera else variant}"
        stage = {"config": config, "changes": changes}
        steps = self._num_steps(stage, name)
        changes[f"{variant}.training.num_steps"] = steps
        changes[f"{variant}.training.steps_per_epoch"] = steps // NUM_EPOCHS
        return stage

    def _zoom_range(self, noise: Path) -> tuple[float, float]:
        if self.decisions.zoom_range is not None:
            return self.decisions.zoom_range
        if "zoom_range" not in self._record:
            self._record["zoom_range"] = self._measured_zoom(noise)
        return tuple(self._record["zoom_range"])

    def _measured_zoom(self, noise: Path) -> tuple[float, float]:
        planes = [p for p in self.check_planes() if min(p.shape[:2]) >= 64]
        if not planes:
            return 1.0, 1.0
        model = inference.load_noise(noise)
        mean = np.mean([plane.mean() for plane in planes])
        signal = np.full((64, 64, 64, model.channels), mean, np.float32)
        crops = np.array(model(signal, seed=(0, 0))) - signal
        source = data.open_source(
            str(self.workdir / "clean"), channels=self.look.channels
        )
        low, high = data.matching_zoom_range(planes, source, crops)
        # Smaller zooms can hardly be distinguished.
        return (low if low > 2 else 1.0), (high if high > 2 else 1.0)

    def _num_steps(self, stage: Mapping[str, Any], name: str) -> int:
        """Returns the steps that fit into the time that is left."""
        total = 60 * self._minutes
        left = total * (1 - SHARE_OF_REST) - (time.monotonic() - self._began)
        if self.decisions.own_share > 0 and name == "denoiser":
            left *= 1 - self.decisions.own_share
        seconds = _seconds_per_step(_config(stage), self.look.channels)
        steps = int(np.clip(left / seconds, MIN_STEPS, MAX_STEPS))
        logging.info("A step takes %.0f ms; %d steps are made", 1e3 * seconds, steps)
        return steps // NUM_EPOCHS * NUM_EPOCHS

    # The choice.

    def _choose(self, noise: Path, trained: Sequence[Path], path: Path) -> None:
        start = inference.load_denoiser(self.decisions.start, self.look.channels)
        networks: dict[str, keras.Model] = {"start": start}
        for each in trained:
            network = inference.load_denoiser(each)
            networks[each.parent.name] = network
        networks["half"] = mean_network(start, networks["denoiser"])
        model = inference.load_noise(noise)
        result = compare(networks, self.check_planes(), model)
        best = networks[result.best]
        options = {"pixel_range": self.decisions.pixel_range, "precision": "float32"}
        training.save_copy(best, path, **options)
        self._record["comparison"] = dataclasses.asdict(result)


def noise_ratio(look: Look, noise: NoiseModel) -> float:
    """Returns the learned noise over the noise of calm places, in the middle."""
    brightness, std = noise.level_curve()
    seen = (np.array(look.brightness) - look.origin) / look.unit
    learned = look.unit * np.interp(seen, brightness, std.mean(1))
    return float(np.median(learned / np.maximum(look.noise, 1e-12)))


class _Record:
    """A JSON file that is written at each change."""

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self._path = path
        self.values: dict[str, Any] = {"inputs": identity}
        if path.exists():
            self.values = json.loads(path.read_text("utf-8"))

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.values[key] = json.loads(json.dumps(value))
        text = json.dumps(self.values, indent=2) + "\n"
        files.replace(self._path, lambda path: path.write_text(text, "utf-8"))

    def get(self, key: str) -> Any:
        return self.values.get(key)

    def setdefault(self, key: str, value: Any) -> Any:
        if key not in self.values:
            self[key] = value
        return self.values[key]


def _config(stage: Mapping[str, Any]) -> config_dict.ConfigDict:
    config = config_files.get_config(stage["config"])
    changes = {name: _tuple(value) for name, value in stage["changes"].items()}
    config.update_from_flattened_dict(changes)
    return config


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a dictionary of JSON with tuples in place of lists."""

    def convert(value: Any) -> Any:
        return tuple(map(convert, value)) if isinstance(value, list) else value

    return {name: convert(value) for name, value in values.items()}


def _command(
    script: str, config: str, changes: Mapping[str, Any], workdir: Path
) -> str:
    options = []
    for name, value in changes.items():
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        options.append(f"--config.{name}={text}")
    return " ".join([script, "--config", config, *options, "--workdir", f"{workdir}"])


def _may_be_photographs(look: Look) -> bool:
    return look.channels == 3 or (look.dtype == "uint8" and look.spread[5] > DARK)


def _largest_group(planes: Sequence[Plane]) -> list[Plane]:
    """Returns the planes of the most common kind; warns if there are others."""
    kinds = [(p.pixels.shape[-1], p.pixels.dtype.name) for p in planes]
    if not kinds:
        return []
    most = max(set(kinds), key=kinds.count)
    others = len(kinds) - kinds.count(most)
    if others:
        logging.warning(
            "%d of %d pictures are not of the most common kind (%d channels, %s); the "
            "denoiser is not adapted to them.",
            others,
            len(kinds),
            *most,
        )
    return [p for p, kind in zip(planes, kinds, strict=True) if kind == most]


def _split(planes: Sequence[Plane]) -> tuple[list[Plane], list[Plane]]:
    """Returns planes to compare on, and planes to learn from; few serve for both."""
    every = max(4, len(planes) // NUM_CHECK)
    if len(planes) <= every:
        return list(planes), list(planes)
    train = [p for i, p in enumerate(planes) if (i + 1) % every]
    return list(planes[every - 1 :: every]), train


def _read_folder(folder: Path, pixel_range: str) -> list[np.ndarray]:
    files_found = pictures.find_files(folder)
    planes, _ = pictures.read_planes(files_found, len(files_found))
    return pictures.to_units(planes, pixel_range)


def _seconds_per_step(config: config_dict.ConfigDict, channels: int) -> float:
    """Returns the time of a training step on this machine."""
    network = stages.Run(config).network
    network.compile(keras.optimizers.Adam(1e-9), loss="mse")
    (name,) = set(stages.STAGES) & set(config)
    section = config[name].crops
    size = section.crop_size
    count = section.batch_size * (2 if name == "recorrupt" else 1)
    batch = tf.zeros((count, size, size, channels))
    seconds = []
    for _ in range(7):
        began = time.perf_counter()
        network.train_on_batch(batch, batch)
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds[2:]))
