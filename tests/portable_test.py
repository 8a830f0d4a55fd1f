"""LiteRT and ONNX files: the network's own result, at any size."""

import numpy as np
import onnx
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter

from tfflowdn import FlowPrior, ResNetDenoiser, export

# Of what the converters and Keras' export do inside.
pytestmark = pytest.mark.filterwarnings("ignore")

SHAPES = [(1, 16, 16), (2, 17, 33), (1, 1, 1), (1, 3, 40), (1, 61, 64)]


def _litert(path):
    interpreter = Interpreter(str(path))
    (source,) = interpreter.get_input_details()
    (target,) = interpreter.get_output_details()

    def run(noisy):
        interpreter.resize_tensor_input(source["index"], noisy.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(source["index"], noisy)
        interpreter.invoke()
        return interpreter.get_tensor(target["index"])

    return run


def _onnx(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda noisy: session.run(["denoised"], {"noisy": noisy})[0]


@pytest.mark.parametrize("format, load", [("litert", _litert), ("onnx", _onnx)])
@pytest.mark.parametrize(
    "channels, options",
    [(1, {"scale": 2}), (3, {"scale": 3}), (1, {"precision": "mixed_bfloat16"})],
)
def test_a_file_gives_the_network_s_result(
    randomize, tmp_path, format, load, channels, options
):
    options = {"num_blocks": 2, "hidden_channels": 4, **options}
    network = ResNetDenoiser(channels, **options)
    randomize(network, scale=0.2)
    path = export.export_model(network, tmp_path, "denoiser", format=format)
    assert path.parent == tmp_path / "denoiser"
    run, rng = load(path), np.random.default_rng(0)
    reference = ResNetDenoiser(channels, **{**options, "precision": "float32"})
    reference.set_weights(network.get_weights())
    for shape in SHAPES:
        noisy = rng.random((*shape, channels), np.float32)
        expected = reference(noisy).numpy()
        np.testing.assert_allclose(run(noisy), expected, atol=1e-4)
        assert np.abs(expected - noisy).max() > 0.01


def test_the_axes_of_an_onnx_file_have_names(tmp_path):
    network = ResNetDenoiser(num_blocks=1, hidden_channels=4)
    model = onnx.load(export.export_model(network, tmp_path, "d", format="onnx"))
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
        export.export_model(network, tmp_path, "d", format=name).name
        for name in ("onnx", "litert", "saved_model")
    ]
    assert names == ["1.onnx", "2.tflite", "3"]
    export.export_model(network, tmp_path, "d", 1, format="litert")
    with pytest.raises(ValueError, match="Received: version=1"):
        export.export_model(network, tmp_path, "d", 1, format="onnx")
    written = sorted(path.name for path in (tmp_path / "d").iterdir())
    assert written == ["1.onnx", "1.tflite", "2.tflite", "3"]


def test_what_cannot_be_written_is_refused(tmp_path):
    options = {"num_levels": 1, "num_steps": 1, "hidden_channels": 2}
    prior = FlowPrior("glow", (4, 4, 1), flow_options=options)
    with pytest.raises(ValueError, match="SavedModel alone. Received: format='onnx'"):
        export.export_model(prior, tmp_path, "prior", format="onnx")
    with pytest.raises(ValueError, match="one of .* Received: format='pb'"):
        export.export_model(prior, tmp_path, "prior", format="pb")
    assert not list(tmp_path.iterdir())
