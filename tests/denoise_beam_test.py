"""The Beam pipeline on this machine: bit by bit what `denoise` writes."""

import importlib.util
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest

from tfflowdn import Denoiser, ResNetDenoiser, data, export
from tfflowdn.scripts.denoise import denoise_files

TOOL = Path(__file__).parent.parent / "tools" / "denoise_beam.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("denoise_beam", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def saved_model(randomize, tmp_path_factory):
    network = ResNetDenoiser(num_blocks=1, hidden_channels=4)
    randomize(network, scale=0.2)
    return export.export_model(network, tmp_path_factory.mktemp("models"), "denoiser")


def test_a_saved_model_denoises_as_its_network(saved_model, randomize):
    network = ResNetDenoiser(num_blocks=1, hidden_channels=4)
    randomize(network, scale=0.2)
    picture = np.random.default_rng(0).random((150, 90), np.float32)
    expected = Denoiser(network)(picture)
    for max_pixels in (10**6, 10_000):
        denoiser = Denoiser.from_pretrained(saved_model, max_pixels=max_pixels)
        np.testing.assert_allclose(denoiser(picture), expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore")  # Of Beam's own imports.
def test_the_pipeline_writes_what_denoise_writes(tool, saved_model, tmp_path):
    rng, folder = np.random.default_rng(0), tmp_path / "in" / "deep"
    folder.mkdir(parents=True)
    for name, shape in [("a.png", (150, 210, 1)), ("b.tif", (40, 30, 3))]:
        pixels = rng.random(shape, np.float32)
        data.write_image(folder / name, data.from_float(pixels, np.uint8))
    (folder / "broken.png").write_bytes(b"no picture")
    pattern, output = f"{tmp_path}/in/**", tmp_path / "out"
    with beam.Pipeline(runner="DirectRunner") as pipeline:
        tool.build(pipeline, pattern, str(output), str(saved_model), 10_000)
    (folder / "broken.png").unlink()
    local = tmp_path / "local"
    written = denoise_files(
        [str(tmp_path / "in")], local, saved_model, max_pixels=10_000
    )
    assert len(written) == 2
    for path in written:
        other = output / path.relative_to(local)
        np.testing.assert_array_equal(data.read_image(other), data.read_image(path))
    assert sorted(p.name for p in output.rglob("*.*")) == ["a.png", "b.tif"]
