"""Scores pictures against their references.

    evaluate --noisy NOISY --reference CLEAN [--model MODEL] [--output JSON]

prints PSNR and SSIM of each picture and their means: for the pictures in NOISY as they
are and, with a model, as `denoise` denoises them with the same flags. Files are matched
by their names without suffix, stacks page by page.

Example:
    evaluate --noisy noisy --reference clean --model general
"""

from __future__ import annotations

import functools
from typing import Any

from absl import flags

import tfflowdn
from tfflowdn.scripts import command

__all__ = ["evaluate", "main"]

FLAGS = flags.FLAGS


def evaluate(
    noisy: str,
    reference: str,
    model: str | None = None,
    pixel_range: str | None = None,
    axes: str | None = None,
    percentiles_by: str = "file",
    trust: bool = False,
    **options: Any,
) -> dict:
    """Scores the pictures of two sources.

    Args:
      noisy: Folder, glob or file of pictures.
      reference: Folder, glob or file of their references.
      model: Name or path of a denoiser, see `inference.Denoiser.from_pretrained`, or
        None.
      pixel_range: The values that become 0 and 1, see `data.check_range`, and the
        data range of the scores; by default the range of the model. The percentiles
        of a noisy picture are also used for its reference.
      axes: The axes of .npy files, see `data.open_source`.
      percentiles_by: "file" or "page", see `data.open_source`.
      trust: Whether to load any SavedModel, see `inference.SavedNetwork`.
      **options: `strength`, `self_ensemble`, `luminance_only`, `transform`, `gain` and
        `offset` (in units of the range), see `inference.Denoiser`.

    Returns:
      `mean`, a dictionary of scores, `pictures`, one by name, and `peak`, the peak of
      the PSNR in words.

    Raises:
      ValueError: If names or sizes do not match, a file is in both sources, or an
        option is not valid.
      ImageReadError: If a picture cannot be read, before any is denoised.
    """
    denoiser = None
    if model:
        denoiser = tfflowdn.Denoiser.from_pretrained(model, trust=trust)
    is_one = model and len(denoiser.networks) == 1
    channels = denoiser.channels if is_one else None
    pixel_range = pixel_range or (denoiser.pixel_range if model else "dtype")
    sources = tfflowdn.data.pair_sources(
        *(
            tfflowdn.data.open_source(
                spec,
                channels=channels,
                pixel_range=pixel_range,
                axes=axes,
                percentiles_by=percentiles_by,
            )
            for spec in (noisy, reference)
        )
    )
    for source in sources:
        source.verify()
    # The pictures of the pairs are already in units of their range.
    rows = tfflowdn.inference.score_pairs(
        tfflowdn.data.paired_images(*sources).as_numpy_iterator(),
        denoiser and functools.partial(denoiser, pixel_range="dtype", **options),
    )
    pictures = dict(zip(sources[0].names, rows, strict=True))
    mean = tfflowdn.inference.summarize(rows)
    return {"mean": mean, "pictures": pictures, "peak": _peak(sources[0])}


def _peak(source):
    """Returns the peak of the PSNR in words."""
    low, _, high = source.pixel_range.partition(",")
    if "%" in low:
        return f"the distance of the percentiles {low} and {high} of a noisy picture"
    if low == "dtype":
        peak = tfflowdn.data.dtype_limits(source.dtype)[1]
        deep = "1, or the largest value of an integer type"
        return f"{peak}" if source.dtype != "float32" else deep
    return f"{float(high) - float(low):g} ({source.pixel_range})"


def _main(argv):
    del argv
    options = command.denoiser_options(FLAGS)
    options |= {"axes": FLAGS.axes, "percentiles_by": FLAGS.percentiles_by}
    report = evaluate(
        FLAGS.noisy,
        FLAGS.reference,
        FLAGS.model,
        trust=FLAGS.trust_saved_model,
        **options,
    )
    command.publish(report, FLAGS.output)


def main() -> None:
    """Runs the command."""
    flags.DEFINE_string("noisy", None, "Pictures: a folder, a glob or a file.")
    flags.DEFINE_string("reference", None, "Their references, with the same names.")
    flags.DEFINE_string("model", None, "A denoiser, see denoise --help.")
    command.define_denoiser_flags()
    command.define_stack_flags()
    flags.DEFINE_string("output", None, "JSON file to write.")
    command.require("noisy", "reference")
    command.run(_main)


if __name__ == "__main__":
    main()
