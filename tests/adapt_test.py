"""The measurements and decisions of `adapt`, and a whole run with tiny models."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tifffile

from tfflowdn import (
    NoiseModel,
    ResNetDenoiser,
    adapt,
    config_files,
    data,
    inference,
    training,
)
from tfflowdn.adapt import choose, clean, pictures, plans, prepare
from tfflowdn.adapt import run as adapt_run
from tfflowdn.adapt.choose import mean_network
from tfflowdn.noise import residuals
from tfflowdn.scripts import adapt as script

RNG = np.random.default_rng(0)
RAMP = np.linspace(0, 1, 96)[:, None, None] * np.ones((1, 96, 1))


def planes_of(arrays, suffix=".tif"):
    return [
        pictures.Plane(str(i), pictures.Path(f"{i}{suffix}"), array)
        for i, array in enumerate(arrays)
    ]


def look_of(arrays, suffix=".tif", pixel_range=None):
    planes = planes_of(arrays, suffix)
    return adapt.look_at(planes, len(planes), pixel_range or adapt.choose_range(planes))


def blurred(white):
    return (white + np.roll(white, 1, 0) + np.roll(white, 1, 1)) / np.sqrt(3)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.uint8(RAMP * 255), "dtype"),
        (np.uint16(RAMP * 65535), "dtype"),
        (np.uint16(RAMP * 4000), "0,4095"),
        (np.uint16(RAMP * 900), "0,1023"),
        (np.uint16(5000 + RAMP * 900), None),
        (np.uint8(RAMP * 30), "0,31"),
        (np.float32(RAMP), "dtype"),
        (np.float32(RAMP * 500), None),
        (np.int16(RAMP * 3000), "0,4095"),
        (np.int32(RAMP * 100000), "0,131071"),
        (np.full((64, 64, 1), 7, np.uint16), None),
    ],
)
def test_the_range_is_that_of_the_values(array, expected):
    chosen = adapt.choose_range(planes_of([array]))
    if expected is not None:
        assert chosen == expected
    else:
        low, high = map(float, chosen.split(","))
        assert low <= np.percentile(array, 1) and low < high
        assert high >= np.percentile(array, 99)
        assert high <= array.max() + 1
    data.check_range(chosen)


def test_a_look_measures_the_noise_in_the_units_of_the_files():
    counts = [RNG.poisson(100 + 800 * RAMP) for _ in range(4)]
    look = look_of(np.uint16(counts))
    assert (look.pixel_range, look.unit, look.dtype) == ("0,1023", 1023, "uint16")
    expected = np.sqrt(look.brightness)
    np.testing.assert_allclose(look.noise, expected, rtol=0.15)
    assert not look.is_correlated and not look.jpeg
    lines = adapt.describe(look)
    assert len(lines) == 10 and "counts" in lines[3]
    assert "grows with the brightness" in lines[4]


def test_a_look_finds_correlation_skewness_colors_and_defects():
    noise = [0.05 * blurred(RNG.normal(size=(96, 96, 3))) for _ in range(4)]
    look = look_of([np.float32(0.2 + 0.5 * RAMP + n) for n in noise])
    assert look.is_correlated and look.channels == 3
    assert abs(look.color_correlation) < 0.1
    shared = [n[..., :1] + 0 * n for n in noise]
    assert look_of([np.float32(0.5 + n) for n in shared]).color_correlation > 0.9
    skewed = np.float32([0.1 + 0.02 * RNG.exponential(size=(96, 96, 1))] * 2)
    assert look_of(skewed, pixel_range="dtype").skewness > 0.7
    hot = np.full((96, 96, 1), 0.4) + 0.01 * RNG.normal(size=(96, 96, 1))
    hot[::16, ::16] = 1.0
    found = look_of([np.float32(hot)])
    assert found.hot == pytest.approx(36 / 96**2, rel=0.3)
    assert found.clipped[1] == pytest.approx(36 / 96**2)


def test_a_look_finds_jpeg_in_files_of_other_formats(tmp_path):
    from PIL import Image

    array = np.uint8(np.clip(120 + 25 * RNG.normal(size=(96, 96)), 0, 255))
    Image.fromarray(array).save(tmp_path / "a.jpg", quality=30)
    decoded = np.array(Image.open(tmp_path / "a.jpg"))[..., None]
    assert look_of([decoded], ".png").jpeg
    assert not look_of([array[..., None]], ".png").jpeg
    assert look_of([array[..., None]], ".jpg").jpeg


def test_pictures_that_are_too_small_are_refused():
    with pytest.raises(ValueError, match="at least 32 x 32 pixels. Received"):
        look_of([np.zeros((20, 20, 1), np.uint8)])


GRAY = look_of([np.uint8(100 + 20 * RNG.normal(size=(64, 64, 1)))])


@pytest.mark.parametrize(
    ("changes", "options", "expected"),
    [
        ({}, {"has_clean": True}, ("denoiser_gray", "residuals", (1.0, 1.0), 0.0)),
        ({}, {"has_clean": False}, ("denoiser_gray", "residuals", None, 0.0)),
        ({"channels": 3}, {}, ("denoiser_rgb", "residuals", (1.0, 1.0), 0.0)),
        (
            {"channels": 3, "jpeg": True, "correlation": ((0.5,), (0.5,))},
            {},
            ("denoiser_rgb", "residuals", (1.0, 1.0), 0.0),
        ),
        (
            {"channels": 3},
            {"is_camera": True},
            ("denoiser_camera", "calm", None, 0.0),
        ),
        (
            {},
            {"overrides": {"start": "x", "evidence": "calm", "own_share": 0.2}},
            ("x", "calm", (1.0, 1.0), 0.2),
        ),
        (
            {"channels": 3},
            {"overrides": {"start": "general"}},
            ("denoiser_rgb", "residuals", (1.0, 1.0), 0.0),
        ),
    ],
)
def test_decisions(changes, options, expected):
    options = {"is_photograph": False, "is_camera": False, **options}
    options = {"has_clean": True, "minutes": 1.0, **options}
    made = adapt.decide(dataclasses.replace(GRAY, **changes), **options)
    names = ("start", "evidence", "zoom_range", "own_share")
    assert tuple(getattr(made, name) for name in names) == expected
    fields = {field.name for field in dataclasses.fields(made)} - {"reasons"}
    assert set(made.reasons) == fields
    for name in options.get("overrides", {}):
        assert made.reasons[name] == "you have chosen it"


def test_unknown_evidence_is_refused():
    with pytest.raises(ValueError, match="evidence must be.*Received"):
        adapt.decide(
            GRAY,
            has_clean=True,
            is_photograph=True,
            is_camera=False,
            minutes=1,
            overrides={"evidence": "hope"},
        )


def test_clean_pictures_become_gray_and_get_the_brightness():
    color = planes_of([np.uint8(RNG.integers(0, 256, (40, 40, 3)))])
    (gray,) = clean.clean_pictures(color, 1)
    assert gray.shape == (40, 40, 1) and 0 <= gray.min() < gray.max() <= 1
    example = np.float32(0.1 * RNG.random((50, 50, 1)) ** 2)
    (mapped,) = clean.with_brightness_of([gray], [example])
    quantiles = np.linspace(0, 1, 11)
    np.testing.assert_allclose(
        np.quantile(mapped, quantiles), np.quantile(example, quantiles), atol=2e-3
    )
    order = np.argsort(gray.ravel())
    assert (np.diff(mapped.ravel()[order]) >= 0).all()
    with pytest.raises(ValueError, match="must be in color.*Received"):
        clean.clean_pictures(planes_of([np.zeros((40, 40, 1), np.uint8)]), 3)


def test_planes_come_from_all_files_and_pages(tmp_path):
    stack = np.arange(10, dtype=np.uint16)[:, None, None] * np.ones((1, 40, 44), "u2")
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    np.save(tmp_path / "b.npy", stack)
    (tmp_path / "c.png").write_bytes(b"broken")
    files = pictures.find_files(tmp_path)
    planes, failures = pictures.read_planes(files, 6, side=32, axes="TYX")
    assert [p.pixels[0, 0, 0] for p in planes] == [2, 7, 2, 7]
    assert {p.pixels.shape for p in planes} == {(32, 32, 1)}
    assert planes[0].name == "a.tif, plane 3" and set(failures) == {"c.png"}
    _, failures = pictures.read_planes(files, 6)
    assert "other arrays need axes" in failures["b.npy"]
    with pytest.raises(ValueError, match="must be a file or a folder.*Received"):
        pictures.find_files(tmp_path / "none")


def test_channels_without_a_meaning_are_gray_planes(tmp_path):
    for channels in (2, 5):
        pixels = np.arange(8 * 9 * channels, dtype=np.uint16).reshape(8, 9, channels)
        options = {"photometric": "minisblack", "planarconfig": "contig"}
        extra = [0] * (channels - 1)
        path = tmp_path / f"{channels}.tif"
        tifffile.imwrite(path, pixels, extrasamples=extra, **options)
        planes, _ = pictures.read_planes([path], 10, split=True)
        assert [p.pixels.shape for p in planes] == channels * [(8, 9, 1)]
        np.testing.assert_array_equal(planes[1].pixels[..., 0], pixels[..., 1])
        assert planes[1].name == f"{channels}.tif, channel 2"
        ((whole,), _) = pictures.read_planes([path], 10)
        assert whole.pixels.shape == (8, 9, channels)


def test_the_photographs_of_the_package_are_licensed():
    text = (data.PHOTOGRAPHS / "LICENSE.md").read_text("utf-8")
    found = data.photographs()
    assert len(found) == 22 and "CC0" in text
    for path in found:
        assert path.stem in text
        assert data.image_header(path)[:3] == (576, 576, 3)
    assert sum(path.stat().st_size for path in found) < 4e6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapt")
    (folder / "noisy" / "sub").mkdir(parents=True)
    (folder / "clean").mkdir()
    network = ResNetDenoiser(num_blocks=1, hidden_channels=4)
    network.save(folder / "start.keras")
    for i in range(3):
        counts = np.uint16(RNG.poisson(50 + 400 * RAMP))
        data.write_image(folder / f"noisy/sub/{i}.tif", counts)
        data.write_image(folder / f"clean/{i}.tif", np.uint16(RAMP * 900 + i))
    stack = np.uint16(RNG.poisson(200, (2, 96, 96)))
    tifffile.imwrite(folder / "noisy/stack.tif", stack, photometric="minisblack")
    return folder


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(plans, "NOISE", "noise:smoke")
    monkeypatch.setattr(plans, "MIN_STEPS", 4)
    monkeypatch.setattr(plans, "MAX_STEPS", 4)
    monkeypatch.setattr(plans, "NOISE_PICTURES", 2)
    monkeypatch.setattr(prepare, "CLEAN_SIDE", 96)
    monkeypatch.setattr(prepare, "NUM_CLEAN", 4)
    monkeypatch.setattr(plans, "_seconds_per_step", lambda *_: 1.0)
    fit = residuals.fit_noise

    def fit_briefly(model, crops, num_steps, *options):
        fit(model, crops, min(num_steps, 20), *options)

    monkeypatch.setattr(residuals, "fit_noise", fit_briefly)


@pytest.mark.usefixtures("tiny")
def test_a_run_denoises_records_and_continues(folder, tmp_path):
    def go(**changes):
        return script.adapt(
            str(folder / "noisy"),
            str(tmp_path / "out"),
            **{"overrides": overrides, **changes},
        )

    overrides = {"start": str(folder / "start.keras"), "own_share": 0.5}
    run, sentence = go()
    names = [p.relative_to(tmp_path / "out").as_posix() for p in _tifs(tmp_path)]
    assert names == ["stack.tif", "sub/0.tif", "sub/1.tif", "sub/2.tif"]
    assert tifffile.imread(tmp_path / "out/stack.tif").dtype == np.uint16
    assert " dB" in sentence and len(run.held_out_planes()) == 1
    assert set(run.comparison.expected) == set(run.comparison.psnr)
    record = json.loads((tmp_path / "out_run/config.json").read_text())
    assert record["decisions"]["pixel_range"] == "0.0,1023.0"
    assert record["noise_ratio"] == pytest.approx(0, abs=0.5)  # It removes nothing.
    assert set(run.check_names()) <= {f"{i}.tif" for i in range(3)} | {
        f"stack.tif, plane {i}" for i in (1, 2)
    }
    assert record["own"]["config"] == "denoiser_resnet:recorrupt"
    page = (tmp_path / "out_run/report.html").read_text("utf-8")
    assert sentence in page and "train_noise --config noise:smoke" in page
    network = inference.load_denoiser(tmp_path / "out_run/denoiser.keras")
    assert network.pixel_range == "0.0,1023.0"
    for command in run.commands():
        name, _, config, *changes = command.split()
        assert name in ("train_noise", "train_denoiser")
        for change in changes:
            if change.startswith("--config."):
                section = config_files.get_config(config)
                for key in change[9:].split("=")[0].split("."):
                    assert key in section
                    section = section[key]
    # A run that was killed continues with its files.
    (tmp_path / "out_run/denoiser.keras").unlink()
    (tmp_path / "out/sub/1.tif").unlink()
    before = (tmp_path / "out_run/denoiser/denoiser.keras").stat().st_mtime_ns
    again, _ = go()
    assert again.comparison.best == run.comparison.best
    assert again.decisions == run.decisions and again.look == run.look
    assert len(_tifs(tmp_path)) == 4
    assert (tmp_path / "out_run/denoiser/denoiser.keras").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="workdir must be new or hold a run"):
        go(minutes=3.0)
    with pytest.raises(ValueError, match="workdir must not lie in the folder"):
        go(workdir=str(folder / "noisy/run"))
    with pytest.raises(ValueError, match="Outputs must not exist.*Received"):
        go(workdir=str(tmp_path / "other"))


class Killed(BaseException):
    """A stand-in for SIGKILL: nothing of the package catches it."""


def _killed(*_, **__):
    raise Killed


def _kill_in_second_step(callback, *_, **__):
    if callback._state.step == 2:
        raise Killed


@pytest.mark.usefixtures("tiny")
def test_a_run_that_is_killed_in_each_phase_has_the_same_result(
    folder, tmp_path, monkeypatch
):
    def go(name):
        options = {
            "start": str(folder / "start.keras"),
            "own_share": 0.0,
            "zoom_range": (1.0, 1.0),
            "match_brightness": False,
        }
        noisy = str(folder / "noisy")
        return script.adapt(noisy, str(tmp_path / name), overrides=options)[0]

    def killed(name, target, attribute, fault=_killed):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(target, attribute, fault)
            go(name)

    killed("whole", adapt, "write_summary")  # The report is slow.
    step = (training.StepSummaries, "on_train_batch_end", _kill_in_second_step)
    killed("killed", residuals, "fit_noise")
    killed("killed", *step)
    killed("killed", adapt_run, "compare")
    killed("killed", training, "save_copy")  # The choice is recorded, not saved.
    killed("killed", script, "denoise_files")
    killed("killed", adapt, "write_summary")
    whole, resumed = (
        json.loads((tmp_path / f"{name}_run/config.json").read_text())
        for name in ("whole", "killed")
    )
    assert resumed["comparison"] == whole["comparison"]
    for name in ("denoiser.keras", "noise/noise.keras", "denoiser/denoiser.keras"):
        first, second = (
            keras.models.load_model(tmp_path / f"{run}_run" / name, compile=False)
            for run in ("whole", "killed")
        )
        for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    for path in (tmp_path / "whole").rglob("*.tif"):
        other = tmp_path / "killed" / path.relative_to(tmp_path / "whole")
        np.testing.assert_array_equal(tifffile.imread(path), tifffile.imread(other))


def _tifs(tmp_path):
    return sorted((tmp_path / "out").rglob("*.tif"))


def test_a_network_that_is_worse_is_not_chosen(folder):
    start = inference.load_denoiser(folder / "start.keras")
    bad = mean_network(start, start)
    bad.set_weights([w + 0.3 for w in start.get_weights()])
    noise = NoiseModel()
    noise.log_levels.assign([np.log(0.1)])
    noisy = [np.float32(0.5 + 0.1 * RNG.normal(size=(64, 64, 1))) for _ in range(3)]
    result = adapt.compare({"start": start, "bad": bad}, noisy, noise)
    assert result.best == "start" and result.gain["bad"][0] < 0
    assert result.psnr["bad"] < result.psnr["start"]
    assert result.is_credible
    bad.set_weights([0.9 * w for w in start.get_weights()])
    swapped = adapt.compare({"bad": bad, "start": start}, noisy, noise)
    assert swapped.best == ("start" if swapped.gain["start"][0] > 0 else "bad")


def test_estimates_with_too_weak_noise_do_not_count(monkeypatch):
    estimate = choose.inference.estimate_risk

    def at_the_learned_level(*arguments, **options):
        options["log_level"] = np.log(level)
        return estimate(*arguments, **options)

    monkeypatch.setattr(choose.inference, "estimate_risk", at_the_learned_level)
    strong = inference.load_denoiser("denoiser_gray")
    weak = mean_network(strong, strong)
    weak.set_weights([0.5 * w for w in strong.get_weights()])
    noisy = [np.float32(0.5 + 0.1 * RNG.normal(size=(64, 64, 1))) for _ in range(3)]
    for level, is_credible in ((0.1, True), (0.03, False)):
        noise = NoiseModel()
        noise.log_levels.assign([np.log(level)])
        result = adapt.compare({"start": strong, "weak": weak}, noisy, noise)
        assert result.best == "start" and result.is_credible == is_credible
    assert result.gain["weak"][0] > 0.1  # It would seem better.


def test_clean_pictures_of_the_same_kind_decide_unless_the_noisy_ones_contradict():
    unsure = {"start": (0.0, 0.0), "denoiser": (-0.004, 0.005)}
    contradicted = {"start": (0.0, 0.0), "denoiser": (-0.02, 0.005)}
    better, worse = {"start": 30.0, "denoiser": 31.0}, {"start": 30.0, "denoiser": 29.0}
    pick = choose._pick
    assert pick(unsure, better, "start") == "denoiser"
    assert pick(contradicted, better, "start") == "start"
    assert pick(unsure, worse, "start") == "start"
    assert pick(unsure, {}, "start") == "start"


def test_the_learned_noise_is_compared_with_calm_places():
    noise = NoiseModel()
    noise.log_levels.assign([np.log(3 * GRAY.level)])
    assert plans.noise_ratio(GRAY, noise) == pytest.approx(3, rel=0.05)


def test_bad_options_are_refused_before_any_work(tmp_path):
    command = [sys.executable, "-m", "tfflowdn.scripts.adapt", str(tmp_path)]
    for options, message in (
        ([], "--output is required"),
        (["--output", "o", "--evidence", "hope"], "evidence"),
        (["--output", "o", "--own_share", "2"], "own_share"),
    ):
        result = subprocess.run(
            [*command, *options], capture_output=True, text=True, check=False
        )
        assert result.returncode == 2 and message in result.stderr
