"""Finds the commands in the documentation: in blocks, tables and sentences."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

__all__ = [
    "PAGES",
    "ROOT",
    "SCRIPTS",
    "TOOLS",
    "console_scripts",
    "lines_of",
    "lines_of_tool",
    "source_of",
    "split_commands",
]

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "saved_models").glob("*.md")),
]
OTHERS = {  # Programs that are not part of the project.
    "base64", "cd", "cp", "curl", "docker", "git", "jq", "mkdocs", "pip", "printf",
    "python3", "ruff", "source", "tensorboard", "tfds",
}  # fmt: skip
TOOLS = sorted(
    path
    for folder in ("tools", "tools/peers", "tools/serving")
    for path in (ROOT / folder).glob("*.py")
)
INLINE = ("mkdocs", "pip", "python", "ruff", "tensorboard", "tfds")


def lines_of(text: str) -> list[str]:
    """Returns every command line of a page: of its blocks, and in backticks.

    A name in backticks is a command if words follow it.
    """
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in _joined(block)]
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    starts = (*INLINE, *console_scripts())
    inline = re.findall(r"`([^`\n]+ [^`\n]+)`", prose)
    return lines + [line for line in inline if line.split()[0] in starts]


def lines_of_tool(path: Path) -> list[str]:
    """Returns the command lines in the docstring of a tool, which are indented."""
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    block = "\n".join(re.findall(r"^    .*$", text, re.MULTILINE))
    starts = ("python ", "pip ", "PEERS/bin/pip ")
    lines = [line.partition("  # ")[0] for line in _joined(block)]
    return [line.partition(" # ")[0] for line in lines if line.startswith(starts)]


def _joined(block: str) -> list[str]:
    block = re.sub(r"(\\|\|)\n\s*", lambda match: match[1].strip("\\") + " ", block)
    lines = [re.sub(r"\s+", " ", line).strip() for line in block.splitlines()]
    return [line for line in lines if line]


def split_commands(line: str) -> list[list[str]]:
    """Splits a line at `|`, `&&` and `;` outside of quotes, into words."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("|&;"):
            commands.append([])
        else:
            commands[-1].append(word)
    return [words for words in commands if words]


def console_scripts() -> set[str]:
    """Returns the names of the commands that the package installs."""
    text = (ROOT / "setup.py").read_text("utf-8")
    names = re.search(r"^SCRIPTS = (\(.*?\n\))", text, re.DOTALL | re.MULTILINE)
    return set(ast.literal_eval(names[1]))


SCRIPTS = console_scripts()


def source_of(words: list[str]) -> Path | None:
    """Returns the file of a command of the project, or None for another program.

    Raises:
      ValueError: If the program is not known.
    """
    program = words[0].removeprefix(".venv/bin/")
    if program in console_scripts():
        return ROOT / f"tfflowdn/scripts/{program}.py"
    if program == "python":
        return None if words[1] == "-m" else ROOT / words[1]
    if "/" in program:
        return ROOT / program
    is_assignment = re.match(r"\w+=", program)
    if not is_assignment and program not in OTHERS:
        raise ValueError(f"A command must be known. Received: {program}.")
    return None
