"""The Beam pipeline on this machine writes the same bits as `denoise`."""

from __future__ import annotations

import apache_beam as beam
import numpy as np
import pytest
import tifffile

from tfflowdn import Denoiser, ResNetDenoiser, data, serving
from tfflowdn.scripts import denoise_beam
from tfflowdn.scripts.beam_pipeline import FileOptions, build
from tfflowdn.scripts.denoise import denoise_files


@pytest.fixture(scope="module")
def saved_model(randomize, tmp_path_factory):
    network = ResNetDenoiser(num_blocks=1, hidden_channels=4)
    randomize(network, scale=0.2)
    return serving.export_model(network, tmp_path_factory.mktemp("models"), "denoiser")


def test_a_saved_model_denoises_as_its_network(saved_model, randomize):
    network = ResNetDenoiser(num_blocks=1, hidden_channels=4)
    randomize(network, scale=0.2)
    picture = np.random.default_rng(0).random((150, 90), np.float32)
    expected = Denoiser(network)(picture)
    for max_pixels in (10**6, 10_000):
        denoiser = Denoiser.from_pretrained(saved_model, max_pixels=max_pixels)
        np.testing.assert_allclose(denoiser(picture), expected, atol=1e-5)


def _build(pipeline, pattern, output, model, options):
    calls = ("strength", "self_ensemble", "luminance_only")
    of_files = {k: v for k, v in options.items() if k not in calls}
    of_calls = {k: v for k, v in options.items() if k in calls}
    build(
        *(pipeline, str(pattern), str(output), str(model), 10_000),
        FileOptions(**of_files),
        **of_calls,
    )


def _hard_files(folder):
    """Writes channels, missing pixels, few counts, a batch, alpha and a CT."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    channels = rng.integers(0, 90, (2, 3, 40, 50), np.uint8)
    channels[:, 0, 9, 9] = 255
    options = {"imagej": True, "metadata": {"axes": "ZCYX"}}
    tifffile.imwrite(folder / "dyes.tif", channels, **options)
    nodata = rng.integers(80, 99, (40, 50)).astype(np.int16)
    nodata[:9] = -9999
    tag = (42113, 2, 0, "-9999", True)
    tifffile.imwrite(folder / "nodata.tif", nodata, extratags=[tag])
    counts = rng.poisson(0.4, (150, 120, 1)).astype(np.uint16)
    data.write_image(folder / "counts.png", counts)
    batch = np.stack([np.full((30, 40, 1), v) for v in (9.0, 200.0)])
    np.save(folder / "batch.npy", (batch + rng.random(batch.shape)).astype(np.uint8))
    alpha = rng.integers(0, 255, (30, 40, 4), np.uint8)
    data.write_image(folder / "alpha.png", alpha)
    samples = rng.integers(0, 255, (30, 40, 5), np.uint8)
    data.write_image(folder / "five.tif", samples)
    data.write_image(
        folder / "ct.tif", (rng.integers(0, 99, (64, 64, 1)) - 1000).astype(np.int16)
    )


@pytest.mark.filterwarnings("ignore")  # Of Beam's own imports.
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"channels": "independent", "remove_outliers": True, "dtype": "float32"},
        {"transform": "anscombe", "gain": 2.0, "percentiles_by": "page"},
    ],
)
def test_the_pipeline_takes_the_files_and_options_of_denoise(
    saved_model, tmp_path, options
):
    folder, output, local = (tmp_path / name for name in ("in", "out", "local"))
    _hard_files(folder)
    if options.get("dtype") == "float32":  # PNG cannot hold it.
        for name in ("counts.png", "alpha.png"):
            (folder / name).unlink()
    with beam.Pipeline(runner="DirectRunner") as pipeline:
        _build(pipeline, f"{folder}/**", output, saved_model, options)
    written = denoise_files(
        [str(folder)], local, saved_model, max_pixels=10_000, **options
    )
    assert len(written) == len(list(folder.iterdir()))
    assert not (output / "failures.txt").exists()
    for path in written:
        assert (output / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.filterwarnings("ignore")  # Of Beam's own imports.
@pytest.mark.parametrize(
    "options", [{}, {"pixel_range": "2%,98%", "strength": 0.7, "luminance_only": True}]
)
def test_the_pipeline_writes_what_denoise_writes(saved_model, tmp_path, options):
    rng, folder = np.random.default_rng(0), tmp_path / "in" / "deep"
    folder.mkdir(parents=True)
    for name, shape in [("a.png", (150, 210, 1)), ("b.tif", (40, 30, 3))]:
        pixels = rng.random(shape, np.float32)
        data.write_image(folder / name, data.from_float(pixels, np.uint8))
    stack = rng.integers(0, 4096, (3, 150, 90), np.uint16)
    stack[1] //= 4
    tifffile.imwrite(folder / "stack.tif", stack, imagej=True, metadata={"axes": "TYX"})
    (folder / "broken.png").write_bytes(b"no picture")
    whole = (folder / "stack.tif").read_bytes()
    (folder / "broken.tif").write_bytes(whole[: len(whole) - 1000])
    pattern, output = f"{tmp_path}/in/**", tmp_path / "out"
    with beam.Pipeline(runner="DirectRunner") as pipeline:
        _build(pipeline, pattern, output, saved_model, options)
    (folder / "broken.png").unlink()
    (folder / "broken.tif").unlink()
    local = tmp_path / "local"
    written = denoise_files(
        [str(tmp_path / "in")], local, saved_model, max_pixels=10_000, **options
    )
    assert len(written) == 3
    for path in written:
        assert (output / path.relative_to(local)).read_bytes() == path.read_bytes()
    names = sorted(p.name for p in output.rglob("*.*"))
    assert names == ["a.png", "b.tif", "failures.txt", "stack.tif"]
    failures = (output / "failures.txt").read_text().splitlines()
    assert [line.split(": ")[0] for line in failures] == [
        str(folder / name) for name in ("broken.png", "broken.tif")
    ]


@pytest.mark.filterwarnings("ignore")  # Of Beam's own imports.
def test_the_command_counts_broken_files(saved_model, tmp_path):
    (tmp_path / "in").mkdir()
    broken, output = tmp_path / "in" / "broken.png", tmp_path / "out"
    broken.write_bytes(b"no picture")
    data.write_image(tmp_path / "in" / "a.png", np.zeros((9, 8, 1), np.uint8))
    arguments = [f"--input={tmp_path}/in/*", f"--output={output}", "--runner"]
    arguments += ["DirectRunner", f"--model={saved_model}"]
    with pytest.raises(SystemExit, match="1 files failed; .*out/failures.txt"):
        denoise_beam.main(arguments)
    broken.unlink()
    denoise_beam.main(arguments)
    assert [path.name for path in output.iterdir()] == ["a.png"]
