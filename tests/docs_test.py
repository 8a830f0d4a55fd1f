"""The documentation: its commands exist, its Python runs, its tables are fresh."""

from __future__ import annotations

import contextlib
import io
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import forks
import numpy as np
import pytest
from documentation_runs import reason_not_to_run
from documented_commands import (
    PAGES,
    ROOT,
    lines_of,
    source_of,
    split_commands,
)
from PIL import Image
from run_documentation import documented, is_done

from tfflowdn import models, noise, stages

FLAG = re.compile(r"DEFINE_\w+\(\s*\"(\w+)\"")


def commands_of(text: str) -> list[list[str]]:
    """Returns the words of every command in a page's blocks and in its tables."""
    return [words for line in lines_of(text) for words in split_commands(line)]


def flags_of(source: Path) -> set[str]:
    """Returns the flags that a script defines itself or by shared modules."""
    shared = [ROOT / f"tfflowdn/scripts/{n}.py" for n in ("command", "shared_flags")]
    if "tools" in source.parts:
        shared = (
            list((ROOT / "tools").glob("*.py"))
            if "harness" in source.read_text()
            else []
        )
    text = "\n".join(path.read_text("utf-8") for path in (source, *shared))
    flags = set(FLAG.findall(text)) | set(
        re.findall(r"add_argument\(\s*\"--(\w+)", text)
    )
    return flags | {"config", "help", "traceback", "version"}


def page_ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=page_ids)
def test_every_command_and_flag_exists(page):
    for words in commands_of(page.read_text("utf-8")):
        source = source_of(words)
        if source is None:
            continue
        assert source.exists(), f"{words[0]} must be a file. Received: {source}"
        if source.suffix != ".py" or source.name == "denoise_beam.py":
            continue  # Beam's own options pass through.
        known = flags_of(source)
        for word in words[1:]:
            match = re.match(r"--(no)?(\w+)", word)
            if match:
                name = word[2:].split("=")[0].split(".")[0]
                assert name in known, f"{source.name} must have --{name}: {words}"


def not_run(entries: list[dict], commands: list[dict]) -> list[dict]:
    """Returns the commands without a success in a record and without a reason."""
    known = {(entry["page"], entry["command"]): entry for entry in entries}
    return [
        command
        for command in commands
        if not reason_not_to_run(command["command"])
        and not is_done(known.get((command["page"], command["command"]), command))
    ]


def test_every_command_was_run_or_has_a_reason():
    """A new command must be run: `python tools/run_documentation.py --missing`."""
    record = json.loads((ROOT / "tools/results/documentation.json").read_text("utf-8"))
    commands = [c for c in documented() if not c["page"].startswith("tools/")]
    assert len(commands) > 100
    assert not_run(record["commands"], commands) == []


def test_a_command_that_was_not_run_or_failed_is_found():
    line = {"page": "README.md", "command": "denoise NEW --output DENOISED"}
    ran = {**line, "as_run": line["command"], "result": "success"}
    docker = {"page": "README.md", "command": "docker run IMAGE"}
    assert not_run([ran], [line, docker]) == []
    for entry in (
        line,
        {**ran, "result": {"code": 1, "output": ""}},
        {**ran, "as_run": "denoise --help"},
        {**line, "not_run": "It takes long."},
    ):
        assert not_run([entry], [line, docker]) == [line]


def test_every_extra_exists():
    setup = (ROOT / "setup.py").read_text("utf-8")
    extras = set(re.findall(r"^\s+\"(\w+)\": ", setup, re.MULTILINE))
    for page in PAGES:
        text = page.read_text("utf-8")
        for names in re.findall(r"(?:\.|tfflowdn)\[([\w,]+)\]", text):
            assert set(names.split(",")) <= extras, f"{page.name}: {names}"


@pytest.mark.parametrize("page", PAGES, ids=page_ids)
def test_every_configuration_and_key_exists(page):
    for words in commands_of(page.read_text("utf-8")):
        if "--config" not in words or "FILE.py" in words:
            continue
        config = get_config(words[words.index("--config") + 1])
        for word in words:
            if word.startswith("--config."):
                check_key(config, word.removeprefix("--config.").split("=")[0])


def test_every_key_of_the_key_table_exists():
    text = (ROOT / "docs/engineer.md").read_text("utf-8")
    table = text.split("### Keys")[1].split("\n## ")[0]
    keys = re.findall(
        r"`([a-z]+\.[a-z_.]+)`", "\n".join(re.findall(r"^\| (.*?) \|", table, re.M))
    )
    assert keys
    configs = [
        get_config(f"denoiser_resnet{v}")
        for v in ("", ":distill", ":noise2void", ":recorrupt")
    ]
    for key in keys:
        assert any(has_key(config, key) for config in configs), key


def get_config(name: str):
    name, _, variant = name.partition(":")
    path = ROOT / "configs" / f"{Path(name).stem}.py"
    assert path.exists(), f"--config must name a configuration. Received: {name}"
    get = runpy.run_path(str(path))["get_config"]
    return get(variant) if variant else get()


def has_key(config, key: str) -> bool:
    for part in key.split("."):
        if part not in config:
            return False
        config = config[part]
    return True


def check_key(config, key: str) -> None:
    assert has_key(config, key), f"The configuration must have the key {key}."


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=page_ids)
def test_python_runs_and_prints_the_comments(page, tmp_path, monkeypatch):
    snippets = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    if not snippets:
        pytest.skip("This page has no Python.")
    monkeypatch.chdir(tmp_path)
    code = "\n".join(snippets)
    expected = re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)
    assert expected
    script = tmp_path / f"{page.stem}_page.py"
    script.write_text(code, "utf-8")
    printed = io.StringIO()
    with kept_tables(), contextlib.redirect_stdout(printed):
        runpy.run_path(str(script))
    lines = printed.getvalue().splitlines()
    assert [line for line in lines if line in expected] == expected


@contextlib.contextmanager
def kept_tables():
    """Removes the entries that a page adds to the tables of the package."""
    tables = (models.FLOWS, models.NETWORKS, noise.NOISES, stages.STAGES)
    before = [dict(table) for table in tables]
    try:
        yield
    finally:
        for table, entries in zip(tables, before, strict=True):
            table.clear()
            table.update(entries)


def test_the_readme_adapts_to_pictures(tmp_path):
    """Runs the single steps with the smallest variants, on random pictures."""
    text = (ROOT / "README.md").read_text("utf-8")
    section = text.split("## Adapt it to your pictures")[1].split("\n## ")[0]
    script = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)[-1]
    variants = {
        "prior_glow:gray": "prior_glow:smoke",
        "denoiser_resnet:distill": "denoiser_resnet:smoke_distill",
        "denoiser_resnet ": "denoiser_resnet:smoke ",
        "--config noise ": "--config noise:smoke ",
    }
    for name, smallest in variants.items():
        assert name in script
        script = script.replace(name, smallest)
    rng = np.random.default_rng(0)
    for folder in ("CLEAN", "NOISY", "HELD_OUT"):
        (tmp_path / folder).mkdir()
        for index in range(4):
            picture = Image.fromarray(rng.integers(0, 256, (32, 40), np.uint8))
            picture.save(tmp_path / folder / f"{index}.png")
    commands = commands_of(f"```bash\n{script}```")
    assert len(commands) == 5
    for name, *words in commands:
        done = forks.run(["-m", f"tfflowdn.scripts.{name}", *words], cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
    names = sorted(path.name for path in (tmp_path / "DENOISED").iterdir())
    assert names == ["0.png", "1.png", "2.png", "3.png"]


def test_tables_are_fresh():
    command = [sys.executable, str(ROOT / "tools/make_tables.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"Run tools/make_tables.py. {result.stdout}"


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 150
    assert len(text.split()) <= 1200


def test_the_citation_has_the_version():
    version = re.search(
        r'__version__ = "(.+)"', (ROOT / "tfflowdn/__init__.py").read_text()
    ).group(1)
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text("utf-8")


def test_the_site_builds_and_asks_for_nothing_from_the_network(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings_handlers.python")
    # With -q, --strict does not count warnings.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path)]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    loaded = re.compile(
        r"<(?:script|img|iframe)[^>]+src=\"?(https?:[^\s\">]+)|<link[^>]+rel=\"?(?:stylesheet|preconnect)[^>]+href=\"?(https?:[^\s\">]+)"
    )
    for page in tmp_path.rglob("*.html"):
        assert not loaded.findall(page.read_text("utf-8")), page.name


def test_the_notebook_runs(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    text = (ROOT / "docs/tutorial.ipynb").read_text("utf-8")
    assert not any(cell.get("outputs") for cell in json.loads(text)["cells"])
    notebook = nbformat.reads(text, as_version=4)
    nbformat.write(notebook, tmp_path / "tutorial.ipynb")
    code = (
        "import nbformat, nbclient; n = nbformat.read('tutorial.ipynb', 4); "
        "nbclient.NotebookClient(n, timeout=300, kernel_name='python3').execute()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
