"""Runs every command of the documentation at its smallest size.

    python tools/run_documentation.py

takes the commands of README.md, docs/, saved_models/ and the tools' docstrings, and
runs them in temporary folders with small pictures for NOISY, CLEAN and the other names
in capitals. `tools/documentation_runs.py` has the changes that make a command small,
and the reasons of the commands that are not run. A command must end with code 0 and
write the files that its flags name.

tools/results/documentation.json gets the page, the command, the command as it was run,
the seconds and the result. `--missing` runs only commands without a success in the
record; it needs the `--folder` of an earlier run if a command reads files of another
one. All commands take about an hour on two cores.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import documentation_inputs
import documentation_runs
import documented_commands
import harness
from absl import flags

FLAGS = flags.FLAGS
RECORD = harness.RESULTS / "documentation.json"
OUTPUTS = ("compare", "maps", "output", "report", "workdir")
MAX_SECONDS = 1800


class Kit:
    """A folder with inputs, in which commands run.

    Args:
      kind: A key of `documentation_inputs.KITS`.
      root: The folder of all kits.
    """

    def __init__(self, kind: str, root: Path):
        self.folder = root / kind
        _write_programs(self.folder / "bin")
        self._server = contextlib.ExitStack()
        self._port: int | None = None
        if not (self.folder / "CLEAN").exists():
            documentation_inputs.write_kit(kind, self.folder)
            (self.folder / "tools").symlink_to(harness.ROOT / "tools")

    def run(self, line: str) -> dict[str, Any]:
        """Runs a command and returns the entries of the record."""
        if "{rest}" in line:
            line = line.replace("{rest}", str(self._rest_port()))
        line = line.replace("{root}", str(harness.ROOT))
        is_in_root = re.search(documentation_runs.IN_ROOT, line)
        where = harness.ROOT if is_in_root else self.folder
        outputs = [] if is_in_root else list(_outputs(line))
        if not line.startswith("export_model"):  # It adds a version.
            for name in outputs:
                _remove(where / name)
        begin, now = time.perf_counter(), time.time()
        done = self._shell(line, where)
        entry = {"seconds": round(time.perf_counter() - begin, 1)}
        missing = [name for name in outputs if not _is_written(where / name, now)]
        return {**entry, "result": _result(line, done, missing)}

    def close(self) -> None:
        """Stops the stand-in of the server."""
        self._server.close()

    def _shell(self, line: str, where: Path) -> subprocess.CompletedProcess:
        path = os.pathsep.join([str(self.folder / "bin"), os.environ["PATH"]])
        # The line that defines `body` is the beginning of the one that uses it.
        state = self.folder / "variables"
        if re.match(r"\w+=", line):
            state.write_text(line + "\n")
        begin = state.read_text() if state.exists() and '"$' in line else ""
        return subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", begin + line],
            cwd=where,
            env={**os.environ, "PATH": path, "PYTHONPATH": str(harness.ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=MAX_SECONDS,
        )

    def _rest_port(self) -> int:
        """Starts the stand-in of TensorFlow Serving, once; returns its port of REST."""
        if self._port is None:
            script = str(harness.ROOT / "tests/serving_stand_in.py")
            model = str(self.folder / "saved_models/denoiser/1")
            process = self._server.enter_context(
                subprocess.Popen(
                    [sys.executable, script, "denoiser", model],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            )
            self._port = json.loads(process.stdout.readline())["rest"]
            self._server.callback(process.stdin.close)
        return self._port


def documented() -> list[dict[str, str]]:
    """Returns the page and the line of every command, each line once for a page."""
    found = []
    for path in documented_commands.PAGES:
        for line in documented_commands.lines_of(path.read_text("utf-8")):
            found.append((path, line))
    for path in documented_commands.TOOLS:
        found += [(path, line) for line in documented_commands.lines_of_tool(path)]
    names = [(p.relative_to(harness.ROOT).as_posix(), line) for p, line in found]
    return [{"page": page, "command": line} for page, line in dict.fromkeys(names)]


def _write_programs(folder: Path) -> None:
    """Writes the commands of this clone as programs, without an installation."""
    folder.mkdir(parents=True, exist_ok=True)
    programs = {n: f"-m tfflowdn.scripts.{n}" for n in documented_commands.SCRIPTS}
    for name, arguments in {**programs, "python": ""}.items():
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
        path.chmod(0o755)
    for name, changes in documentation_runs.CHANGED_PROGRAMS.items():
        text = f"import tfflowdn.scripts.{name} as command\n{changes}\ncommand.main()\n"
        (folder / name).write_text(f"#!{sys.executable}\n{text}")


def _outputs(line: str) -> Iterator[str]:
    """Yields the paths that a command says it writes."""
    for words in documented_commands.split_commands(line):
        values = dict(_flags(words))
        if words[0] == "export_model" and "name" in values:
            yield f"{values.get('output', 'saved_models')}/{values['name']}"
        elif words[0] == "prepare_tfds":
            yield f"{values['data_dir']}/{values['name']}"
        elif words[0] == "adapt":
            yield values["output"]
            yield values.get("workdir", f"{values['output']}_run")
        elif "help" not in values:
            yield from (values[name] for name in OUTPUTS if name in values)


def _flags(words: list[str]) -> Iterator[tuple[str, str]]:
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            yield name, value if equals else after


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _is_written(path: Path, begin: float) -> bool:
    """Returns whether a file, or a file of a folder, was written after a time."""
    files = [p for p in (path, *path.rglob("*")) if p.is_file()]
    return any(file.stat().st_mtime > begin - 1 for file in files)


def _result(
    line: str, done: subprocess.CompletedProcess, missing: list[str]
) -> str | dict[str, Any]:
    accepted = {0} | {c for p, c in documentation_runs.ACCEPTED if re.search(p, line)}
    text = done.stdout.replace(str(harness.ROOT), ".")
    if done.returncode not in accepted or (done.returncode and "Traceback" in text):
        return {"code": done.returncode, "output": text[-1500:]}
    if missing:
        return {"missing": missing}
    return "success"


def key(entry: dict[str, Any]) -> tuple[str, str]:
    """Returns the page and the command of an entry of the record."""
    return entry["page"], entry["command"]


def _place(entry: dict[str, Any]) -> tuple[str, str]:
    """Returns the kit of an entry, and the command as it was run."""
    kit = documentation_runs.kit_of(*key(entry))
    return kit, entry.get("as_run", "")


def _outcome(entry: dict[str, Any]) -> dict[str, Any]:
    return {n: v for n, v in entry.items() if n not in ("page", "command")}


def is_done(entry: dict[str, Any]) -> bool:
    """Returns whether an entry has a success, or the reason of a command."""
    reason = documentation_runs.reason_not_to_run(entry["command"])
    if reason:
        return entry.get("not_run") == reason
    is_same = entry.get("as_run") == documentation_runs.as_run(entry["command"])
    return is_same and entry.get("result") == "success"


def _is_slow(entry: dict[str, Any]) -> bool:
    return bool(re.search(documentation_runs.SLOW, entry["command"]))


def _main() -> None:
    before = harness.load(FLAGS.output).get("commands", [])
    known = {key(entry): entry for entry in before if FLAGS.missing}
    with contextlib.ExitStack() as stack:
        root = FLAGS.folder or stack.enter_context(tempfile.TemporaryDirectory())
        kits: dict[str, Kit] = {}
        done = {_place(e): _outcome(e) for e in known.values() if is_done(e)}
        entries = {key(c): known.get(key(c), c) for c in documented()}
        for entry in sorted(entries.values(), key=_is_slow):
            if not is_done(entry):
                entries[key(entry)] = _entry(entry, kits, done, Path(root))
                logging.info("%s", entries[key(entry)])
                harness.save({"commands": [*entries.values()]}, FLAGS.output)
        for kit in kits.values():
            kit.close()
    failed = [entry for entry in entries.values() if not is_done(entry)]
    run = sum("result" in entry for entry in entries.values())
    print(f"{len(entries)} commands, {run} run, {len(failed)} failed.")
    sys.exit(bool(failed))


def _entry(
    entry: dict[str, Any],
    kits: dict[str, Kit],
    done: dict[tuple[str, str], dict[str, Any]],
    root: Path,
) -> dict[str, Any]:
    """Runs a command, unless the same one ran in its kit; returns its entry."""
    page, command = key(entry)
    entry = {"page": page, "command": command}
    reason = documentation_runs.reason_not_to_run(command)
    if reason:
        return {**entry, "not_run": reason}
    line = documentation_runs.as_run(command)
    kind = documentation_runs.kit_of(page, command)
    if (kind, line) not in done:
        if kind not in kits:
            kits[kind] = Kit(kind, root)
        done[kind, line] = {"as_run": line, **kits[kind].run(line)}
    return {**entry, **done[kind, line]}


if __name__ == "__main__":
    flags.DEFINE_string("output", str(RECORD), "JSON file to write.")
    flags.DEFINE_string("folder", None, "Folder for the inputs; kept if it is given.")
    flags.DEFINE_bool("missing", False, "Run only commands without a success.")
    harness.run(_main)
