"""The README's Python runs, and prints what stands beside it."""

import contextlib
import io
import re
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")


def test_python_snippets_print_what_stands_beside_them(tmp_path, monkeypatch):
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
    scripts = Path(__file__).parent.parent / "tfflowdn" / "scripts"
    names = {path.stem for path in scripts.glob("*.py")} - {"__init__", "command"}
    missing = [name for name in names if not re.search(rf"\b{name}\b", README)]
    assert not missing
