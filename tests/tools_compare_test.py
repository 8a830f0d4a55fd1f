"""tools/compare.py: cells of pictures that continue, the table, the test sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfflowdn import data

TOOLS = Path(__file__).parent.parent / "tools"
NAME = "gray/gaussian_25"


@pytest.fixture
def compare(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    import compare

    return compare


@pytest.fixture
def values(tmp_path):
    """The folders of three test pictures and of the runs."""
    rng = np.random.default_rng(0)
    clean, noisy = tmp_path / "test_clean", tmp_path / "gaussian/test_25"
    for folder in (clean, noisy):
        folder.mkdir(parents=True)
    for index in range(3):
        picture = np.full((16, 17, 1), 0.5, np.float32)
        data.write_image(clean / f"{index}.tif", picture)
        picture += np.float32(0.1 * rng.standard_normal(picture.shape))
        data.write_image(noisy / f"{index}.tif", picture)
    return tmp_path, tmp_path / "runs"


def test_a_cell_continues_and_takes_more_pictures(compare, values, monkeypatch):
    test, seen = compare.Test(NAME, *values), []

    def make(task):
        del task

        def half(noisy, sigma):
            seen.append(sigma)
            return 0.5 + 0.5 * (noisy - 0.5)

        return half

    method = compare.compare_methods.Method("half", "sigma", make)
    monkeypatch.setitem(compare.METHODS, "half", method)
    first = compare.measure(test, "half", 2)
    assert first["num_pictures"] == len(seen) == 2
    np.testing.assert_allclose(seen, 0.1, rtol=0.2)
    last = compare.measure(test, "half", None)
    assert last["num_pictures"] == len(seen) == 3
    noisy = compare.measure(test, "noisy", None)
    np.testing.assert_allclose(last["psnr"] - noisy["psnr"], 6.02, atol=0.01)
    assert compare.measure(test, "half", 1) == last and len(seen) == 3
    assert last["told"] == "sigma" and last["training_minutes"] is None
    folder = values[1] / "gray/cells/gaussian_25/half"
    assert len(list(folder.glob("*.png"))) == 3


@pytest.mark.parametrize("method", ["nlm", "dip", "dip_blind"])
def test_methods_reduce_white_noise(compare, values, method, monkeypatch):
    pytest.importorskip("skimage")
    prior = compare.compare_methods.stages.DeepImagePrior
    small = {"widths": (4,), "input_channels": 2, "max_steps": 20}
    monkeypatch.setattr(
        "tfflowdn.stages.DeepImagePrior", lambda *a, **k: prior(*a, **k, **small)
    )
    tf.config.run_functions_eagerly(True)  # Few steps are faster without a graph.
    test = compare.Test(NAME, *values)
    before = compare.measure(test, "noisy", 1)
    after = compare.measure(test, method, 1)
    assert after["psnr"] > before["psnr"] + 1
    assert after["seconds_per_megapixel"] > 0
    tf.config.run_functions_eagerly(False)


def test_the_best_sigma_is_found(compare):
    clean = np.full((12, 12, 1), 0.5, np.float32)
    best = compare.compare_methods.SIGMAS[2]

    def denoise(noisy, sigma):
        return noisy + np.float32(0.01 + abs(sigma - best))

    assert compare.compare_methods.best_sigma(denoise, [(clean, clean)]) == best


def test_the_table_has_measured_and_earlier_cells(compare, values, tmp_path):
    compare.measure(compare.Test(NAME, *values), "noisy", None)
    scores = {"test": {"psnr": 26.2, "ssim": 0.75}}
    compare.harness.save({"scores": scores}, tmp_path / "old/correlated_start.json")
    cells = compare.collect(values[1], tmp_path / "old")
    found = {(one["test"], one["method"]): one for one in cells}
    assert set(found) == {(NAME, "noisy"), ("gray/correlated", "start")}
    assert found["gray/correlated", "start"]["source"].startswith("correlated_start")
    lines = compare.table(cells).splitlines()
    assert lines[0] == f"|  | told | {NAME} | gray/correlated |"
    assert lines[3] == "| start | clean pool |  | 26.20 / 0.750 |"
    assert len(lines) == 4
    assert len(compare.collect(values[1], None)) == 1


@pytest.mark.usefixtures("compare")
def test_the_figure_has_a_row_for_each_method():
    import compare_figure

    side, label = compare_figure.SIDE, compare_figure.LABEL
    crops = [np.full((side, side, 1), level, np.float32) for level in (0, 0.4, 2)]
    figure = np.asarray(compare_figure.draw([("a", crops), ("b", crops[::-1])]))
    assert figure.shape == (2 * (side + label), 3 * side + 8)
    columns = [9, side + 9, 2 * side + 20]
    assert list(figure[label + 5, columns]) == [0, 102, 255]
    assert list(figure[side + 2 * label + 5, columns]) == [255, 102, 0]
    picture = np.zeros((side + 40, side + 64, 1), np.float32)
    picture[60:100, -20:] = 1
    assert compare_figure.liveliest(picture).sum() == 40 * 20


def test_every_noise_of_the_protocol_is_a_test(compare):
    noises = ["poisson", "heteroscedastic", "correlated", "stripes", "impulses"]
    levels = [f"gaussian_{sigma}" for sigma in (15, 25, 50)]
    gray = [f"gray/{name}" for name in (*levels, *noises, "microscope")]
    color = [f"color/{name}" for name in (*levels, *noises, "paper", "real")]
    assert list(compare.tests()) == [*gray, *color]


def test_training_minutes(compare, tmp_path):
    method = compare.METHODS["noise2void"]
    minutes = compare.compare_methods.training_minutes
    assert minutes(method, tmp_path, "poisson") is None
    folder = tmp_path / "poisson/noise2void"
    folder.mkdir(parents=True)
    import os

    for name, seconds in (("model.json", 1000), ("denoiser.keras", 1090)):
        (folder / name).touch()
        os.utime(folder / name, (seconds, seconds))
    assert minutes(method, tmp_path, "poisson") == 1.5


@pytest.mark.usefixtures("compare")
def test_noise_of_the_paper_has_a_level_of_its_own_for_each_picture():
    import prepare_protocol

    clean = np.zeros((64, 64, 3), np.float32)
    levels = [
        prepare_protocol.add_noise(clean, "paper", np.random.default_rng(i)).std()
        for i in range(30)
    ]
    assert 0 < min(levels) < 0.05 and 0.15 < max(levels) < 0.21


@pytest.mark.usefixtures("compare")
def test_pictures_of_the_microscope(tmp_path):
    import prepare_protocol

    rng = np.random.default_rng(0)
    truth = rng.integers(20, 200, (8, 9, 1), np.uint8)
    for folder in ("clean", "noisy", "test_noisy", "test_average"):
        pixels = truth // 2 + 10 if folder == "test_average" else truth
        (tmp_path / "w2s" / folder).mkdir(parents=True)
        data.write_image(tmp_path / "w2s" / folder / "a.png", pixels)
    prepare_protocol._prepare_microscope(tmp_path, tmp_path / "out")
    names = ["clean", "noisy", "test", "test_clean"]
    assert sorted(p.name for p in (tmp_path / "out/microscope").iterdir()) == names
    fitted = data.read_image(tmp_path / "out/microscope/test_clean/a.tif")
    np.testing.assert_allclose(255 * fitted, truth, atol=1.5)


def test_every_trained_method_is_one_of_the_protocol(compare, values):
    protocol = compare.Test(NAME, *values).protocol
    for method in compare.measure_quality.METHODS:
        assert callable(getattr(protocol, f"_{method}"))
