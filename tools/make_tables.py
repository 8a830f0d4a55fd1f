"""Writes the tables of README.md and docs/ from the figures in tools/results/.

    python tools/make_tables.py

replaces the text between `<!-- table: NAME -->` and `<!-- /table -->` in every page.
`python tools/make_tables.py --check` changes nothing and exits with code 1 when a table
is stale. The tables of `tools/results/ablation/` are rewritten by
`tools/ablate_prior.py`, which also keeps the order of its rows.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "tools/results"
BLOCK = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- /table -->)", re.DOTALL)
SIGMAS = ("15", "25", "50")

Cell = str | float | None
Row = Sequence[Cell]


def pages() -> list[Path]:
    """Returns the pages that may hold tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def update(text: str) -> str:
    """Returns the text of a page with every table made anew.

    Raises:
      KeyError: If a table of that name is not known.
    """
    return BLOCK.sub(
        lambda match: f"{match[1]}{TABLES[match[2]]()}{match[3]}",
        text,
    )


def readme() -> str:
    """Returns the PSNR on BSD68 with Gaussian noise, next to published figures."""
    measured = [
        ("noisy", "", "gaussian_start", "noisy_psnr"),
        ("**tfflowdn**", "noisy and clean pictures", "gaussian_distilled", "psnr"),
        ("the same network", "pairs", "gaussian_pairs", "psnr"),
    ]
    rows = [(name, needs, *_scores(file, key)) for name, needs, file, key in measured]
    for method in ("BM3D", "Noise2Void", "Deep Image Prior", "Wu et al. 2020"):
        rows.append(_published(method))
    return _table(("PSNR in dB", "needs", *SIGMAS), rows)


def gaussian() -> str:
    """Returns all published figures."""
    names = [row["method"] for row in _read("published.json")["rows"]]
    return _table(("method", "needs", *SIGMAS), [_published(name) for name in names])


def quality() -> str:
    """Returns the PSNR of every method on every synthetic noise."""
    titles = {
        "noisy": "noisy",
        "scratch": "objective only, from scratch",
        "start": "start",
        "unrehearsed": "start, objective without rehearsal",
        "objective": "start, objective",
        "distilled": "**start, learned noise distilled**",
        "ensemble": "the same with the self-ensemble",
        "pairs": "start, true pairs",
        "bm3d": "BM3D",
    }
    noises = ("poisson", "heteroscedastic", "correlated")
    rows = []
    for method, title in titles.items():
        key, file = "psnr", method
        if method == "noisy":
            key, file = "noisy_psnr", "start"
        others = [_score(f"{noise}_{file}", "test", key) for noise in noises]
        rows.append((title, *_scores(f"gaussian_{file}", key), *others))
    return _table(("PSNR in dB", *SIGMAS, *noises), rows)


COMPARED = (
    "gaussian_15",
    "gaussian_25",
    "gaussian_50",
    "poisson",
    "heteroscedastic",
    "correlated",
    "stripes",
    "impulses",
    "microscope",
)


def comparison() -> str:
    """PSNR of every method on every noise, from tools/compare.py."""
    cells = {(c["test"], c["method"]): c for c in _read("compare.json")["cells"]}
    rows = []
    for method in dict.fromkeys(method for _, method in cells):
        found = [cells.get((f"gray/{name}", method)) for name in COMPARED]
        told = next((c["told"] for c in found if c), "")
        figures = [_compared(cell) for cell in found]
        if any(figures):
            rows.append((_compared_title(method), told, *figures))
    titles = [name.removeprefix("gaussian_") for name in COMPARED]
    return _table(("PSNR in dB", "told", *titles), rows)


def first_pictures() -> str:
    """Quality and time on the first pictures of BSD68 at 25."""
    rows = []
    for cell in _read("compare.json")["cells"]:
        if cell["test"] == "gray/gaussian_25" and "psnr_of_first" in cell:
            minutes = cell["training_minutes"]
            rows.append(
                (
                    _compared_title(cell["method"]),
                    f"{cell['psnr_of_first']:.2f}",
                    f"{cell['cpu_seconds_per_megapixel']:.3g}",
                    None if minutes is None else f"{minutes:.0f}",
                )
            )
    columns = ("method", "PSNR in dB", "CPU seconds a megapixel", "minutes of training")
    return _table(columns, rows)


def _compared(cell: dict | None) -> Cell:
    """Returns the PSNR of a cell; a star marks the first twelve pictures only."""
    if cell is None:
        return None
    star = "*" if cell["num_pictures"] == 12 else ""
    return f"{cell['psnr']:.2f}{star}"


def _compared_title(method: str) -> str:
    titles = _read("compare.json")["titles"]
    return titles.get(method, method)


def camera() -> str:
    """Returns the PSNR and SSIM on the pictures of the Canon 600D."""
    titles = {
        "start": "`denoiser_camera`, the start",
        "objective": "start, objective with rehearsal",
        "distilled": "**start, noise of calm places distilled**",
        "ensemble": "the same with the self-ensemble",
        "pairs": "start, 2,000 steps on true pairs of the other cameras",
        "bm3d": "CBM3D at the sigma that is best for these pictures",
    }
    first = ("noisy", *_both("real_start", "noisy_"))
    rows = [(title, *_both(f"real_{name}")) for name, title in titles.items()]
    return _table(("", "PSNR", "SSIM"), [first, *rows])


def general() -> str:
    """Returns the PSNR of the general denoisers on every test set."""
    titles = {"psnr": "", "worst_psnr": ", worst picture"}
    sets = {
        "5": "Gaussian, 5 of 255",
        "15": "Gaussian, 15 of 255",
        "25": "Gaussian, 25 of 255",
        "50": "Gaussian, 50 of 255",
        "correlated": "correlated, 25 of 255",
        "stripes": "white and rows, 10 of 255 each",
        "impulses": "white, 10 of 255, and 1 % impulses",
        "clean": "none: a clean picture against itself",
    }
    colors = {"gray": "bsd68", "rgb": "cbsd68"}
    results = {
        color: _read(f"general/denoiser_{color}.json")["results"] for color in colors
    }
    rows = []
    for key, title in sets.items():
        found = [results[color].get(f"{test}_{key}") for color, test in colors.items()]
        rows.append((title, *_columns(found)))
    for color, name, title in (
        ("gray", "w2s", "real microscopy (w2s)"),
        ("rgb", "polyu_canon600d", "JPEG files of a Canon 600D (PolyU)"),
        ("rgb", "gb82_clean", "none, photographs of gb82"),
    ):
        found = [
            results[other].get(name) if other == color else None for other in colors
        ]
        rows.append((title, *_columns(found)))
    names = [f"{color}{title}" for color in colors for title in titles.values()]
    return _table(("noise", *names), rows)


def objective() -> str:
    """Returns the ablation of the objective, from scratch."""
    psnrs = _read("ablation_objective.json")["psnr"]
    rows = [
        (name, "diverges" if psnr is None else f"{psnr:.2f}")
        for name, psnr in psnrs.items()
    ]
    return _table(("variant", "PSNR"), rows)


def density() -> str:
    """Bits/dim of the flows after the same time."""
    rows = []
    for line in (RESULTS / "ablation/table.md").read_text("utf-8").splitlines()[2:]:
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    for name, *_, bits, _gain in rows:
        measured = _read(f"ablation/{_file_name(name)}.json")["bits_per_dim"]
        assert f"{measured:.3f}" == bits, (name, bits, measured)
    titles = ("variant", "step", "steps", "weights", "bits/dim", "gain")
    return _table(titles, rows)


def speed() -> str:
    """Returns the time of the flows' steps of other libraries over ours."""
    sizes = {
        "gray": "12 steps, 64 wide, 32 x 32 gray, batch 64",
        "rgb": "96 steps, 128 wide, 32 x 32 RGB, batch 16",
    }
    tasks = ("gradient", "forward", "sample")
    results, rows = _read("flows_bfloat16.json"), []
    for name, title in sizes.items():
        peers = [p for p in ("normflows", "FrEIA", "nflows") if p in results[name]]
        for peer in peers:
            ratios = [f"{results[name][peer][task]['ratio']:.2f}" for task in tasks]
            rows.append((title, peer, *ratios))
    return _table(("flow", "library", "gradient", "forward", "sampling"), rows)


def formats() -> str:
    """Returns the size and time of the exported formats."""
    results = _read("formats.json")
    titles = {"saved_model": "SavedModel", "litert": "LiteRT", "onnx": "ONNX Runtime"}
    rows = []
    for name, title in titles.items():
        sides = [results["by_side"][side][name] for side in ("256", "512")]
        rows.append(
            (
                title,
                f"{results['bytes'][name] / 1e6:.1f}",
                *(f"{side['time_ratio']:.2f}" for side in sides),
                _tiny(max(side["max_difference"] for side in sides)),
            )
        )
    columns = ("format", "MB", "time, 256 x 256", "time, 512 x 512", "difference")
    return _table(columns, rows)


def sizes() -> str:
    """Returns quality against speed of networks of several sizes."""
    rows = [
        (
            name,
            f"{row['weights']:,}",
            f"{row['psnr']:.2f}",
            f"{row['megapixels_per_second']:.2f}",
        )
        for name, row in _read("sizes.json")["sizes"].items()
    ]
    columns = ("blocks x channels", "weights", "PSNR in dB", "megapixels a second")
    return _table(columns, rows)


def inference() -> str:
    """Returns the speed and memory of the denoiser by the size of the picture."""
    rows = [
        (
            f"{row['megapixels']:g}",
            f"{row['megapixels_per_second']:.2f}",
            f"{row['peak_mib']:.0f}",
        )
        for row in _read("inference.json")["sizes"]
    ]
    return _table(("megapixels", "megapixels a second", "MiB"), rows)


def load() -> str:
    """Seconds of answers under load."""
    results = _read("serving_load.json")
    rows = [
        (name, *(f"{row['seconds'][key]:.1f}" for key in ("p50", "p90", "p99")))
        for name, row in [*results["by_size"].items(), ("all", results["all"])]
    ]
    return _table(("picture", "median, s", "90 %, s", "99 %, s"), rows)


def training() -> str:
    """Milliseconds of training steps, with a shared and with a split batch."""
    rows = [
        (
            name.replace("_", " "),
            f"{row['whole']:.0f}",
            f"{row['parts']:.0f}",
            f"{row['speed_of_parts']:.2f}",
        )
        for name, row in _read("training.json")["steps"].items()
    ]
    columns = ("step", "whole batch, ms", "a part for each core, ms", "ratio")
    return _table(columns, rows)


def scaling() -> str:
    """Returns the efficiency of distributed training, estimated."""
    results, rows = _read("scaling.json"), []
    for name in ("prior", "denoiser"):
        row = results[name]
        difference = max(row["weights_difference"].values())
        rows.append(
            (
                name,
                f"{row['gradient_bytes'] / 1000:.0f}",
                _tiny(difference),
                *(f"{each['efficiency']:.3f}" for each in row["estimate"].values()),
            )
        )
    columns = ("model", "kB of gradients", "difference", *results["prior"]["estimate"])
    return _table(columns, rows)


def estimates() -> str:
    """PSNR estimated without references against the truth, by noise."""
    rows = []
    for path in sorted((RESULTS / "no_reference").glob("*.json")):
        row = _read(f"no_reference/{path.name}")
        keys = ("mean_truth", "mean_estimate", "difference", "rms", "correlation")
        cells = [f"{row[key]:.2f}" for key in keys]
        rows.append((path.stem.replace("_", " "), str(len(row["pictures"])), *cells))
    columns = ("noise", "pictures", "truth", "estimate", "difference", "rms")
    return _table((*columns, "correlation"), rows)


def uncertainty() -> str:
    """Returns the shares of errors within one and two standard deviations."""
    names = ("denoiser_gray", "denoiser_rgb")
    results = [_read(f"uncertainty/{name}.json")["results"] for name in names]
    rows = [
        (
            kind,
            *(
                100 * one[kind][key]
                for one in results
                for key in ("within_1", "within_2")
            ),
        )
        for kind in results[0]
    ]
    titles = [f"{name}, {n}" for name in names for n in ("1 std", "2 std")]
    return _table(("errors within, in %", *titles), [_one_digit(row) for row in rows])


def adapt() -> str:
    """Returns the PSNR of noisy, first and adapted pictures by task of `adapt`."""
    titles = {
        "w2s": "microscopy, `--clean`",
        "w2s_alone": "microscopy",
        "camera": "camera, `--clean`",
        "camera_alone": "camera",
        "correlated": "correlated, 25 of 255, `--clean`",
    }
    rows = []
    for name, title in titles.items():
        result = _read(f"adapt/{name}.json")
        scores = [
            result["scores"][key]["psnr"] for key in ("noisy", "start", "adapted")
        ]
        start = f"`{result['decisions']['start']}`"
        minutes = f"{result['minutes_taken']:.1f}"
        rows.append((title, start, *(f"{score:.2f}" for score in scores), minutes))
    columns = ("pictures", "start", "noisy", "start, dB", "after `adapt`", "minutes")
    return _table(columns, rows)


def _one_digit(row: Row) -> Row:
    return [f"{cell:.1f}" if isinstance(cell, float) else cell for cell in row]


TABLES: dict[str, Callable[[], str]] = {
    "adapt": adapt,
    "camera": camera,
    "comparison": comparison,
    "density": density,
    "estimates": estimates,
    "first_pictures": first_pictures,
    "formats": formats,
    "gaussian": gaussian,
    "general": general,
    "inference": inference,
    "load": load,
    "objective": objective,
    "quality": quality,
    "readme": readme,
    "scaling": scaling,
    "sizes": sizes,
    "speed": speed,
    "training": training,
    "uncertainty": uncertainty,
}


def _table(titles: Sequence[str], rows: Iterable[Row]) -> str:
    """Returns a Markdown table; columns of figures are aligned to the right."""
    rows = [["" if cell is None else str(cell) for cell in row] for row in rows]
    marks = []
    for index in range(len(titles)):
        cells = [row[index] for row in rows if row[index]]
        figures = all(
            re.fullmatch(r"[-+<~]?(about )?[\d.,e-]+\*?|diverges", c) for c in cells
        )
        marks.append("--:" if cells and figures else "---")
    lines = [titles, marks, *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _published(method: str) -> Row:
    """Returns the row of a method with published figures."""
    rows = {row["method"]: row for row in _read("published.json")["rows"]}
    row = rows[method]
    about = "about " if row.get("about") else ""
    digits = 0 if about else 2
    cells = [None if p is None else f"{about}{p:.{digits}f}" for p in row["psnr"]]
    return (f"*{method}*", row["needs"], *cells)


def _columns(scores: Iterable[dict[str, float] | None]) -> list[Cell]:
    """Returns the mean and the worst PSNR of each set of scores."""
    return [
        f"{score[key]:.2f}" if score else None
        for score in scores
        for key in ("psnr", "worst_psnr")
    ]


def _scores(name: str, key: str) -> list[Cell]:
    return [_score(name, f"test_{sigma}", key) for sigma in SIGMAS]


def _both(name: str, prefix: str = "") -> list[Cell]:
    return [
        _score(name, "test", f"{prefix}psnr"),
        _score(name, "test", f"{prefix}ssim", digits=3),
    ]


def _score(name: str, test: str, key: str, digits: int = 2) -> Cell:
    """Returns a score of tools/results/quality/, or None where there is none."""
    path = f"quality/{name}.json"
    if not (RESULTS / path).exists():
        return None
    score = _read(path)["scores"].get(test, {}).get(key)
    return None if score is None else f"{score:.{digits}f}"


def _tiny(value: float) -> str:
    return f"{value:.0e}" if value else "0"


def _file_name(variant: str) -> str:
    return variant.replace(",", "").replace(" ", "_")


def _read(name: str) -> dict:
    return json.loads((RESULTS / name).read_text("utf-8"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="Change nothing.")
    check = parser.parse_args(arguments).check
    stale = 0
    for path in pages():
        text = path.read_text("utf-8")
        new = update(text)
        if new != text:
            stale += 1
            print(f"{path.relative_to(ROOT)}: {'stale' if check else 'written'}")
            if not check:
                path.write_text(new, "utf-8")
    return int(check and stale > 0)


if __name__ == "__main__":
    sys.exit(main())
