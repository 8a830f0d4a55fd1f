"""Runs some tests with the oldest versions of packages that setup.py allows.

    python tools/check_oldest.py

installs the oldest keras, pillow and tensorflow-probability into a temporary folder, in
front of the installed versions, and runs the tests of models, optimizers and picture
files with them. It takes about two minutes on two cores. CI tests the newest versions.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile

import harness
from absl import flags

FLAGS = flags.FLAGS
PACKAGES = ("keras", "pillow", "tensorflow-probability")
TESTS = (
    "data_fuzz_test.py",
    "data_images_test.py",
    "inference_model_files_test.py",
    "models_resnet_test.py",
    "training_averaged_weights_test.py",
)


def oldest(package: str) -> str:
    """Returns the requirement of the oldest version that setup.py allows.

    Raises:
      ValueError: If setup.py has no lower bound.
    """
    text = (harness.ROOT / "setup.py").read_text()
    found = re.search(rf'"{re.escape(package)}>=([0-9.]+)', text)
    if not found:
        raise ValueError(f"setup.py must bound every package. Received: {package!r}.")
    version = found[1] + ".0" * (2 - found[1].count("."))
    return f"{package}=={version}"


def _main():
    requirements = [oldest(package) for package in PACKAGES]
    print(*requirements, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]
        # Python compiles the few modules that are imported.
        options = ["--no-compile", "--target", folder]
        subprocess.run([*pip, *options, *requirements], check=True)
        path = os.pathsep.join([folder, str(harness.ROOT)])
        tests = [str(harness.ROOT / "tests" / name) for name in FLAGS.tests]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *tests],
            env={**os.environ, "PYTHONPATH": path},
            cwd=harness.ROOT,
        )
    sys.exit(done.returncode)


if __name__ == "__main__":
    flags.DEFINE_multi_string("tests", TESTS, "Names of the files of the tests.")
    harness.run(_main)
