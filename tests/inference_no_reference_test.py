"""`evaluate --no_reference`: estimates for pictures without references."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from tfflowdn import NoiseModel, ResNetDenoiser, data, inference
from tfflowdn.scripts import evaluate as script

SIDE = 48


def smooth(picture):
    """Returns means of 5 x 5 pixels: the level is found if little noise is left."""
    padded = np.pad(picture, [(2, 2), (2, 2), (0, 0)], "reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), (0, 1))
    return windows.mean((-2, -1), dtype=np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("no_reference")
    (folder / "noisy").mkdir()
    (folder / "clean").mkdir()
    rng = np.random.default_rng(0)
    ramp = np.linspace(60, 180, SIDE)[:, None, None] * np.ones((1, SIDE, 1))
    for index in range(2):
        noisy = np.clip(ramp + 12 * rng.normal(size=ramp.shape), 0, 255)
        data.write_image(folder / f"noisy/{index}.png", np.uint8(noisy))
        data.write_image(folder / f"clean/{index}.png", np.uint8(ramp))
    ResNetDenoiser(num_blocks=1, hidden_channels=4).save(folder / "model.keras")
    noise = NoiseModel()
    noise.log_levels.assign([np.log(12 / 255)])
    noise.save(folder / "noise.keras")
    return folder


def test_the_estimates_are_near_the_truth(folder):
    noise = inference.load_noise(folder / "noise.keras")
    paths = sorted((folder / "noisy").iterdir())
    pictures = [data.to_float(data.read_image(path)) for path in paths]
    rows = inference.score_without_references(smooth, pictures, noise)
    clean = data.to_float(data.read_image(folder / "clean/0.png"))
    for row, picture in zip(rows, pictures, strict=True):
        true = -10 * np.log10(np.mean((smooth(picture) - clean) ** 2))
        assert row["psnr"] == pytest.approx(true, abs=1.0)
        assert row["noise"] == pytest.approx(12 / 255, rel=0.06)
        assert row["removed"] < 1.05 * row["noise"] and 0 <= row["structure"] <= 1
    scores = inference.expected_scores(smooth, [clean], noise)
    assert scores[0]["noisy_psnr"] == pytest.approx(rows[0]["noisy_psnr"], abs=0.5)
    assert scores[0]["psnr"] > scores[0]["noisy_psnr"]


def test_the_command_writes_the_estimates(folder, monkeypatch, tiny_prior, tmp_path):
    tiny_prior.save(tmp_path / "prior.keras")
    report = script.estimate(
        str(folder / "noisy"),
        str(folder / "model.keras"),
        noise=str(folder / "noise.keras"),
        clean=str(folder / "clean"),
        prior=str(tmp_path / "prior.keras"),
        report=str(tmp_path / "report.html"),
    )
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "Estimated. Means of 2 pictures" in page and "1.png" in page
    assert list(report["pictures"]) == ["0.png", "1.png"]
    assert {"noisy_bits_per_dim", "bits_per_dim"} <= set(report["mean"])
    assert report["expected"]["noisy_psnr"] == pytest.approx(26.5, abs=0.5)
    assert json.loads(json.dumps(report)) == report
    scores = script.evaluate(
        str(folder / "noisy"), str(folder / "clean"), report=str(tmp_path / "r.html")
    )
    page = (tmp_path / "r.html").read_text("utf-8")
    assert f"{scores['mean']['noisy_ssim']:.4g}" in page and "reference" in page
    learned = []
    monkeypatch.setattr(
        sys.modules["tfflowdn"].noise,
        "estimate_calm_noise",
        lambda parts: (
            learned.append(parts) or inference.load_noise(folder / "noise.keras")
        ),
    )
    script.estimate(str(folder / "noisy"), str(folder / "model.keras"))
    assert [part.shape for part in learned[0]] == [(SIDE, SIDE, 1)] * 2
