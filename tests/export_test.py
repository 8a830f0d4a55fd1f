"""Exported SavedModels work in a process without tfflowdn."""

import subprocess
import sys

import numpy as np
import pytest

from tfflowdn import FlowPrior, ResNetDenoiser, denoise, export

CALLER = """
import sys
import numpy as np
import tensorflow as tf
denoiser, prior, folder = sys.argv[1:]
images = np.load(f"{folder}/images.npy")
denoiser, prior = tf.saved_model.load(denoiser), tf.saved_model.load(prior)
outputs = {
    **denoiser.signatures["serving_default"](noisy=tf.constant(images)),
    **prior.signatures["serving_default"](images=tf.constant(images)),
    **prior.signatures["bits_per_dim"](images=tf.constant(images)),
    **prior.signatures["sample"](
        num_samples=tf.constant(3), temperature=tf.constant(0.5)
    ),
}
np.savez(f"{folder}/outputs.npz", **{k: v.numpy() for k, v in outputs.items()})
assert "tfflowdn" not in sys.modules and "tensorflow_probability" not in sys.modules
"""


@pytest.fixture(scope="module")
def network(randomize):
    network = ResNetDenoiser(1, num_blocks=1, hidden_channels=4)
    randomize(network, scale=0.1)
    return network


def test_both_models_in_a_fresh_process(network, randomize, tmp_path):
    options = {"num_levels": 1, "num_steps": 1, "hidden_channels": 4}
    prior = FlowPrior("glow", (8, 8, 1), flow_options=options)
    randomize(*prior.flow_layers, scale=0.1)
    images = np.random.default_rng(0).random((2, 11, 6, 1), np.float32)
    np.save(tmp_path / "images.npy", images)
    folders = [
        export.export_model(model, tmp_path, name)
        for name, model in (("denoiser", network), ("prior", prior))
    ]
    command = [sys.executable, "-c", CALLER, *map(str, folders), str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outputs = np.load(tmp_path / "outputs.npz")
    np.testing.assert_allclose(outputs["denoised"], denoise(images, network), atol=1e-5)
    np.testing.assert_allclose(outputs["log_prob"], prior.log_prob(images), rtol=1e-5)
    bits = prior.bits_per_dim(images)
    np.testing.assert_allclose(outputs["bits_per_dim"], bits, rtol=1e-5)
    assert outputs["images"].shape == (3, 8, 8, 1)


def test_versions_count_up_and_nothing_is_replaced(network, tmp_path):
    first = export.export_model(network, tmp_path, "denoiser")
    second = export.export_model(network, tmp_path, "denoiser")
    assert [first.name, second.name] == ["1", "2"]
    assert sorted(path.name for path in first.parent.iterdir()) == ["1", "2"]
    with pytest.raises(ValueError, match="Received: version=2"):
        export.export_model(network, tmp_path, "denoiser", version=2)
    with pytest.raises(ValueError, match="Received: version=0"):
        export.export_model(network, tmp_path, "denoiser", version=0)
