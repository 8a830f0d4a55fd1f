"""Scores pictures against their references, or without any.

    evaluate --noisy NOISY --reference CLEAN [--model MODEL] [--output JSON]

prints PSNR and SSIM of each picture in NOISY and their means. With a model, it also
scores the pictures that `denoise` makes from them with the same flags. CLEAN are clean
versions of the noisy pictures. Files are matched by their names without suffix, stacks
page by page.

    evaluate --no_reference --noisy NOISY --model MODEL [--noise NOISE.keras]

estimates the PSNR of the noisy and of the denoised pictures from the noise that
`train_noise` has learned. Without --noise, it is learned from calm places of NOISY. The
command also prints the standard deviation of the removed part, and the share of it that
is no noise. With --clean, it adds the learned noise to these clean pictures and scores
the model on them. With --prior, it adds the bits/dim before and after.

--report writes a page with all scores, the worst pictures and a divider between before
and after.

Example:
    evaluate --noisy noisy --reference clean --model general
    evaluate --no_reference --noisy noisy --model general
"""

from __future__ import annotations

import functools
from typing import Any

from absl import flags

import tfflowdn
from tfflowdn.scripts import command, evaluation_report

__all__ = ["estimate", "evaluate", "main"]

FLAGS = flags.FLAGS
NUM_LEARNED, LEARNED_SIDE = 32, 256  # Pictures for the training of the noise.


def evaluate(
    noisy: str,
    reference: str,
    model: str | None = None,
    pixel_range: str | None = None,
    axes: str | None = None,
    percentiles_by: str = "file",
    trust: bool = False,
    report: str | None = None,
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
      axes: The axes of arrays and stacks, see `data.open_source`.
      percentiles_by: "file" or "page", see `data.open_source`.
      trust: Whether to load any SavedModel, see `inference.SavedNetwork`.
      report: An HTML file to write, or None.
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
                together=denoiser.all_channels if model else None,
            )
            for spec in (noisy, reference)
        )
    )
    for source in sources:
        source.verify()
    # The pictures of the pairs are already in units of their range.
    pairs = tfflowdn.data.paired_images(*sources)
    apply = denoiser and functools.partial(denoiser, pixel_range="dtype", **options)
    rows = tfflowdn.inference.score_pairs(pairs.as_numpy_iterator(), apply)
    pictures = dict(zip(sources[0].names, rows, strict=True))
    mean = tfflowdn.inference.summarize(rows)
    scores = {"mean": mean, "pictures": pictures, "peak": _peak(sources[0])}
    if report:
        evaluation_report.write(report, scores, pairs.as_numpy_iterator(), apply)
    return scores


def estimate(
    noisy: str,
    model: str,
    noise: str | None = None,
    clean: str | None = None,
    prior: str | None = None,
    pixel_range: str | None = None,
    axes: str | None = None,
    percentiles_by: str = "file",
    trust: bool = False,
    report: str | None = None,
    **options: Any,
) -> dict:
    """Estimates the quality of denoised pictures without references.

    Args:
      noisy: Folder, glob or file of pictures of one number of channels.
      model: Name or path of a denoiser, see `inference.Denoiser.from_pretrained`.
      noise: Path of a model of their noise; None learns it from calm places.
      clean: Unrelated clean pictures, or None.
      prior: Name or path of a prior, or None.
      pixel_range: As for `evaluate`.
      axes: As for `evaluate`.
      percentiles_by: As for `evaluate`.
      trust: As for `evaluate`.
      report: An HTML file to write, or None.
      **options: As for `evaluate`.

    Returns:
      `mean`, a dictionary of estimates, and `pictures`, one by name, see
      `inference.score_without_references`; with clean pictures also `expected`, the
      mean scores on these.
    """
    denoiser = tfflowdn.Denoiser.from_pretrained(model, trust=trust)
    pixel_range = pixel_range or denoiser.pixel_range
    reading = {"pixel_range": pixel_range, "percentiles_by": percentiles_by}
    channels = denoiser.channels if denoiser.channels not in (1, 3) else None
    reading["together"] = denoiser.all_channels
    source = tfflowdn.data.open_source(noisy, channels=channels, axes=axes, **reading)
    pictures = _units(source)
    apply = functools.partial(denoiser, pixel_range="dtype", **options)
    density = tfflowdn.load_noise(noise) if noise else _learned(pictures)
    rows = tfflowdn.inference.score_without_references(
        apply, pictures, density, prior=tfflowdn.load_prior(prior) if prior else None
    )
    names = dict(zip(source.names, rows, strict=True))
    scores = {"mean": tfflowdn.inference.summarize(rows), "pictures": names}
    if report:
        shown = ((picture, None) for picture in pictures)
        evaluation_report.write(report, scores, shown, apply)
    if clean:
        channels = source.channels
        pool = tfflowdn.data.open_source(clean, channels=channels, axes=axes, **reading)
        expected = tfflowdn.inference.expected_scores(apply, _units(pool), density)
        scores["expected"] = tfflowdn.inference.summarize(expected)
    return scores


def _units(source):
    """Returns pictures in [0, 1] units, without areas of missing pixels."""
    pictures = source.with_gaps("cut").dataset().as_numpy_iterator()
    return [tfflowdn.data.to_float(picture) for picture in pictures]


def _learned(pictures):
    """Returns the noise of calm places of some of the pictures."""
    step = max(1, len(pictures) // NUM_LEARNED)
    parts = [
        tfflowdn.inference.middle(picture, LEARNED_SIDE) for picture in pictures[::step]
    ]
    return tfflowdn.noise.estimate_calm_noise(parts)


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
    options |= {"report": FLAGS.report, "trust": FLAGS.trust_saved_model}
    if FLAGS.no_reference:
        others = {"noise": FLAGS.noise, "clean": FLAGS.clean, "prior": FLAGS.prior}
        report = estimate(FLAGS.noisy, FLAGS.model, **others, **options)
        command.publish(report, FLAGS.output)
        if "expected" in report:
            print("On clean pictures with this noise:", _words(report["expected"]))
        return
    report = evaluate(
        FLAGS.noisy,
        FLAGS.reference,
        FLAGS.model,
        **options,
    )
    command.publish(report, FLAGS.output)


def _words(scores):
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items())


def _check_usage(values):
    if values["no_reference"] == (values["reference"] is not None):
        return False
    only = [values[name] for name in ("noise", "clean", "prior")]
    return values["no_reference"] or not any(only)


def main() -> None:
    """Runs the command."""
    flags.DEFINE_string("noisy", None, "Pictures: a folder, a glob or a file.")
    flags.DEFINE_string("reference", None, "Their references, with the same names.")
    flags.DEFINE_string("model", None, "A denoiser, see denoise --help.")
    flags.DEFINE_bool(
        "no_reference", False, "Estimate the quality; --model must be given."
    )
    flags.DEFINE_string("noise", None, "Learned noise, only with --no_reference.")
    flags.DEFINE_string("clean", None, "Clean pictures, only with --no_reference.")
    flags.DEFINE_string("prior", None, "A prior, only with --no_reference.")
    flags.register_multi_flags_validator(
        ["no_reference", "reference", "noise", "clean", "prior"],
        _check_usage,
        "Either --reference must be given, or --no_reference; --noise, --clean and "
        "--prior are for the latter.",
    )
    flags.register_multi_flags_validator(
        ["no_reference", "model"],
        lambda values: not values["no_reference"] or values["model"] is not None,
        "--model must be given with --no_reference.",
    )
    command.define_denoiser_flags()
    command.define_stack_flags()
    flags.DEFINE_string("output", None, "JSON file to write.")
    flags.DEFINE_string(
        "report", None, "HTML file to write, with the scores and the worst pictures."
    )
    command.require("noisy")
    command.run(_main)


if __name__ == "__main__":
    main()
