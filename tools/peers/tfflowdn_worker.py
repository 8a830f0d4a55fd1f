"""Worker of tools/benchmark_flows.py: a Glow of tfflowdn.

`benchmark_flows.py` puts its own folder on PYTHONPATH, from which this file imports.
"""

from __future__ import annotations

import json
import math

import harness
from absl import flags

tf = harness.lazy("tensorflow")
models = harness.lazy("tfflowdn.models")

FLAGS = flags.FLAGS


def _start():
    # The threads share the batch, as in train_prior.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(FLAGS.threads)
    size = json.loads(FLAGS.size)
    batch_size = size.pop("batch_size")
    image_shape = size.pop("image_shape")
    options = json.loads(FLAGS.prior_json)
    flow_options = {**size, **options.pop("flow_options", {})}
    prior = models.FlowPrior("glow", image_shape, flow_options=flow_options, **options)
    images = tf.random.stateless_uniform([batch_size, *image_shape], [0, 0])
    prior.num_shards = FLAGS.threads
    prior.initialize(images)
    variables = prior.trainable_variables

    @tf.function(jit_compile=FLAGS.jit_compile)
    def gradient_of_mean(images):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(prior.log_prob(images))
        return tape.gradient(loss, variables)

    def gradient():
        gradients = gradient_of_mean(images)
        assert all(g is not None for g in gradients), "weights without a gradient"
        gradients[0].numpy()

    def forward():
        return prior.log_prob(images).numpy()

    def sample():
        return prior.sample(batch_size).numpy()

    facts = {
        "num_parameters": sum(math.prod(v.shape) for v in variables),
        "versions": [f"tensorflow {tf.__version__}"],
        "options": options | {"flow_options": flow_options},
    }
    return {"gradient": gradient, "forward": forward, "sample": sample}, facts


if __name__ == "__main__":
    flags.DEFINE_string(
        "size", None, "JSON: the size of the flow and batch_size.", required=True
    )
    flags.DEFINE_string("prior_json", "{}", "JSON: further arguments of FlowPrior.")
    flags.DEFINE_bool("jit_compile", None, "Compile the gradient by XLA.")
    flags.DEFINE_integer("threads", 2, "Threads; each has a part of the batch.")
    harness.run(lambda: harness.serve(_start))
