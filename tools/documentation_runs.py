"""Tells how each command of the documentation is made small, or why it is not run.

The tables are explicit: a command that no line of them changes is run as it stands.
"""

from __future__ import annotations

import re

__all__ = [
    "ACCEPTED",
    "CHANGED_PROGRAMS",
    "IN_ROOT",
    "SLOW",
    "as_run",
    "kit_of",
    "reason_not_to_run",
]

# Pages whose placeholders stand for other pictures, see documentation_inputs.py.
KITS = {
    "docs/microscopist.md": "counts",
    "docs/photographer.md": "camera",
    "docs/researcher.md": "protocol",
    "saved_models/": "protocol",
    "tools/": "protocol",
}

KIT_OF_COMMAND = {
    r"^score PICTURES|quickstart": "photographs",
    r"CYX|runs/dyes": "dyes",
    r"^denoise STACKS": "counts",
}

NOT_RUN = (
    (
        r"^(python3 -m |PEERS/bin/)?pip install",
        "It installs packages; .ci/run does so.",
    ),
    (r"^python -m venv PEERS", "The environment is for PyTorch, which is not here."),
    (r"^demo ", "It serves until it is ended, and needs Gradio; a test uses it."),
    (r"^docker ", "It needs Docker and the image of TensorFlow Serving."),
    (r"gs://", "It needs a bucket and a cluster."),
    (r"^tfds build", "It downloads a data set."),
    (r"benchmark_flows|normflows_glow", "It needs PyTorch and the other libraries."),
    (r"bm3d_quality", "It needs bm3d, whose license permits research only."),
    (r"timelapse.py .*--record", "It scores a run of adapt of 15 minutes."),
    (r"run_documentation", "It is this program."),
    (r"check_oldest", "It downloads the oldest packages that are allowed."),
)
"""Patterns of commands that are not run, with the reasons."""

TRAINING = "--config.{0}.training.num_steps=2 --config.{0}.training.steps_per_epoch=2"
NOISE = "--config.residuals.num_steps=4 --config.calm.num_steps=4"
EPOCH = "--config.training.steps_per_epoch=2"
STEPS = f"--config.training.num_steps=2 {EPOCH}"
FRAGMENTS = "--config.clean.spec=CLEAN --config.validation.spec=HELD_OUT"

SMALLER = (
    # Words of the command that become others.
    (r"^python3 -m venv \.venv && .*? && \.venv/bin/(?=python tools)", ""),
    (r"^python3 -m venv \.venv && .*? && \.venv/bin/(?=ruff)", ""),
    (r"&& \.venv/bin/", "&& "),
    (r"python -m pytest -n 2 --dist loadfile", "python -m pytest tests/files_test.py"),
    (r"pytest tests/docs_test.py$", "pytest tests/docs_test.py -k configuration"),
    (r"^source ", "python3 -m venv .venv && source "),
    (r"REPOSITORY", "file://{root} --depth 1"),
    (r"^mkdocs serve$", "timeout 60 mkdocs serve -a localhost:8937"),
    (r"^tensorboard (.*)$", r"timeout 30 tensorboard \1 --port 8938"),
    (r"scripts\.(COMMAND|denoise)$", "scripts.denoise --help"),
    (r"^(\w+) --(\w+)$", r"\1 --help | grep -E -e '--(.no.)?\2'"),
    (r"^(\w+) --format onnx$", r"\1 --help | grep -e '--format.*onnx'"),
    (r"^(\w+) --config\.\w+$", r"\1 --help | grep -e '--config.KEY'"),
    (r"^(export_model MODEL.*)NAME", r"\1denoiser --output saved_models"),
    (r"NAME", "pictures"),
    (r"LOW,HIGH", "1,2"),
    (r"prior_glow:(gray|rgb)", "prior_glow:smoke"),
    (r"(?<=--config denoiser_resnet)(?= )", ":smoke"),
    (r"denoiser_resnet:distill", "denoiser_resnet:smoke_distill"),
    (r"(?<=--config noise)(?= )", ":smoke"),
    (r"(?<=--config uncertainty)(?= )", ":smoke"),
    (r"--output tools/results/[\w/]*?(?=\w+\.json)", "--output "),
    # Flags that are added to the command.
    (r"(camera_distill .*)", rf"\1 {TRAINING.format('distill')}"),
    (r"^(train_noise .*)", rf"\1 {NOISE}"),
    (r"^(train_prior .*multichannel .*)", rf"\1 {STEPS}"),
    (
        r"^(train_prior .*)(?<!_prior)(?<!/prior)(?<!=2)$",
        rf"\1 {FRAGMENTS} --workdir runs/card",
    ),
    (
        r"^(train_prior .*num_steps=)12000",
        r"\g<1>2 --config.training.steps_per_epoch=2",
    ),
    (r"^(adapt (?!PHOTOS).*)", r"\1 --model TINY.keras --minutes 0.01"),
    (r"^(adapt PHOTOS.*)", r"\1 --model TINY_COLOR.keras --minutes 0.01"),
    (r"^(deep_image_prior .*)", r"\1 --max_steps 2"),
    (r"^(denoise_client (?!--help).*)", r"\1 --server localhost:{rest}"),
    (r"localhost:8501", "localhost:{rest}"),
    (r"^(denoise --(model|channels) \S+)$", r"\1 NOISY --output DENOISED"),
    # Tools.
    (r"(tools/make_tables.py)$", r"\1 --check"),
    (r"(soak_hostile.py.*)", r"\1 --files 3 --models 3 --kills 1 --minutes 0.02"),
    (r"(soak_hostile.py.*)", r"\1 --threads 2 --commands denoise"),
    # The memory of the other parts still grows in a short trial.
    (r"(soak_hostile.py.*)", r"\1 --parts requests --parts answers --parts kills"),
    (r"(soak_kills.py.*)", r"\1 --kills 1 --num_steps 25 --only prior"),
    (r"(benchmark_inference.py.*)", r"\1 --megapixels 0.01 --folder_count 2"),
    (r"(benchmark_inference.py.*)", r"\1 --folder_side 64 --suffixes .png --rounds 1"),
    (r"(benchmark_inference.py.*)", r"\1 --compared_megapixels 0.02"),
    (r"(benchmark_formats.py.*)", r"\1 --sides 32 --rounds 1"),
    (r"(benchmark_engine.py.*)", r"\1 --measure memory --memory_batch_size 1"),
    (r"(benchmark_engine.py.*)", r"\1 --fresh_processes 1"),
    (r"(benchmark_training.py.*)", r"\1 --rounds 1 --steps 2"),
    (r"(benchmark_input.py.*)", r"\1 --pictures 8 --steps 2"),
    (r"(benchmark_scaling.py.*)", r"\1 --steps 3 --variant smoke"),
    (r"(load_test.py.*)", r"\1 --threads 2 --seconds 20"),
    (r"(measure_memory.py.*)", r"\1 --megabytes 8"),
    (r"(check_trained_flow.py .*) DIR", r"\1 CLEAN --count 4"),
    (r"(measure_quality.py.*)", r"\1 --num_steps 2"),
    (r"(tools/compare.py.*)", r"\1 --tests gray/gaussian_25 --methods start"),
    (r"(tools/compare.py.*)", r"\1 --num_steps 2 --num_pictures 2"),
    (r"(compare_figure.py.*--pictures) PICTURES", r"\1 PHOTOGRAPHS"),
    (r"(compare_figure.py.*)", r"\1 --methods noisy"),
    (r" --model \"Noise2Void=[^\"]*\"", ""),
    (r"(measure_sizes.py.*)", r"\1 --num_steps 2 --repeats 1"),
    (r"(ablate_objective.py.*)", r"\1 --num_steps 2 --only 0.35"),
    (r"(ablate_prior.py.*?) --minutes \d+", r"\1 --minutes 0.02 --only glow"),
    (r"(ablate_prior.py.*)", r"\1 --timed_steps 2 --size smoke"),
    (r"(train_general.py.*)", r"\1 --steps 2"),
    (r"OUT.json", "OBJECTIVE.json"),
    (r" --output engine.json", ""),
    (r"(measure_choice.py.*)", r"\1 --every 20"),
    (r"guide_pictures.py --stack STACK", "guide_pictures.py --output GUIDE"),
    (r"(measure_adapt.py.*)", r"\1 --minutes 0.1"),
    (r"(validate_no_reference.py.*)", r"\1 --stride 60 --test_stride 40"),
    (r"(validate_no_reference.py.*)", r"\1 --noise_steps 2"),
)
"""Patterns and their replacements, applied in this order."""

CHANGED_PROGRAMS = {
    "adapt": "from tfflowdn.adapt import plans\n"
    'plans.NOISE, plans.MIN_STEPS, plans.MAX_STEPS = "noise:smoke", 8, 8',
}
"""Python that makes a command small where flags cannot: adapt trains 200 steps."""

IN_ROOT = r"^(ruff|mkdocs|timeout 60 mkdocs|python -m pytest)"
"""Commands that run in the root of the repository, not in the folder of inputs."""

SLOW = r"tools/(quickstart|measure_adapt).py"
"""Commands that run after all others, because they cannot be made small."""

ACCEPTED = ((r"^adapt ", 3), (r"^timeout ", 124), (r"check_trained_flow", 1))
"""Exit codes other than 0 that a command may have, without a traceback.

3 is in docs/commands.md. `timeout` ends a server. A flow that is checked on pictures
far from its training may fail the check.
"""


def kit_of(page: str, line: str) -> str:
    """Returns the kit of inputs of a command of a page."""
    kits = [kit for start, kit in KITS.items() if page.startswith(start)]
    for pattern, kit in KIT_OF_COMMAND.items():
        if re.search(pattern, line):
            return kit
    return next(iter(kits), "photographs")


def reason_not_to_run(line: str) -> str | None:
    """Returns why a command is not run, or None."""
    reasons = (reason for pattern, reason in NOT_RUN if re.search(pattern, line))
    return next(reasons, None)


def as_run(line: str) -> str:
    """Returns a command at its smallest size; {root} and {rest} are to be filled in."""
    for pattern, replacement in SMALLER:
        line = re.sub(pattern, replacement, line)
    return line
