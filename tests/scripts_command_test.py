"""Commands before their work: help, version, bad flags, configurations by name."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import forks
import pytest
from absl import flags

from tfflowdn import devices, inference
from tfflowdn.scripts import (
    command,
    command_line,
    configuration,
    denoise,
    shared_flags,
)

ROOT = Path(__file__).parent.parent
SETUP = (ROOT / "setup.py").read_text()
COMMANDS = re.findall(r'^    "(\w+)",$', SETUP.split("SCRIPTS = (")[1], re.M)
HEAVY = ("tensorflow", "keras", "tensorflow_probability", "apache_beam")

# Runs a command as its console script does, and says which heavy modules it imported.
RUN = """
import importlib, sys
sys.argv = sys.argv[1:]
try:
    importlib.import_module("tfflowdn.scripts." + sys.argv[0]).main()
finally:
    print("imported", [m for m in {heavy} if m in sys.modules], file=sys.stderr)
"""


def _run(*arguments, folder=None):
    return subprocess.run(
        [sys.executable, "-c", RUN.format(heavy=HEAVY), *map(str, arguments)],
        cwd=folder or ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def _commands():
    return [name for name in COMMANDS if name in _modules()]


def _modules():
    return {path.stem for path in (ROOT / "tfflowdn" / "scripts").glob("*.py")}


@pytest.mark.parametrize("name", _commands())
def test_help_lists_the_own_flags_without_tensorflow(name):
    done = _run(name, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "imported []\n"
    assert f"    {name} " in done.stdout.partition("Example:")[2]
    assert "alsologtostderr" not in done.stdout
    listed = re.findall(r"^  (?:-h, )?--(?:\[no\])?(\w+)", done.stdout, re.M)
    assert len(set(listed)) == len(listed) > 4
    assert {"help", "version"} <= set(listed)


def test_help_shows_defaults_and_required_flags():
    text = " ".join(_run("denoise", "--help").stdout.split())
    assert "--output=TEXT Folder to write. (required)" in text
    assert "the general model for gray and color. (default: auto)" in text
    assert (
        "--[no]overwrite Replace files in the output folder. (default: false)" in text
    )


def test_help_lists_the_keys_of_a_configuration():
    done = _run("train_prior", "--config", "prior_glow:smoke", "--help")
    assert "  --config.training.num_steps=4\n" in done.stdout


@pytest.mark.parametrize("name", _commands())
def test_version(name):
    done = _run(name, "--version")
    assert (done.returncode, done.stderr) == (0, "imported []\n")
    assert re.fullmatch(r"tfflowdn \d+\.\d+\.\d+\n", done.stdout)


GLOW = ("--config", "prior_glow:smoke", "--workdir", "W")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("denoise", "IN", "--outptu=x"), r"no flag --outptu. Did you mean --output"),
        (("denoise", "IN"), r"--output is required\."),
        (("denoise", "--output", "x"), r"INPUT must be given\."),
        (("denoise", "IN", "--output", "x", "--strength=a"), "--strength=a"),
        (("score", "A", "B", "--prior", "x"), "Only one PICTURES .*: A B"),
        (("evaluate",), "--noisy is required"),
        (("evaluate", "--noisy=n"), "Either --reference must be given"),
        (("evaluate", "--noisy=n", "--no_reference"), "--model must be given"),
        (("train_prior", "--workdir", "W"), "--config is required.*prior_glow"),
        (
            ("train_prior", "--config.clean.spec=x", "--workdir", "W"),
            "--config is required.*prior_glow",
        ),
        (("train_prior", "--config", "glow", "--workdir", "W"), "mean prior_glow"),
        (("train_prior", "--config=prior_glow:big", "--workdir=W"), "'big'"),
        (
            ("train_prior", *GLOW, "--config.clean.spce=x"),
            r"config.clean has no key 'spce'. Did you mean clean.spec\? Its keys: "
            "axes, data_dir, percentiles_by, pixel_range, spec",
        ),
        (
            ("train_prior", "--config.crop.seed=1", *GLOW),
            r"no key 'crop'. Did you mean crops\?",
        ),
        (("train_prior", *GLOW, "--config.training.num_steps=x"), "num_steps=x"),
        (("train_prior", *GLOW, "more"), "takes only flags. Received: more"),
    ],
)
def test_a_bad_command_line_is_answered_in_a_line(arguments, message):
    done = _run(*arguments)
    assert done.returncode == command.EXIT_USAGE
    line, see, imported = done.stderr.splitlines()
    assert re.search(message, line), line
    assert see == f"See {arguments[0]} --help."
    assert imported == "imported []"


def test_a_configuration_is_a_name_or_a_file(tmp_path):
    file = ROOT / "configs" / "prior_glow.py"
    assert configuration.resolve("prior_glow") == str(file)
    assert configuration.resolve("prior_glow:gray") == f"{file}:gray"
    assert configuration.resolve(f"{file}:gray") == f"{file}:gray"
    with pytest.raises(configuration.UsageError, match="could not|can run"):
        (tmp_path / "broken.py").write_text("1 / 0")
        configuration.check_overrides([], str(tmp_path / "broken.py"))
    with pytest.raises(configuration.UsageError, match=r"get_config\(\)"):
        (tmp_path / "empty.py").write_text("")
        configuration.check_overrides([], str(tmp_path / "empty.py"))


def test_overrides_may_come_before_the_configuration(tmp_path):
    missing = tmp_path / "missing"
    done = _run(
        *("train_prior", f"--config.clean.spec={missing}", *GLOW[:2]),
        *("--config.validation.spec", missing, "--workdir", tmp_path / "W"),
    )
    assert done.returncode == 1
    assert f"Received: spec='{missing}'" in done.stderr
    assert len(done.stderr.splitlines()) == 2  # No messages of TensorFlow.


def test_traceback_shows_where_an_error_occurred(tmp_path):
    flags = (tmp_path / "no", "--prior", tmp_path / "none.keras")
    arguments = ["-m", "tfflowdn.scripts.score", *flags]
    done = forks.run(arguments)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    done = forks.run([*arguments, "--traceback"])
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "in load_prior" in done.stderr


def test_choices_and_defaults_are_those_of_the_library():
    assert shared_flags.STRATEGIES == devices.STRATEGIES
    assert denoise.GENERAL == inference.GENERAL


def test_the_wheel_has_the_configurations(monkeypatch):
    arguments = {}
    monkeypatch.setattr("setuptools.setup", lambda **given: arguments.update(given))
    exec(
        compile(SETUP, str(ROOT / "setup.py"), "exec"), {"__file__": ROOT / "setup.py"}
    )
    assert {"tfflowdn.configs", "tfflowdn.saved_models"} <= set(arguments["packages"])
    assert arguments["package_dir"]["tfflowdn.configs"] == "configs"
    scripts = arguments["entry_points"]["console_scripts"]
    assert "prepare_tfds=tfflowdn.scripts.prepare_tfds:main" in scripts
    for script in scripts:
        assert (ROOT / "tfflowdn/scripts" / f"{script.split('=')[0]}.py").exists()


def test_names_of_the_package_are_imported_at_first_use():
    code = (
        "import sys, tfflowdn\n"
        "assert 'tensorflow' not in sys.modules\n"
        "assert set(tfflowdn.__all__) <= set(dir(tfflowdn))\n"
        "assert tfflowdn.__all__ == sorted(tfflowdn.__all__)\n"
        "assert not hasattr(tfflowdn, 'missing')\n"
        "assert tfflowdn.data.open_source and tfflowdn.bijectors.ActNorm\n"
        "from tfflowdn import *\n"
        "from tfflowdn import Denoiser, denoise\n"
        "assert Denoiser is tfflowdn.inference.Denoiser and callable(denoise)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "error, code",
    [(ValueError("a"), 1), (OSError("a"), 1), (RuntimeError("a"), None)],
)
def test_exit_codes(error, code):
    assert command._exit_code(error) == code


def test_an_error_that_is_not_a_check_of_ours_names_the_flag():
    assert command._one_line(ValueError("Received: a=1.")).count("\n") == 0
    assert "--traceback" in command._one_line(ValueError("bad shape"))


def test_flags_of_other_libraries_are_not_the_commands():
    assert "alsologtostderr" in flags.FLAGS
    assert "alsologtostderr" in command_line._OTHERS


def test_reports_are_valid_json_and_name_the_peak(tmp_path, capsys):
    scores = {"psnr": float("inf"), "ssim": 1.0}
    report = {"mean": scores, "pictures": {"a.png": scores}, "peak": "255"}
    command.publish(report, str(tmp_path / "a.json"))
    loaded = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    assert loaded["mean"] == {"psnr": None, "ssim": 1.0}
    assert "The peak of the PSNR is 255." in capsys.readouterr().out


def test_help_may_be_read_in_part():
    command = f"{sys.executable} -m tfflowdn.scripts.denoise --help | head -1"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert (done.stdout, done.stderr) == ("Denoises files.\n", "")
