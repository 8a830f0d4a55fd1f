"""Checks that damaged pictures and models give a whole result or a reason."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import harness
import numpy as np
from hostile.bombs import bombs
from hostile.valid import Content, valid_files, write_content

__all__ = ["damaged", "damaged_models", "damaged_pictures"]

data = harness.lazy("tfflowdn.data")
denoise_script = harness.lazy("tfflowdn.scripts.denoise")
failures = harness.lazy("tfflowdn.scripts.failures")
inference = harness.lazy("tfflowdn.inference")
models = harness.lazy("tfflowdn.models")
tfflowdn = harness.lazy("tfflowdn")

BATCH = 60


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Returns the content cut off, with bytes changed, blanked, inserted or doubled."""
    kind, content = rng.integers(6), bytearray(content)
    start = int(rng.integers(len(content)))
    if kind == 0:
        return bytes(content[:start])
    if kind == 1:
        content[start : start + 40] = bytes(len(content[start : start + 40]))
    elif kind == 2:
        content[start:start] = rng.bytes(7)
    elif kind == 3:
        content[start:start] = content[start : start + 100]
    else:  # Sizes and kinds lie in the first bytes.
        places = rng.integers(min(len(content), 300 if kind == 4 else 10**6), size=4)
        for place in places:
            content[place] = rng.integers(256)
    return bytes(content)


def _damaged_content(content: Content, rng: np.random.Generator) -> Content:
    """Returns a damaged file, or a folder in which one file is damaged or missing."""
    if isinstance(content, bytes):
        return damaged(content, rng)
    name = sorted(content)[rng.integers(len(content))]
    member = damaged(content[name], rng) if content[name] else b"x"
    return {**content, name: member}


def damaged_pictures(folder: Path, num_files: int, seed: int = 0) -> dict:
    """Denoises mutated files of every format in batches, and checks the results.

    Args:
      folder: An empty folder.
      num_files: Number of mutated files; the bombs are added.
      seed: Seed of the mutations.
    """
    rng = np.random.default_rng(seed)
    (folder / "valid").mkdir(parents=True)
    valid = valid_files(folder / "valid")
    network = models.ResNetDenoiser(1, num_blocks=1, hidden_channels=2)
    for weight in network.trainable_weights:
        weight.assign(0.1 * rng.standard_normal(weight.shape))
    denoiser = tfflowdn.Denoiser(network)
    names = [name for _ in range(-(-num_files // len(valid))) for name in valid]
    jobs = [(name, _damaged_content(valid[name], rng)) for name in names[:num_files]]
    num_mutated = len(jobs)
    jobs += bombs(valid, folder).items()
    totals = {
        "files": len(jobs),
        "mutated": num_mutated,
        "bombs": len(jobs) - num_mutated,
        "formats": len({Path(name).suffix for name, _ in jobs}),
        "kinds": len(valid),
        **dict.fromkeys(("written", "refused", "lost", "tracebacks", "partial"), 0),
        "wrong": 0,
        "errors": [],
    }
    for first in range(0, len(jobs), BATCH):
        _denoise_batch(
            folder / str(first), jobs[first : first + BATCH], denoiser, totals
        )
    return totals


def _denoise_batch(folder, jobs, denoiser, totals):
    source, target = folder / "in", folder / "out"
    source.mkdir(parents=True)
    for index, (name, content) in enumerate(jobs):
        write_content(source / f"{index}_{name}", content)
    message = ""
    try:
        denoise_script.denoise_files([str(source)], str(target), denoiser)
    except failures.BatchError as error:
        message = str(error)
    except BaseException as error:  # The batch must not end otherwise.
        totals["tracebacks"] += 1
        totals["errors"].append(repr(error)[:300])
    for path in sorted(source.iterdir()):
        result = target / data.result_name(path.name)
        is_named = f"{path}:" in message
        totals["refused"] += is_named
        totals["written"] += result.exists()
        totals["lost"] += is_named == result.exists()
        if result.exists():
            _check_result(path, result, denoiser, totals)
    known = {data.result_name(path).name for path in source.iterdir()}
    totals["partial"] += sum(p.name not in known for p in target.glob("*"))


def _check_result(path, result, denoiser, totals):
    """Compares a result with the picture that is denoised in one piece."""
    try:
        if path.suffix == ".npy":
            before, after = np.load(path), np.load(result)
        elif data.is_stack_or_large(path):
            before, after = (_facts(p, path.parent) for p in (path, result))
            totals["partial"] += before != after
            if before != after:
                totals["errors"].append(f"{path.name}: {before} {after}"[:300])
            return
        else:
            before, after = data.read_image(path), data.read_image(result)
    except ValueError as error:
        totals["partial"] += 1
        totals["errors"].append(f"{path.name}: {error!r}"[:300])
        return
    is_lossy = path.suffix in (".jpg", ".webp", ".gif", ".avif", ".heic")
    is_same = before.shape == after.shape and before.dtype == after.dtype
    if is_same and not is_lossy:
        is_same = np.allclose(denoiser(before), after, atol=1 / 200)
    if not is_same and not is_lossy:
        totals["wrong"] += 1
        totals["errors"].append(f"{path.name}: {before.shape} {after.shape}")


def _facts(path, folder):
    """Returns the shapes and dtypes of all pages, whose pixels are read."""
    return [(page.shape, page.dtype) for page in data.read_pages(path, folder)]


def damaged_models(folder: Path, num_files: int, seed: int = 0) -> dict:
    """Loads mutated `.keras` files, whose members are damaged before or after packing.

    Args:
      folder: An empty folder.
      num_files: Number of files.
      seed: Seed of the mutations.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    models.ResNetDenoiser(num_blocks=1, hidden_channels=2).save(folder / "valid.keras")
    content = (folder / "valid.keras").read_bytes()
    totals = {"files": num_files, "loaded": 0, "refused": 0, "tracebacks": 0}
    totals["errors"] = []
    for index in range(num_files):
        path = folder / "damaged.keras"
        path.write_bytes(_damaged_model(content, rng, inside=index % 2 == 0))
        try:
            inference.load_denoiser(path)
            totals["loaded"] += 1
        except ValueError as error:
            totals["refused"] += 1
            if "damaged.keras" not in str(error) and "A denoiser must" not in str(
                error
            ):
                totals["errors"].append(str(error)[:300])
        except BaseException as error:
            totals["tracebacks"] += 1
            totals["errors"].append(repr(error)[:300])
    return totals


def _damaged_model(content, rng, inside):
    if not inside:
        return damaged(content, rng)
    target = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(target, "w") as new,
    ):
        chosen = old.namelist()[rng.integers(3)]
        for name in old.namelist():
            member = old.read(name)
            if name == chosen == "config.json" and rng.integers(2):
                member = _changed_number(member, rng)
            elif name == chosen:
                member = damaged(member, rng)
            new.writestr(name, member)
    return target.getvalue()


def _changed_number(member, rng):
    config = json.loads(member)
    arguments = config["config"]
    name = list(arguments)[rng.integers(len(arguments))]
    values = (-1, 0, 10**6, 10**18, 1e300, "x", None, [], {}, [[1]], True)
    arguments[name] = values[rng.integers(len(values))]
    return json.dumps(config)
