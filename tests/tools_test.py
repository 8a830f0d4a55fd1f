"""The tools: `--help` needs no heavy library; the harness; the general denoisers."""

from __future__ import annotations

import concurrent.futures
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

TOOLS = Path(__file__).parent.parent / "tools"
SCRIPTS = sorted(
    path.relative_to(TOOLS).as_posix()
    for folder in (TOOLS, TOOLS / "peers")
    for path in folder.glob("*.py")
    if "\nif __name__ ==" in path.read_text()
)
WITHOUT = "import sys, runpy; [sys.modules.update({n: None}) for n in %r.split()]; "
HEAVY = "tensorflow keras tfflowdn torch bm3d onnxruntime ai_edge_litert skimage"
RUN = "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"


@pytest.fixture(scope="module")
def helps():
    """Returns the result of `--help` of every tool, without the heavy libraries."""

    def run(name):
        paths = repr([str((TOOLS / name).parent), str(TOOLS)])
        code = WITHOUT % HEAVY + f"sys.path[:0] = {paths}; " + RUN
        command = [sys.executable, "-c", code, str(TOOLS / name), "--help"]
        return subprocess.run(command, capture_output=True, text=True)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return dict(zip(SCRIPTS, pool.map(run, SCRIPTS), strict=True))


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_needs_no_heavy_library(helps, name):
    result = helps[name]
    assert result.returncode == 0, result.stderr
    assert "--" in result.stdout
    assert "Traceback" not in result.stderr


@pytest.fixture
def harness(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    import harness

    return harness


def test_turns_alternate_and_ratios_are_of_one_turn(harness):
    calls = []
    durations = {"a": iter([1.0, 4.0, 3.0]), "b": iter([2.0, 4.0, 1.0])}

    def clock(name):
        calls.append(name)
        return next(durations[name])

    times = harness.turns({"a": "a", "b": "b"}, 3, clock)
    assert calls == ["a", "b"] * 3
    assert harness.medians(times) == {"a": 3.0, "b": 2.0}
    assert harness.ratio(times["a"], times["b"]) == 1.0


def test_server_runs_tasks_in_another_process(harness, tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(
        "import time, harness\n"
        "harness.serve(lambda: ({'sleep': lambda: time.sleep(0.01)}, {'size': 3}))\n"
    )
    server = harness.Server([sys.executable, str(script)])
    assert server.facts["size"] == 3
    assert server.facts["tasks"] == ["sleep"]
    times = server.times("sleep", 2)
    server.close()
    assert len(times) == 2
    assert min(times) >= 0.01


def test_a_record_is_written_with_the_facts_of_the_machine(harness, tmp_path):
    path = tmp_path / "new/record.json"
    harness.save({"value": 1}, path)
    assert harness.load(path)["value"] == 1
    assert json.loads(path.read_text())["machine"]["cores"] >= 1
    assert harness.load(tmp_path / "none.json") == {}


def test_without_a_path_a_record_is_printed(harness, capsys):
    harness.save({"value": 1}, None)
    assert json.loads(capsys.readouterr().out)["value"] == 1


def test_markdown(harness):
    table = harness.markdown(["", "x"], [["a", 1.23456], ["b", None]])
    assert table == "|  | x |\n| --- | --: |\n| a | 1.23 |\n| b |  |\n"


@pytest.mark.usefixtures("harness")
def test_general_pictures(tmp_path):
    import prepare_general

    rng = np.random.default_rng(0)
    picture = rng.integers(256, size=(258, 260, 3), dtype=np.uint8)
    folder = tmp_path / "data/clean_color"
    folder.mkdir(parents=True)
    for index in range(21):
        Image.fromarray(picture).save(folder / f"{index:02d}.png")
    output = tmp_path / "pictures"
    source = tmp_path / "data"
    prepare_general.write_pictures(source, output, 3, ["clean_color"])
    names = [path.stem for path in sorted((output / "clean").iterdir())]
    assert names == ["00", "10", "20"]
    assert len(list((output / "train").iterdir())) == 18
    clean = np.asarray(Image.open(output / "clean/10.png"))
    np.testing.assert_array_equal(clean, picture[1:257, 2:258])
    noise = np.random.default_rng([0, 1]).standard_normal(clean.shape)
    import tifffile

    noisy = tifffile.imread(output / "noisy/10.tif")
    np.testing.assert_allclose(noisy, clean / 255 + 25 / 255 * noise, atol=1e-6)
    with pytest.raises(ValueError, match="more than 20 pictures in bsds400_color"):
        prepare_general.write_pictures(tmp_path, tmp_path / "other", 3)


@pytest.mark.usefixtures("harness")
@pytest.mark.parametrize("kind", ["gray", "rgb", "camera"])
def test_general_configurations(kind):
    import train_general

    config = train_general.make_config(kind, Path("pictures"))
    steps = {"gray": 6000, "rgb": 5000, "camera": 8000}
    assert config.start.training.num_steps == steps[kind]
    assert "objective" not in config
    assert config.start.crops.batch_size == 16


@pytest.mark.usefixtures("harness")
def test_average_keeps_a_share():
    import train_general

    layers = [keras.layers.Dense(2) for _ in range(2)]
    for layer, value in zip(layers, (1.0, 5.0), strict=True):
        layer.build([None, 3])
        layer.set_weights([np.full(w.shape, value) for w in layer.get_weights()])
    train_general.average(*layers, 0.25)
    np.testing.assert_allclose(layers[0].get_weights()[0], np.full([3, 2], 2.0))


@pytest.mark.usefixtures("harness")
def test_sets_of_the_general_measurement(tmp_path):
    import measure_general

    rng = np.random.default_rng(0)
    for name in ("cbsd68/1.png", "gb82/1.png"):
        (tmp_path / name).parent.mkdir()
        picture = np.uint8(rng.integers(0, 255, [24, 24, 3]))
        Image.fromarray(picture).save(tmp_path / name)
    sets = measure_general.test_sets(tmp_path, 3)
    noises = [f"cbsd68_{noise}" for noise in measure_general.NOISES]
    assert list(sets) == [*noises, "gb82_clean"]
    shares = {}
    for name, pairs in sets.items():
        ((noisy, clean),) = pairs
        shares[name] = np.mean((noisy != clean).all(axis=-1))
    assert shares["cbsd68_stripes"] > 0.99
    assert shares["cbsd68_clean"] == shares["gb82_clean"] == 0


def test_step_seconds(harness):
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    batch = np.ones([4, 2]), np.ones([4, 1])
    times = harness.step_seconds(model, *batch, batch_size=4, epochs=3)
    assert len(times) == 2
    assert min(times) > 0


@pytest.mark.usefixtures("harness")
@pytest.mark.filterwarnings("ignore")  # Of Pillow and tifffile, about damage.
def test_the_soak_of_hostile_files_counts_faults(tmp_path):
    import soak_hostile
    from hostile import files, server, valid

    from tfflowdn.data.formats import FORMATS

    totals = files.damaged_pictures(tmp_path / "pictures", 16)
    assert totals["written"] + totals["refused"] == totals["files"] >= 16 + 30
    assert soak_hostile._faults({"pictures": totals}) == 0
    assert {suffix for codec in FORMATS for suffix in codec.suffixes[:1]} <= {
        Path(name).suffix.replace(".tiff", ".tif").replace(".dng", ".cr2")
        for name in valid.WRITERS
    }
    answers = server.hostile_server(tmp_path / "answers", 8)
    assert answers["written"] + answers["refused"] == 8
    assert soak_hostile._faults({"answers": answers, "kills": {"a": {"lost": 2}}}) == 2
