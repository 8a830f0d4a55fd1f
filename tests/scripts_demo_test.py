"""The page `demo`: its work, and the page in a browser, where there is one."""

from __future__ import annotations

import importlib.util
import re
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from browser import CHROMIUM, Browser
from PIL import Image

from tfflowdn import ResNetDenoiser, adapt, data
from tfflowdn.scripts import demo_work

RNG = np.random.default_rng(0)
NO_GRADIO = importlib.util.find_spec("gradio") is None


@pytest.fixture(scope="module")
def load():
    networks = [
        ResNetDenoiser(channels=c, num_blocks=1, hidden_channels=4) for c in (1, 3)
    ]
    return lambda model: networks if model == "general" else networks[1:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uploads")
    pixels = np.uint8(RNG.integers(0, 256, (40, 48, 3)))
    exif = Image.Exif()
    exif[0x010E] = "A description"
    Image.fromarray(pixels).save(folder / "a.jpg", exif=exif)
    Image.fromarray(pixels).save(folder / "b.png", dpi=(144, 144))
    stack = np.uint16(RNG.integers(0, 900, (3, 40, 48)))
    tifffile.imwrite(folder / "s.tif", stack, photometric="minisblack")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.mark.parametrize("name", ["a.jpg", "b.png", "s.tif"])
def test_a_picture_keeps_its_format_and_the_page_shows_it(folder, load, tmp_path, name):
    outcome = demo_work.process(folder / name, tmp_path, load, model="auto")
    assert outcome.file.name == name
    assert adapt.read_planes([outcome.file], 1)[1] == {}
    assert name in outcome.page and "divider" in outcome.page
    assert "Noise by brightness" in outcome.page
    assert f"{name} was denoised by " in outcome.sentences[0]
    if name == "a.jpg":
        with Image.open(outcome.file) as image:
            assert image.getexif()[0x010E] == "A description"
    if name == "s.tif":
        assert tifffile.imread(outcome.file).shape == (3, 40, 48)


@pytest.mark.parametrize("name, result", [("a.jpg", "a.png"), ("s.tif", "s.tif")])
def test_added_noise_gives_a_psnr(folder, load, tmp_path, name, result):
    outcome = demo_work.process(
        folder / name, tmp_path, load, model="general", noise_sigma=0.1
    )
    assert outcome.file.name == result
    (sentence,) = (s for s in outcome.sentences if s.startswith("The PSNR"))
    before = float(re.search(r"it was ([\d.]+) dB", sentence)[1])
    assert before == pytest.approx(20, abs=1.5)  # Clipping removes some noise.


@pytest.mark.parametrize(
    ("name", "limits", "message"),
    [
        ("b.png", {"megabytes": 1e-3}, "at most 0.001 MB here"),
        ("s.tif", {"megapixels": 5e-3}, "at most 0.005 megapixels here"),
        ("b.png", {"seconds": -1.0}, "at most -1 seconds here"),
        ("broken.png", {}, "broken.png"),
    ],
)
def test_what_is_too_large_or_broken_is_refused(
    folder, load, tmp_path, name, limits, message
):
    with pytest.raises(ValueError, match=message):
        demo_work.process(
            folder / name,
            tmp_path,
            load,
            model="general",
            limits=demo_work.Limits(**limits),
        )


def test_the_model_sees_the_values_that_a_picture_uses(folder, tmp_path, monkeypatch):
    seen = []

    def denoise_files(inputs, output, denoiser, **options):
        del inputs, output, denoiser
        seen.append(options["pixel_range"])
        raise ValueError("That is all.")

    monkeypatch.setattr(demo_work, "denoise_files", denoise_files)
    network = ResNetDenoiser(num_blocks=1, hidden_channels=4)
    for name in ("s.tif", "b.png"):
        with pytest.raises(ValueError, match="That is all"):
            demo_work.process(
                folder / name, tmp_path, lambda _: [network], model="general"
            )
    assert seen == ["0,1023", None]  # 16 bits of which ten are used, and 8 bits.


def test_several_users_at_once_get_their_own_pictures(folder, load, tmp_path):
    def go(index):
        work = tmp_path / str(index)
        work.mkdir()
        options = {"model": "general", "strength": 0.0}
        return demo_work.process(folder / "b.png", work, load, **options)

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(go, range(4)))
    assert len({outcome.file for outcome in outcomes}) == 4
    source = data.read_image(folder / "b.png")
    for outcome in outcomes:
        np.testing.assert_array_equal(data.read_image(outcome.file), source)


@pytest.mark.skipif(NO_GRADIO, reason="Gradio is not installed: the extra demo.")
@pytest.mark.skipif(CHROMIUM is None, reason="There is no Chromium on this machine.")
def test_an_upload_and_a_download_in_a_browser(folder, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "tfflowdn.scripts.demo", "--port", port]
    log = (tmp_path / "log").open("w+")
    server = subprocess.Popen(command, stderr=log)
    try:
        url = _url(server, tmp_path / "log")
        with Browser() as browser:
            options = {"behavior": "allow", "downloadPath": str(tmp_path)}
            browser.call("Browser.setDownloadBehavior", **options)
            browser.call("Page.navigate", url=url)
            browser.wait_for("!!document.querySelector('#upload input[type=file]')")
            browser.choose_file("#upload input[type=file]", str(folder / "b.png"))
            browser.wait_for("!!document.querySelector('#upload a[download]')")
            browser.evaluate("document.querySelector('#denoise').click()")
            inside = "document.querySelector('#page iframe')?.contentDocument"
            browser.wait_for(f"!!{inside}?.getElementById('divider')")
            moved = f"""(() => {{
                const divider = {inside}.getElementById('divider');
                const view = {inside}.defaultView;
                const key = new view.KeyboardEvent('keydown', {{key: 'End'}});
                divider.dispatchEvent(key);
                return divider.getAttribute('aria-valuenow');
            }})()"""
            assert browser.evaluate(moved) == "100"
            browser.evaluate("document.querySelector('#result a[download]').click()")
            browser.wait_for("true")
            end = tmp_path / "b.png"
            _wait_for(end.exists)
            own = (url, "data:", "blob:", "about:")
            assert [u for u in browser.urls() if not u.startswith(own)] == []
            assert browser.errors() == []
    finally:
        server.terminate()
        server.wait()
        log.close()
    with Image.open(end) as image:
        assert image.size == (48, 40)
        assert image.info["dpi"] == pytest.approx((144, 144), abs=0.1)


def _wait_for(function, seconds=120):
    end = time.monotonic() + seconds
    while not (found := function()):
        assert time.monotonic() < end
        time.sleep(0.2)
    return found


def _url(server, log):
    def read():
        assert server.poll() is None, log.read_text()
        found = re.search(r"The page is at (http\S+?/?);", log.read_text())
        return found and found[1]

    return _wait_for(read)
