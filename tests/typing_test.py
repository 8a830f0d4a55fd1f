"""The form of the sources: types, the future import and the "Raises:" sections."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import tfflowdn

PACKAGE = Path(tfflowdn.__file__).parent
ROOT = PACKAGE.parent
FOLDERS = ("tfflowdn", "tools", "configs", "docs")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
FUTURE = "from __future__ import annotations"
SPECIAL = ("__init__", "__call__", "__enter__", "__exit__", "__iter__", "__len__")


def _functions(node, name=""):
    """Yields (name, function, whether it has `self`) of the public functions."""
    for child in ast.iter_child_nodes(node):
        public = not getattr(child, "name", "").startswith("_")
        if isinstance(child, ast.ClassDef) and public:
            yield from _functions(child, f"{name}{child.name}.")
        elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if public or child.name in SPECIAL:
                decorators = [ast.unparse(d) for d in child.decorator_list]
                in_class = isinstance(node, ast.ClassDef)
                bound = in_class and "staticmethod" not in decorators
                yield f"{name}{child.name}", child, bound
        elif isinstance(child, (ast.If, ast.Try, ast.With)):
            yield from _functions(child, name)


def _untyped(source):
    """Returns the parts without a type, such as "f(x)" or "f ->"."""
    parts = []
    for name, function, bound in _functions(ast.parse(source)):
        own = function.args
        positional = [*own.posonlyargs, *own.args][bound:]
        rest = [arg for arg in (own.vararg, own.kwarg) if arg]
        arguments = [*positional, *own.kwonlyargs, *rest]
        parts += [f"{name}({arg.arg})" for arg in arguments if not arg.annotation]
        if function.returns is None and not name.endswith("__init__"):
            parts.append(f"{name} ->")
    return parts


def _own(function):
    """Yields the nodes of a function without the functions that it defines."""
    for child in ast.iter_child_nodes(function):
        if not isinstance(child, ast.FunctionDef):
            yield child
            yield from _own(child)


def _raises_otherwise(source):
    """Returns the functions whose docstring names its errors in another form."""
    wrong = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node) or ""
            raises = any(isinstance(n, ast.Raise) and n.exc for n in _own(node))
            public = text and not node.name.startswith("_")
            lacks = public and raises and "\nRaises:\n" not in text
            if lacks or text.startswith("Raises"):
                wrong.append(node.name)
    return wrong


def _name(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("wrong", [_untyped, _raises_otherwise])
def test_every_file_has_the_form(wrong):
    found = {_name(path): wrong(path.read_text()) for path in FILES}
    assert {name: parts for name, parts in found.items() if parts} == {}


def test_every_file_has_the_future_import():
    files = [*FILES, *(ROOT / "tests").glob("*.py"), ROOT / "setup.py"]
    code = {path: ast.parse(path.read_text()).body for path in files}
    code = {path: body for path, body in code.items() if ast.unparse(body[1:])}
    assert [_name(path) for path in code if FUTURE not in path.read_text()] == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(x: int) -> int: ...", []),
        ("def f(x): ...", ["f(x)", "f ->"]),
        ("def f(*, x, **y) -> int: ...", ["f(x)", "f(y)"]),
        ("class A:\n  def f(self, x) -> int: ...", ["A.f(x)"]),
        ("class A:\n  def __init__(self, *x): ...", ["A.__init__(x)"]),
        ("class A:\n  @staticmethod\n  def f(x) -> int: ...", ["A.f(x)"]),
        ("if 1:\n  def f(x) -> int: ...", ["f(x)"]),
        ("def _f(x): ...", []),
    ],
)
def test_a_missing_type_is_found(source, expected):
    assert _untyped(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('def f():\n  """Does."""\n  raise A("b")', ["f"]),
        ('def f():\n  """Does.\n\n  Raises:\n    A: If b.\n  """\n  raise A()', []),
        ('def _f():\n  """Raises A."""\n  raise A', ["_f"]),
        ('def f():\n  """Does."""\n  try: ...\n  except A: raise', []),
    ],
)
def test_another_form_of_raises_is_found(source, expected):
    assert _raises_otherwise(source) == expected
