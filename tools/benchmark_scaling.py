"""Measures trainings on 1, 2 and 4 replicas, and estimates trainings on many GPUs.

    python tools/benchmark_scaling.py --output tools/results/scaling.json

trains the prior of prior_glow, and the network of denoiser_resnet under the objective,
for some steps of one global batch (`--replicas` chooses other numbers of replicas).
Each number of replicas has its own process, with logical devices of this machine's CPU.
They share its cores, so that the times show the cost of the distribution and not its
gain. The final weights must be the weights of a single replica (`weights_difference`).

The estimate is arithmetic. A step with an equal batch on each of n GPUs takes the time
of one GPU, `--step_ms`, and the time to exchange the gradients. In a ring,
2 (n - 1) / n of their bytes pass the slowest link, `--link_gbytes`, and each of the
2 (n - 1) hops adds `--latency_us`. The exchange does not overlap with the computation
of the gradient. Several machines have one such ring each, and one between them at
`--network_gbytes`.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import harness
import numpy as np
from absl import flags

models = harness.lazy("tfflowdn.models")
tf = harness.lazy("tensorflow")
training = harness.lazy("tfflowdn.training.optimizer")

FLAGS = flags.FLAGS
STAGES = ("prior", "denoiser")
ASSUMED = ("step_ms", "link_gbytes", "network_gbytes", "latency_us")


def _model(stage):
    config = harness.config("prior_glow", FLAGS.variant)
    # Dequantization is off, because each replica draws its own noise.
    prior = models.FlowPrior(**{**config.prior, "dequantization": None})
    if stage == "prior":
        return prior, config.crops.batch_size, config.prior.image_shape[0]
    config = harness.config("denoiser_resnet", FLAGS.variant)
    network = models.make_network(1, **config.network)
    options = {**config.objective.loss, "dequantize": False, "rehearsal_weight": 0.0}
    denoiser = models.UnpairedDenoiser(network, prior, **options)
    crops = config.objective.crops
    return denoiser, crops.batch_size, crops.crop_size


def _strategy(num_replicas):
    cpu = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * num_replicas
    tf.config.set_logical_device_configuration(cpu, logical)
    if num_replicas == 1:
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(num_replicas)])


def _train_all(num_replicas, folder):
    """Trains each stage, saves its weights, and returns what `_train` returns."""
    strategy = _strategy(num_replicas)
    return {
        stage: _train(stage, strategy, _weights_path(folder, stage, num_replicas))
        for stage in STAGES
    }


def _weights_path(folder, stage, num_replicas):
    return Path(folder, f"{stage}_{num_replicas}.npz")


def _train(stage, strategy, path):
    """Trains, saves the weights, and returns the gradient bytes and the median step."""
    with strategy.scope():
        model, batch_size, size = _model(stage)
        # The learning rate is the same for any number of replicas.
        model.compile(training.GuardedAdam(1e-3, clip_norm=50.0))
    rng = np.random.default_rng(0)
    images = rng.random((FLAGS.steps, batch_size, size, size, 1), np.float32)
    dataset = tf.data.Dataset.from_tensor_slices(images)
    times = harness.step_seconds(model, dataset, shuffle=False)
    variables = model.trainable_variables
    np.savez(path, *[variable.numpy() for variable in variables])
    return {
        "gradient_bytes": sum(4 * int(np.prod(v.shape)) for v in variables),
        "step_ms": round(1000 * statistics.median(times[1:]), 2),
    }


def _estimate(gradient_bytes):
    """Returns the share of perfect scaling on 8 GPUs and on 8 machines of 8 GPUs."""

    def ring(n, gbytes):
        seconds = 2 * (n - 1) / n * gradient_bytes / (gbytes * 1e9)
        return 1000 * seconds + 2 * (n - 1) * FLAGS.latency_us / 1000

    one_machine = ring(8, FLAGS.link_gbytes)
    machines = one_machine + ring(8, FLAGS.network_gbytes)
    return {
        name: {
            "exchange_ms": round(exchange, 3),
            "efficiency": round(FLAGS.step_ms / (FLAGS.step_ms + exchange), 3),
        }
        for name, exchange in (("8 GPUs", one_machine), ("8 x 8 GPUs", machines))
    }


def _summary(stage, runs, folder):
    """Summarizes the runs of a stage, by the number of replicas."""
    weights = {
        n: list(np.load(_weights_path(folder, stage, n)).values())
        for n in FLAGS.replicas
    }
    return {
        "gradient_bytes": runs[1]["gradient_bytes"],
        "step_ms": {n: run["step_ms"] for n, run in runs.items()},
        "weights_difference": {
            n: max(
                float(np.abs(one - other).max())
                for one, other in zip(arrays, weights[1], strict=True)
            )
            for n, arrays in weights.items()
        },
        "estimate": _estimate(runs[1]["gradient_bytes"]),
    }


def _main():
    record = {
        "steps": FLAGS.steps,
        "variant": FLAGS.variant,
        "assumed": {name: FLAGS[name].value for name in ASSUMED},
    }
    with tempfile.TemporaryDirectory() as folder:
        runs = {n: harness.fresh(num_replicas=n, folder=folder) for n in FLAGS.replicas}
        for stage in STAGES:
            own = {n: run[stage] for n, run in runs.items()}
            record[stage] = _summary(stage, own, folder)
    harness.save(record, FLAGS.output)


if __name__ == "__main__":
    flags.DEFINE_multi_integer(
        "replicas", [1, 2, 4], "Numbers of replicas, of which the first is 1."
    )
    flags.DEFINE_integer("steps", 20, "Steps of each training.")
    flags.DEFINE_enum(
        "variant", "quickstart", ["quickstart", "smoke"], "Variant of the configs."
    )
    flags.DEFINE_string("output", None, "JSON file to write.")
    flags.DEFINE_float("step_ms", 20, "Assumed step of one GPU.")
    flags.DEFINE_float("link_gbytes", 200, "Assumed GB/s between GPUs of a machine.")
    flags.DEFINE_float("network_gbytes", 10, "Assumed GB/s between machines.")
    flags.DEFINE_float("latency_us", 20, "Assumed latency of a hop.")
    harness.run(_main, _train_all)
