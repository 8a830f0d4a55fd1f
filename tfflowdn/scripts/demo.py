"""Serves a page on which anybody can try the denoisers.

    demo [--port 7860] [--host 127.0.0.1]

The page takes a picture or a stack, a model and a strength. It shows the picture before
and after with a divider, describes the noise, and offers the result in the
format of the picture, with its metadata. With noise added to a clean picture it shows
the PSNR. It calls no other host. By default only this machine can open it; --host
0.0.0.0 opens it to the network, without a password.

It needs Gradio: pip install 'tfflowdn[demo]'.

Example:
    demo --port 7860
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from absl import flags, logging

from tfflowdn.scripts import command

__all__ = ["main"]

FLAGS = flags.FLAGS


def _main(argv):
    del argv
    # They need TensorFlow, and --help does not.
    from tfflowdn.scripts import demo_page, demo_work

    limits = demo_work.Limits(FLAGS.megabytes, FLAGS.megapixels, FLAGS.seconds)
    with tempfile.TemporaryDirectory(prefix="demo_") as folder:
        blocks = demo_page.build(Path(folder), limits, FLAGS.jobs)
        _, url, _ = blocks.launch(
            server_name=FLAGS.host,
            server_port=FLAGS.port,
            max_file_size=int(1e6 * FLAGS.megabytes),
            quiet=True,
            prevent_thread_lock=True,
            **demo_page.look(),
        )
        logging.info("The page is at %s; Ctrl+C ends it.", url)
        blocks.block_thread()


def main() -> None:
    """Runs the command."""
    flags.DEFINE_string("host", "127.0.0.1", "Address to serve; 0.0.0.0 for all.")
    flags.DEFINE_integer("port", 7860, "Port of the page.", 1, 65535)
    flags.DEFINE_integer("jobs", 2, "Pictures that are denoised at a time.", 1)
    flags.DEFINE_float("megabytes", 100.0, "Largest file, in MB.", 0)
    flags.DEFINE_float("megapixels", 50.0, "Largest picture, all planes.", 0)
    flags.DEFINE_float("seconds", 300.0, "Longest time for a picture.", 0)
    command.run(_main)


if __name__ == "__main__":
    main()
