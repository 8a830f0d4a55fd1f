"""LiteRT and ONNX files: the network's own result, at any size."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from tfflowdn import FlowPrior, ResNetDenoiser, serving

# The converters and Keras' export cause warnings.
pytestmark = pytest.mark.filterwarnings("ignore")

TOOL = Path(__file__).parent.parent / "tools" / "benchmark_formats.py"
SHAPES = [(1, 16, 16), (2, 17, 33), (1, 1, 1), (1, 3, 40), (1, 61, 64)]


@pytest.fixture(scope="module")
def loaders():
    sys.path.append(str(TOOL.parent))
    spec = importlib.util.spec_from_file_location("benchmark_formats", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.LOADERS


@pytest.mark.parametrize("format", ["saved_model", "litert", "onnx"])
@pytest.mark.parametrize(
    "channels, options",
    [(1, {"scale": 2}), (3, {"scale": 3})],
)
def test_a_file_gives_the_network_s_result(
    randomize, loaders, tmp_path, format, channels, options
):
    options = {"num_blocks": 2, "hidden_channels": 4, **options}
    network = ResNetDenoiser(channels, **options)
    randomize(network, scale=0.2)
    path = serving.export_model(network, tmp_path, "denoiser", format=format)
    assert path.parent == tmp_path / "denoiser"
    run, rng = loaders[format](path), np.random.default_rng(0)
    for shape in SHAPES:
        noisy = rng.random((*shape, channels), np.float32)
        expected = network(noisy).numpy()
        np.testing.assert_allclose(run(noisy), expected, atol=1e-4)
        if shape != (1, 1, 1):  # A constant picture stays as it is.
            assert np.abs(expected - noisy).max() > 0.01


@pytest.mark.parametrize("format", ["litert", "onnx"])
def test_a_file_computes_in_float32(randomize, loaders, tmp_path, format):
    options = {"num_blocks": 1, "hidden_channels": 4}
    network = ResNetDenoiser(**options, precision="mixed_bfloat16")
    randomize(network, scale=0.2)
    path = serving.export_model(network, tmp_path, "denoiser", format=format)
    reference = ResNetDenoiser(**options)
    reference.set_weights(network.get_weights())
    noisy = np.random.default_rng(0).random((1, 20, 20, 1), np.float32)
    denoised = loaders[format](path)(noisy)
    np.testing.assert_allclose(denoised, reference(noisy), atol=1e-4)
    assert np.abs(denoised - network(noisy)).max() > 1e-4


def test_the_axes_of_an_onnx_file_have_names(tmp_path):
    network = ResNetDenoiser(num_blocks=1, hidden_channels=4)
    model = onnx.load(serving.export_model(network, tmp_path, "d", format="onnx"))
    for tensor, name in (
        (model.graph.input, "noisy"),
        (model.graph.output, "denoised"),
    ):
        assert [t.name for t in tensor] == [name]
        dims = tensor[0].type.tensor_type.shape.dim
        names = [d.dim_param or d.dim_value for d in dims]
        assert names == ["batch", "height", "width", 1]


def test_versions_are_counted_over_all_formats(tmp_path):
    network = ResNetDenoiser(num_blocks=1, hidden_channels=4)
    names = [
        serving.export_model(network, tmp_path, "d", format=name).name
        for name in ("litert", "onnx", "saved_model")
    ]
    assert names == ["1.tflite", "2.onnx", "3"]
    serving.export_model(network, tmp_path, "d", 1, format="onnx")
    with pytest.raises(ValueError, match="Received: version=1"):
        serving.export_model(network, tmp_path, "d", 1, format="litert")
    written = sorted(path.name for path in (tmp_path / "d").iterdir())
    assert written == ["1.onnx", "1.tflite", "2.onnx", "3"]


def test_unavailable_formats_are_refused(tmp_path):
    options = {"num_levels": 1, "num_steps": 1, "hidden_channels": 2}
    prior = FlowPrior("glow", (4, 4, 1), flow_options=options)
    with pytest.raises(ValueError, match="for a prior. Received: format='onnx'"):
        serving.export_model(prior, tmp_path, "prior", format="onnx")
    with pytest.raises(ValueError, match="one of .* Received: format='pb'"):
        serving.export_model(prior, tmp_path, "prior", format="pb")
    assert not list(tmp_path.iterdir())
