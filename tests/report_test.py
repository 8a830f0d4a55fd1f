"""The report: one file without network; in a browser, where there is one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape

import numpy as np
import pytest

from tfflowdn import report

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
CHECKS = """
<script>
const errors = [];
addEventListener("error", (event) => errors.push(event.message));
addEventListener("load", () => {
  const say = {};
  const divider = document.getElementById("divider");
  divider.focus();
  for (const key of ["End", "ArrowLeft", "PageDown"])
    divider.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
  say.keys = divider.getAttribute("aria-valuenow");
  const stage = document.getElementById("stage");
  const box = stage.getBoundingClientRect();
  const clientX = box.left + box.width / 4;
  stage.dispatchEvent(new MouseEvent("click", {clientX, bubbles: true}));
  say.click = divider.getAttribute("aria-valuenow");
  document.querySelector("[data-zoom='2']").click();
  say.zoom = document.getElementById("left-image").style.width;
  const cells = () => [...document.querySelectorAll("#scores tbody td:first-child")];
  const names = () => cells().map((cell) => cell.textContent).join();
  say.before = names();
  const buttons = document.querySelectorAll("#scores th button");
  buttons[1].click();
  say.after = names();
  buttons[0].click();
  say.names = names();
  say.wide = document.documentElement.scrollWidth <= innerWidth;
  say.errors = errors.join();
  document.title = "RESULT " + JSON.stringify(say);
});
</script>
"""


def make(count=3, side=64):
    rng = np.random.default_rng(0)
    rows = []
    for index in range(count):
        clean = np.full((side, side, 1), 0.2 + 0.1 * index)
        noisy = clean + 0.1 * rng.normal(size=clean.shape)
        scores = {"psnr": 30.0 - index, "gain": float(index)}
        removed = np.ones((side // 8, side // 8)) * (index > 0)
        name = f"{index} <b>&.png"
        rows.append(report.Row(name, scores, noisy, clean, clean, removed))
    curve = report.Curve("measured", [0, 1, 2], [1.0, float("nan"), 3.0])
    return report.Report(
        "A title",
        ["It is <good>."],
        rows,
        plots={"Noise": ("counts", "deviation", [curve])},
        galleries={"Samples": {"real": rows[0].noisy}},
        facts={"Decisions": [("start", "denoiser_gray", "gray pictures")]},
        commands=["train_noise --config noise"],
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    report.write_report(path, make())
    return path


def test_the_file_has_everything_and_asks_for_nothing(page):
    text = page.read_text("utf-8")
    assert "It is &lt;good&gt;." in text and "<b>" not in text
    assert not re.findall(r"(?:src|href)=\"(?!data:)[^\"]+", text)
    assert "http://" not in text and "https://" not in text
    for part in ("denoiser_gray", "train_noise --config noise", "counts", "Samples"):
        assert part in text
    rows = re.findall(r"<tr><td data-value=\"(\d)", text)
    assert rows == ["2", "1", "0"]  # The worst is first.


def test_many_large_pictures_stay_below_five_megabytes(tmp_path):
    report.write_report(tmp_path / "r.html", make(count=12, side=700))
    assert (tmp_path / "r.html").stat().st_size < 5_000_000
    text = (tmp_path / "r.html").read_text("utf-8")
    assert len(re.findall("<tr><td data-value", text)) == 12


def test_a_report_without_pictures_is_written(tmp_path):
    report.write_report(tmp_path / "r.html", report.Report("Title", ["Words."]))
    assert "Words." in (tmp_path / "r.html").read_text("utf-8")


@pytest.mark.skipif(BROWSER is None, reason="There is no Chromium on this machine.")
@pytest.mark.parametrize("width", [400, 1600])
def test_the_page_works_in_a_browser(page, tmp_path, width):
    text = page.read_text("utf-8").replace("<head>", "<head>" + CHECKS)
    (tmp_path / "page.html").write_text(text, "utf-8")
    command = [
        BROWSER,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--window-size={width},900",
        "--virtual-time-budget=3000",
        "--dump-dom",
        (tmp_path / "page.html").as_uri(),
    ]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120
    )
    found = re.search(r"<title>RESULT (\{.*?\})</title>", result.stdout)
    assert found, result.stderr[-1000:]
    said = json.loads(unescape(found[1]))
    assert said["errors"] == "" and said["wide"]
    assert said["keys"] == "89" and said["click"] in ("24", "25")
    assert said["zoom"] == "128px"
    assert said["before"][0] == "2" and said["after"][0] == "0"
    assert said["names"][0] == "0"
