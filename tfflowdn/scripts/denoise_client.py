"""Denoises files with a model that TensorFlow Serving serves.

    denoise_client NOISY... --output DENOISED [--grpc] [--server HOST:PORT]

NOISY are PNG, JPEG, TIFF and WebP files, and folders of them. The folder DENOISED gets
a PNG with the same name for each file, of 16 bits if the file has 16 bits, and a TIFF
for each TIFF. A file that fails is named at the end, with code 1, and does not stop the
others. REST needs no TensorFlow for PNG and JPEG files; gRPC needs
`pip install 'tfflowdn[serving]'`.

Example:
    denoise_client noisy/ --output denoised --server localhost:8501
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from absl import flags, logging

from tfflowdn.progress import Progress
from tfflowdn.scripts import command
from tfflowdn.scripts.failures import Failures
from tfflowdn.serving import client

__all__ = ["main"]

FLAGS = flags.FLAGS
MOST_SHOWN = 20


def _main(argv: list[str]) -> None:
    kind = client.GrpcClient if FLAGS.grpc else client.RestClient
    connection = kind(
        FLAGS.server, FLAGS.model, timeout=FLAGS.timeout, retries=FLAGS.retries
    )
    sources = [Path(path) for path in argv[1:]]
    output, failures = Path(FLAGS.output), Failures()
    num_files = len(client.find_targets(sources, output))
    with Progress(num_files, "picture") as progress:
        client.denoise_folder(
            connection,
            sources,
            output,
            parallel=FLAGS.parallel,
            report=progress.update,
            on_failure=failures.add,
        )
    _tell_omitted(client.find_omitted(sources, output))
    failures.raise_any(num_files, output)


def _tell_omitted(omitted: Sequence[Path]) -> None:
    """Logs the files that were not sent."""
    if not omitted:
        return
    noun = "file was" if len(omitted) == 1 else "files were"
    names = [str(path) for path in omitted[:MOST_SHOWN]]
    names += ["..."] if len(omitted) > MOST_SHOWN else []
    logging.warning(
        "%d %s not sent; the command takes PNG, JPEG, TIFF and WebP files, and denoise "
        "takes others: %s",
        len(omitted),
        noun,
        ", ".join(names),
    )


def main() -> None:
    """Runs the command."""
    flags.DEFINE_string("output", None, "Folder to write.")
    flags.DEFINE_bool("grpc", False, "Use gRPC instead of REST.")
    flags.DEFINE_string(
        "server",
        None,
        "HOST:PORT; by default port 8501 (REST) or 8500 (gRPC) of this machine.",
    )
    flags.DEFINE_string("model", "denoiser", "Name of the model in the server.")
    flags.DEFINE_float(
        "timeout", 600.0, "Seconds to wait for an answer.", lower_bound=0
    )
    flags.DEFINE_integer(
        "retries",
        5,
        "Number of further requests when the server does not answer.",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "parallel", 4, "Number of requests at the same time.", lower_bound=1
    )
    command.require("output")
    command.run(_main, arguments="NOISY...", needs_tensorflow=False)


if __name__ == "__main__":
    main()
