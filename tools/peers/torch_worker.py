"""Worker of tools/benchmark_flows.py: a Glow of a PyTorch library.

Inference runs without autograd and in eval mode. "compiled" means torch.compile.
"""

from __future__ import annotations

import json
import math
import warnings
from importlib import metadata

import harness
from absl import flags

torch = harness.lazy("torch")
torch_flows = harness.lazy("torch_flows")

FLAGS = flags.FLAGS
LIBRARIES = ("normflows", "FrEIA", "nflows")
VARIANTS = ("contiguous_format", "channels_last", "compiled")


def _start():
    torch.manual_seed(0)
    torch.set_num_threads(FLAGS.threads)
    size = json.loads(FLAGS.size)
    batch_size = size.pop("batch_size")
    height, width, channels = size.pop("image_shape")
    flow = torch_flows.LIBRARIES[FLAGS.library]((channels, height, width), **size)
    images = torch.rand(batch_size, channels, height, width)
    memory_format = getattr(torch, FLAGS.variant, torch.contiguous_format)
    flow.module.to(memory_format=memory_format)
    images = images.contiguous(memory_format=memory_format)
    if FLAGS.variant == "compiled":
        flow.log_prob(images)  # Sets the ActNorms, once and in Python.
        flow.log_prob = torch.compile(flow.log_prob)
        flow.sample = torch.compile(flow.sample)
    parameters = [p for p in flow.module.parameters() if p.requires_grad]

    def use(training):
        if flow.module.training != training:  # This drops or fills the cache of nflows.
            flow.module.train(training)

    def gradient():
        use(training=True)
        flow.module.zero_grad()
        (-flow.log_prob(images).mean()).backward()

    @torch.inference_mode()
    def forward():
        use(training=False)
        return flow.log_prob(images)

    @torch.inference_mode()
    def sample():
        use(training=False)
        return flow.sample(batch_size)

    gradient()
    assert all(p.grad is not None for p in parameters), "weights without a gradient"
    assert torch.isfinite(forward()).all() and forward().shape == (batch_size,)
    assert sample().numel() == images.numel()
    versions = [f"{name} {metadata.version(name)}" for name in (FLAGS.library, "torch")]
    facts = {
        "num_parameters": sum(math.prod(p.shape) for p in parameters),
        "versions": versions,
    }
    return {"gradient": gradient, "forward": forward, "sample": sample}, facts


def _main():
    warnings.simplefilter("ignore")  # The libraries use deprecated functions.
    harness.serve(_start)


if __name__ == "__main__":
    flags.DEFINE_enum("library", None, LIBRARIES, "Library.", required=True)
    flags.DEFINE_enum("variant", "contiguous_format", VARIANTS, "Way to run it.")
    flags.DEFINE_string(
        "size", None, "JSON: the size of the flow and batch_size.", required=True
    )
    flags.DEFINE_integer("threads", 2, "Threads of PyTorch.")
    harness.run(_main)
