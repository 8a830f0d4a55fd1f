"""`keras.models.load_model` finds the classes in any order of imports."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import tfflowdn
from tfflowdn import layers, metrics, registration
from tfflowdn.inference import find_model

PACKAGE = Path(tfflowdn.__file__).parent


def _registered_classes():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            decorators = getattr(node, "decorator_list", [])
            if any("register_keras_ser" in ast.unparse(d) for d in decorators):
                yield path.relative_to(PACKAGE).parts[0].removesuffix(".py"), node.name


def test_every_registered_class_is_in_the_table():
    table = registration.CLASSES.items()
    expected = sorted((module, name) for module, names in table for name in names)
    assert sorted(_registered_classes()) == expected


ORDERS = {
    "tfflowdn first": "import tfflowdn, keras",
    "keras first": "import keras, tfflowdn",
    "metrics first": "import tfflowdn.metrics; from tensorflow import keras",
}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    inputs = keras.Input((None, None, 1))
    outputs = layers.GaussianBlur(1.0)(layers.Conv2D(2, 3)(inputs))
    model = keras.Model(inputs, outputs)
    model.compile("adam", "mse", metrics=[metrics.PSNR(1.0)])
    model.save(folder / "own.keras")
    return folder


def _run(code, folder):
    path = {"PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-c", code]
    result = subprocess.run(
        command, cwd=folder, env=os.environ | path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


@pytest.mark.parametrize("order", ORDERS)
def test_load_model_finds_the_classes(order, own):
    paths = [str(find_model(name)) for name in ("prior_gray", "denoiser_gray")]
    code = f"{ORDERS[order]}\nfor path in {[*paths, 'own.keras']}:\n"
    code += "  print(type(keras.models.load_model(path)).__name__)"
    assert _run(code, own) == ["FlowPrior", "ResNetDenoiser", "Functional"]


def test_the_import_does_not_import_tensorflow(tmp_path):
    code = "import sys, tfflowdn; print('tensorflow' in sys.modules)"
    assert _run(code, tmp_path) == ["False"]
