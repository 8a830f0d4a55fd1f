"""The one direction of imports, read from the sources.

From bottom to top; a module may import from lower components and from its own
component. The components of the two lowest rows know nothing of one another. A new
module of the package must be given its place here.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import tfflowdn

LAYERS = (
    ("checks",),
    (
        "channels",
        "config_files",
        "devices",
        "files",
        "progress",
        "registration",
        "saving",
        "sections",
        "variants",
    ),
    ("bijectors", "layers", "data", "metrics"),
    ("flow_parts",),
    ("flows",),
    ("models", "noise"),
    ("training", "inference"),
    ("serving", "report"),
    ("stages",),
    ("adapt",),
    ("scripts",),
)

RANKS = {name: rank for rank, names in enumerate(LAYERS) for name in names}

ROOT = Path(tfflowdn.__file__).parent
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


def _component(dotted):
    """Returns the component of `tfflowdn.component...`; "" for the package itself."""
    return (dotted.split(".") + [""])[1]


def _module(file):
    parts = ("tfflowdn", *Path(file).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(tree, file):
    """Yields the full name of everything imported, at any depth of the source."""
    package = _module(file).split(".")
    if not file.endswith("__init__.py"):
        package = package[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *([node.module] if node.module else [])]
            yield from (".".join([*base, alias.name]) for alias in node.names)


def _violations(file, source):
    """Returns the faults in the imports and names of a source, as sentences."""
    tree = ast.parse(source)
    component = _component(_module(file))
    if component and component not in RANKS:
        return [f"{file} has no place in LAYERS"]
    rank = RANKS.get(component, len(LAYERS))
    found = []
    for name in _imports(tree, file):
        if name.startswith("absl.flags") and component != "scripts":
            found.append(f"{file} imports {name}; flags belong to the scripts")
        if name != "tfflowdn" and not name.startswith("tfflowdn."):
            continue
        if name == "tfflowdn" and component == "scripts":
            continue  # It imports its parts at their first use: see scripts/.
        imported = _component(name)
        imported_rank = RANKS.get(imported, len(LAYERS))
        is_next_to = imported_rank == rank > RANKS["bijectors"]
        if imported != component and imported_rank >= rank and not is_next_to:
            found.append(f"{file} imports {name}, which is not below it")
    named = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    may_lack = not tree.body or file == "scripts/__init__.py"
    if "__all__" not in named and not may_lack:
        found.append(f"{file} has no __all__")
    return found


def test_every_component_is_there():
    components = {_component(_module(file)) for file in FILES}
    assert len(FILES) > 20 and {"bijectors", "flows", "models"} < components


@pytest.mark.parametrize("file", FILES)
def test_file_imports_only_what_lies_below_it(file):
    assert _violations(file, (ROOT / file).read_text()) == []


@pytest.mark.parametrize(
    "file, line",
    [
        ("bijectors/a.py", "from tfflowdn.layers import Conditioner"),
        ("bijectors/a.py", "import tfflowdn"),
        ("bijectors/a.py", "from ..flows import glow"),
        ("layers/a.py", "from tfflowdn import data"),
        ("data/a.py", "def f():\n    import tfflowdn.metrics"),
        ("metrics.py", "from . import flows"),
        ("data/__init__.py", "from ..models import resnet"),
        ("flows.py", "from tfflowdn.models import FlowPrior"),
        ("models/a.py", "from absl import flags"),
        ("training/fit.py", "import absl.flags as f"),
        ("training/fit.py", "from tfflowdn.scripts.command import run"),
        ("utils.py", "import os"),
        ("channels.py", "from tfflowdn.devices import map_shards"),
    ],
)
def test_a_wrong_import_is_found(file, line):
    (sentence,) = _violations(file, f"{line}\n__all__ = []\n")
    assert sentence.startswith(file)


@pytest.mark.parametrize(
    "file, line",
    [
        ("bijectors/a.py", "from tfflowdn.bijectors.b import B"),
        ("bijectors/__init__.py", "from .b import B"),
        ("models/a.py", "from tfflowdn import flows, metrics"),
        ("serving/a.py", "from tfflowdn.inference import load_prior"),
        ("scripts/a.py", "from absl import flags, logging"),
        ("layers/a.py", "import keras"),
        ("bijectors/a.py", "from tfflowdn.channels import split_channels"),
    ],
)
def test_a_right_import_is_left_alone(file, line):
    assert _violations(file, f"{line}\n__all__ = []\n") == []


def test_a_module_without_all_is_found():
    assert _violations("layers/a.py", "import keras\n") == [
        "layers/a.py has no __all__"
    ]
    assert _violations("models/__init__.py", "") == []
    assert _violations("scripts/__init__.py", '"""Scripts."""\n') == []
