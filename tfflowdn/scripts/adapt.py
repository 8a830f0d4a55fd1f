"""Adapts a denoiser to noisy pictures, and denoises them.

    adapt NOISY --output DENOISED [--clean CLEAN] [--workdir RUN] [--minutes 15]

NOISY is a picture or a folder of all formats that `denoise` reads; CLEAN are clean
pictures of the same kind, which may show other scenes. Without them, photographs of
the package are used, with the brightness of the pictures.

The command measures the pictures and prints the results. It decides how to train,
learns the noise and trains the denoiser. It compares the trained denoiser with the
first one, without references, and denoises NOISY with the better one. The last line
names the gain. RUN holds the models, report.html (a page with pictures, curves and
tables) and config.json with every decision and its reason. A run that was killed
continues when the same command is given again.

Exit code 3 means that the adapted denoiser was not better, so that the starting model
was used.

Example:
    adapt noisy --output denoised --clean clean --workdir runs/adapt
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

from absl import flags, logging

import tfflowdn
from tfflowdn.scripts import command
from tfflowdn.scripts.denoise import denoise_files

__all__ = ["EXIT_NOT_BETTER", "adapt", "main"]

FLAGS = flags.FLAGS
EXIT_NOT_BETTER = 3
"""Code of a run whose adapted denoiser is not better than the starting model."""


def adapt(
    noisy: str,
    output: str,
    workdir: str | None = None,
    *,
    overwrite: bool = False,
    **options: Any,
) -> tuple[tfflowdn.adapt.Adaptation, str]:
    """Adapts a denoiser to pictures and denoises them.

    Args:
      noisy: A picture or a folder of pictures.
      output: The folder of the denoised pictures.
      workdir: The folder of the run; by default `output` with "_run" at its end.
      overwrite: Whether files in `output` may be replaced. A run that continues keeps
        the files that it has written.
      **options: See `adapt.Adaptation`.

    Returns:
      The adaptation, and a sentence about the gain.

    Raises:
      ValueError: For bad pictures or options, or if some pictures failed.
    """
    workdir = workdir or f"{output.rstrip('/')}_run"
    _check_folders(noisy, output, workdir)
    continues = (Path(workdir) / "config.json").exists()
    # An output folder below the input holds results of an earlier run.
    is_inside = Path(output).resolve() != Path(noisy).resolve()
    left_out = [Path(output)] if is_inside else []
    if not (overwrite or continues):
        _check_outputs(noisy, output, left_out)
    run = tfflowdn.adapt.Adaptation(noisy, workdir, left_out=left_out, **options)
    for line in run.record["lines"]:
        logging.info("%s", line)
    logging.info("Decisions:")
    for name, reason in run.decisions.reasons.items():
        value = getattr(run.decisions, name)
        shown = "measured" if value is None else value
        logging.info("  %s: %s, because %s", name, shown, reason)
    model = run.train()
    if options.get("stop"):  # No checkpoint is left to write.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    denoiser = _denoiser(model, run.look.channels)
    axes = options.get("axes")
    denoise_files(
        [noisy],
        output,
        denoiser,
        overwrite=overwrite,
        skip_existing=continues and not overwrite,
        axes=axes,
    )
    sentence = _gained(run, output)
    path = tfflowdn.adapt.write_summary(run, sentence)
    logging.info("The report is in %s", path)
    return run, sentence


def _check_folders(noisy: str, output: str, workdir: str) -> None:
    """Checks that the pictures of the run are not among the noisy ones."""
    inner, outer, out = (Path(p).resolve() for p in (workdir, noisy, output))
    if inner.is_relative_to(outer) and not inner.is_relative_to(out):
        raise ValueError(
            "workdir must not lie in the folder of the noisy pictures. "
            f"Received: {workdir=}."
        )


def _check_outputs(noisy: str, output: str, left_out: list[Path]) -> None:
    """Checks before the training that no output exists."""
    path = Path(noisy)
    root = path if path.is_dir() else path.parent
    found = tfflowdn.adapt.find_files(noisy, left_out)
    targets = [
        Path(output) / tfflowdn.data.result_name(file.relative_to(root))
        for file in found
    ]
    existing = [str(target) for target in targets if target.exists()]
    if existing:
        raise ValueError(
            "Outputs must not exist, or --overwrite must be set. "
            f"Received: {existing[:3]}, {len(existing)} in all."
        )


def _denoiser(path: Path, channels: int) -> tfflowdn.Denoiser:
    """Returns the adapted denoiser, and the general one for other channels."""
    network = tfflowdn.load_denoiser(path)
    other = tfflowdn.load_denoiser("general", 1 if channels == 3 else 3)
    return tfflowdn.Denoiser(network, other)


def _gained(run: tfflowdn.adapt.Adaptation, output: str) -> str:
    result = run.comparison
    noisy, start = result.noisy_psnr, result.psnr["start"]
    if not result.is_credible:
        return (
            f"{output} was denoised by {run.decisions.start}, because the learned "
            "noise is weaker than the noise that this model removes, so that an "
            "adaptation to it cannot be judged."
        )
    if result.best == "start":
        return (
            f"{output} was denoised by {run.decisions.start} (estimated PSNR "
            f"{start:.1f} dB, noisy {noisy:.1f} dB), because the adapted denoiser was "
            "not better."
        )
    if result.expected:
        best, start = (result.expected[name] for name in (result.best, "start"))
        kind = "clean pictures of yours" if run.has_clean else "photographs"
        return (
            f"{output} was denoised by the adapted denoiser. On held-out {kind} with "
            f"this noise it has {best:.1f} dB, and {run.decisions.start} {start:.1f} "
            "dB; the estimates on the noisy pictures do not contradict."
        )
    best = result.psnr[result.best]
    return (
        f"{output} was denoised by the adapted denoiser: estimated PSNR {best:.1f} dB, "
        f"{run.decisions.start} {start:.1f} dB, noisy pictures {noisy:.1f} dB."
    )


def _main(argv):
    run, sentence = adapt(
        argv[1],
        FLAGS.output,
        FLAGS.workdir,
        overwrite=FLAGS.overwrite,
        clean=FLAGS.clean,
        minutes=FLAGS.minutes,
        axes=FLAGS.axes,
        photographs=FLAGS.photographs,
        stop=command.sigterm_flag(),
        overrides={
            "start": FLAGS.model,
            "evidence": FLAGS.evidence,
            "pixel_range": FLAGS.range,
            "zoom_range": _pair(FLAGS.zoom_range, "zoom_range"),
            "level_range": _pair(FLAGS.level_range, "level_range"),
            "match_brightness": FLAGS.match_brightness,
            "own_share": FLAGS.own_share,
            "prior": FLAGS.prior,
        },
    )
    logging.info("%s", sentence)
    if run.comparison.best == "start":
        sys.exit(EXIT_NOT_BETTER)


def _pair(values: list[str] | None, name: str) -> tuple[float, float] | None:
    if values is None:
        return None
    try:
        low, high = map(float, values)
    except ValueError:
        raise ValueError(
            f"{name} must be two numbers LOW,HIGH. Received: {name}={values}."
        ) from None
    return low, high


def main() -> None:
    """Runs the command."""
    flags.DEFINE_string("output", None, "Folder for the denoised pictures.")
    flags.DEFINE_string("clean", None, "Clean pictures of the same kind.")
    flags.DEFINE_string(
        "workdir", None, "Folder of the run; by default OUTPUT with _run at its end."
    )
    flags.DEFINE_float("minutes", 15.0, "Time for everything, in minutes.")
    flags.DEFINE_bool("overwrite", False, "Replace files in the output folder.")
    flags.DEFINE_string(
        "axes", None, "Axes of arrays and stacks, such as TZYX, see denoise --help."
    )
    flags.DEFINE_bool(
        "photographs", None, "Whether the pictures are photographs; found by default."
    )
    flags.DEFINE_string("model", None, "Decision: the denoiser to start from.")
    flags.DEFINE_enum(
        "evidence",
        None,
        ["residuals", "calm"],
        "Decision: the source of the noise, see train_noise --help.",
    )
    flags.DEFINE_string(
        "range", None, "Decision: the pixel values that become 0 and 1, LOW,HIGH."
    )
    flags.DEFINE_list(
        "zoom_range", None, "Decision: factors that enlarge clean crops, LOW,HIGH."
    )
    flags.DEFINE_list(
        "level_range", None, "Decision: factors on the level of the noise, LOW,HIGH."
    )
    flags.DEFINE_bool(
        "match_brightness",
        None,
        "Decision: give the clean pictures the brightness of the noisy ones.",
    )
    flags.DEFINE_float(
        "own_share",
        None,
        "Decision: share of the steps that learn from the noisy pictures themselves.",
        0,
        1,
    )
    flags.DEFINE_string("prior", None, "Decision: the prior that scores the pictures.")
    command.require("output")
    command.run(_main, arguments="NOISY")


if __name__ == "__main__":
    main()
