"""The Python of the README runs and prints the comments next to it."""

from __future__ import annotations

import ast
import contextlib
import io
import re
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")


def test_the_python_prints_the_comments(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    code = "\n".join(snippets)
    expected = re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)
    assert expected
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    lines = printed.getvalue().splitlines()
    assert [line for line in lines if line in expected] == expected


def test_first_use_fits_in_fifteen_lines():
    first = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    assert len([line for line in first.splitlines() if line.strip()]) <= 15


def test_every_script_is_in_the_readme():
    setup = (Path(__file__).parent.parent / "setup.py").read_text("utf-8")
    names = re.search(r"^SCRIPTS = (\(.*?\n\))", setup, re.DOTALL | re.MULTILINE)
    missing = [n for n in ast.literal_eval(names[1]) if f"`{n}`" not in README]
    assert not missing
