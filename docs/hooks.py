"""Hooks of MkDocs: pages and pictures whose source is elsewhere in the repository."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
PICTURES = (
    "tools/results/guide_camera.webp",
    "tools/results/guide_stack.webp",
    "tools/results/quickstart.png",
    "tools/results/quality/noise_correlated.png",
    "tools/results/quality/noise_heteroscedastic.png",
    "tools/results/quality/noise_poisson.png",
    "tools/results/quality/noise_real.png",
    "tools/results/sizes.png",
)


def on_files(files: Any, config: Any) -> Any:
    """Adds the change log, the model cards, the notebook and the result pictures."""
    pages = {
        "changes.md": changes(),
        "models.md": models(),
        "tutorial.md": notebook((ROOT / "docs/tutorial.ipynb").read_text("utf-8")),
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    for name in PICTURES:
        target = f"images/{Path(name).name}"
        files.append(File.generated(config, target, abs_src_path=str(ROOT / name)))
    return files


def changes() -> str:
    """Returns the change log with links as the pages have them."""
    return (ROOT / "CHANGELOG.md").read_text("utf-8").replace("](docs/", "](")


def models() -> str:
    """Returns one page with the cards of the models that are in the package."""
    folder = ROOT / "saved_models"
    first = (folder / "README.md").read_text("utf-8")
    cards = [
        path.read_text("utf-8")
        for path in sorted(folder.glob("*.md"))
        if path.name != "README.md"
    ]
    return "\n".join([first, *(re.sub("^#", "##", c, flags=re.M) for c in cards)])


def notebook(text: str) -> str:
    """Returns the cells of a notebook as Markdown."""
    cells = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        is_code = cell["cell_type"] == "code"
        cells.append(f"```python\n{source}\n```" if is_code else source)
    return "\n\n".join(cells) + "\n"
