"""Checks that damaged pictures and models give a whole result or a reason."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from pathlib import Path

import harness
import numpy as np

__all__ = ["damaged", "damaged_models", "damaged_pictures", "png_bomb", "valid_files"]

data = harness.lazy("tfflowdn.data")
denoise_script = harness.lazy("tfflowdn.scripts.denoise")
failures = harness.lazy("tfflowdn.scripts.failures")
inference = harness.lazy("tfflowdn.inference")
models = harness.lazy("tfflowdn.models")
tifffile = harness.lazy("tifffile")
tfflowdn = harness.lazy("tfflowdn")

BATCH = 60


def valid_files(folder: Path) -> dict[str, bytes]:
    """Returns the content of a valid file of every kind that is read, by its name."""
    rng = np.random.default_rng(0)
    gray = rng.integers(256, size=(14, 19, 1), dtype=np.uint8)
    color = rng.integers(256, size=(14, 19, 3), dtype=np.uint8)
    deep = rng.integers(65536, size=(14, 19, 3), dtype=np.uint16)
    pictures = {
        **{f"color.{suffix}": color for suffix in ("png", "jpg", "webp", "bmp", "gif")},
        **{f"gray.{suffix}": gray for suffix in ("png", "jpg", "tif", "bmp", "gif")},
        **{"deep.png": deep, "deep.tif": deep, "float.tif": np.float32(color / 255)},
    }
    for name, pixels in pictures.items():
        data.write_image(folder / name, pixels)
    options = {"photometric": "minisblack"}
    tifffile.imwrite(folder / "stack.tif", deep[..., 0][None].repeat(3, 0), **options)
    options = {"tile": (16, 16), "compression": "zlib", "photometric": "rgb"}
    tifffile.imwrite(folder / "tiled.tif", color, **options)
    np.save(folder / "array.npy", np.float32(gray[..., 0]))
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


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


def png_bomb(side: int) -> bytes:
    """Returns a small valid PNG of side x side black pixels."""

    def chunk(kind, content):
        check = zlib.crc32(kind + content)
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    compressor = zlib.compressobj(9)
    row = bytes(side + 1)
    pixels = b"".join(compressor.compress(row) for _ in range(side))
    pixels += compressor.flush()
    chunks = (b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*pair) for pair in chunks)


def _bombs():
    """Returns files that declare far more pixels than they hold, and no pictures."""
    from PIL import Image

    bombs = {}
    for kind, place, size, order in (
        ("jpg", b"\xff\xc0", 2, "big"),
        ("gif", 6, 2, "little"),
        ("bmp", 18, 4, "little"),
    ):
        file = io.BytesIO()
        Image.new("L", (16, 16)).save(file, {"jpg": "JPEG"}.get(kind, kind))
        content = bytearray(file.getvalue())
        start = place if isinstance(place, int) else content.index(place) + 5
        for offset in (start, start + size):
            content[offset : offset + size] = (20_000).to_bytes(size, order)
        bombs[f"bomb.{kind}"] = bytes(content)
    bombs["bomb.png"] = png_bomb(16)[:16] + b"\0\x1e\x84\x80" * 2 + png_bomb(16)[24:]
    archive = io.BytesIO()
    np.savez(archive, a=np.zeros(3))
    bombs["archive.npy"] = archive.getvalue()
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999, 99999), }\n"
    bombs["bomb.npy"] = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header
    bombs.update({"empty.png": b"", "text.jpg": b"no picture", "empty.npy": b""})
    return bombs


def damaged_pictures(folder: Path, num_files: int, seed: int = 0) -> dict:
    """Denoises mutated files of every format in batches, and checks the results.

    Args:
      folder: An empty folder.
      num_files: Number of mutated files; the bombs are added.
      seed: Seed of the mutations.
    """
    rng = np.random.default_rng(seed)
    (folder / "valid").mkdir(parents=True)
    valid, bombs = valid_files(folder / "valid"), _bombs()
    network = models.ResNetDenoiser(1, num_blocks=1, hidden_channels=2)
    for weight in network.trainable_weights:
        weight.assign(0.1 * rng.standard_normal(weight.shape))
    denoiser = tfflowdn.Denoiser(network)
    names = [name for _ in range(-(-num_files // len(valid))) for name in valid]
    jobs = [(name, damaged(valid[name], rng)) for name in names[:num_files]]
    jobs += bombs.items()
    totals = {
        "files": len(jobs),
        "formats": len({Path(name).suffix for name, _ in jobs}),
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
        (source / f"{index}_{name}").write_bytes(content)
    message = ""
    try:
        denoise_script.denoise_files([str(source)], str(target), denoiser)
    except failures.BatchError as error:
        message = str(error)
    except BaseException as error:  # The batch must not end otherwise.
        totals["tracebacks"] += 1
        totals["errors"].append(repr(error)[:300])
    for path in sorted(source.iterdir()):
        result = target / path.name
        is_named = f"{path}:" in message
        totals["refused"] += is_named
        totals["written"] += result.exists()
        totals["lost"] += is_named == result.exists()
        if result.exists():
            _check_result(path, result, denoiser, totals)
    known = {path.name for path in source.iterdir()}
    totals["partial"] += sum(p.name not in known for p in target.rglob("*"))


def _check_result(path, result, denoiser, totals):
    """Compares a result with the picture that is denoised in one piece."""
    try:
        if path.suffix == ".npy":
            before, after = np.load(path), np.load(result)
        elif data.is_stack_or_large(path):
            before, after = (
                np.concatenate([np.ravel(a) for a in data.read_pages(p, path.parent)])
                for p in (path, result)
            )
            totals["partial"] += before.shape != after.shape
            return
        else:
            before, after = data.read_image(path), data.read_image(result)
    except ValueError as error:
        totals["partial"] += 1
        totals["errors"].append(f"{path.name}: {error!r}"[:300])
        return
    is_lossy = path.suffix in (".jpg", ".webp", ".gif")
    is_same = before.shape == after.shape and before.dtype == after.dtype
    if is_same and not is_lossy:
        is_same = np.allclose(denoiser(before), after, atol=1 / 200)
    if not is_same and not is_lossy:
        totals["wrong"] += 1
        totals["errors"].append(f"{path.name}: {before.shape} {after.shape}")


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
