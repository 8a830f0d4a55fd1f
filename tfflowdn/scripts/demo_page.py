"""The page `demo` in Gradio, which calls no other host."""

from __future__ import annotations

import functools
import html
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tfflowdn
from tfflowdn.scripts import demo_work
from tfflowdn.scripts.model_picker import AUTO

__all__ = ["SETTINGS", "build", "look"]

SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_SSR_MODE": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
"""Environment variables that keep Gradio from calling other hosts."""

KEPT_SECONDS = 3600
FRAME = '<iframe title="report" style="width: 100%; height: 1000px; border: 0" {}>'
TEXT = (
    "Drop a picture or a stack and press **Denoise**. The result keeps the name, the "
    "format and the metadata. Pictures are deleted after an hour."
)


def build(folder: Path, limits: demo_work.Limits, jobs: int) -> Any:
    """Returns the page, a `gradio.Blocks`.

    Args:
      folder: A folder for pictures of the requests; they are deleted after an hour.
      limits: The limits of a request.
      jobs: Number of requests at a time; the others wait in turn.

    Raises:
      ImportError: If Gradio is not installed.
    """
    gradio = _import_gradio(folder)
    models = tfflowdn.inference.pretrained_models()
    names = [AUTO, "general", *(n for n in models if n.startswith("denoiser"))]
    blocks = gradio.Blocks(title="tfflowdn", delete_cache=(KEPT_SECONDS, KEPT_SECONDS))
    with blocks:
        gradio.Markdown(f"# tfflowdn\n{TEXT}")
        with gradio.Row():
            with gradio.Column():
                upload = gradio.File(label="Picture or stack", elem_id="upload")
            with gradio.Column():
                model = gradio.Dropdown(names, value=AUTO, label="Model")
                strength = gradio.Slider(0, 1, 1, step=0.05, label="Strength")
                sigma = gradio.Slider(
                    0, 50, 0, step=1, label="Add noise to a clean picture (of 255)"
                )
                button = gradio.Button("Denoise", variant="primary", elem_id="denoise")
        words = gradio.Markdown(elem_id="words")
        result = gradio.File(label="Denoised", interactive=False, elem_id="result")
        page = gradio.HTML(elem_id="page")
        button.click(
            functools.partial(_answer, gradio, folder, limits),
            [upload, model, strength, sigma],
            [words, result, page],
            concurrency_limit=jobs,
        )
    return blocks.queue(max_size=50, api_open=False)


def look() -> dict[str, Any]:
    """Returns the arguments of `launch` that keep the page on this host."""
    import gradio

    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["monospace"]}
    return {
        "theme": gradio.themes.Base(**fonts),
        "footer_links": [],
        "share": False,
        "show_error": True,
        "ssr_mode": False,
    }


def _import_gradio(folder: Path) -> Any:
    """Imports Gradio with settings that it reads at its import."""
    os.environ.update(SETTINGS)
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    try:
        import gradio
    except ImportError as error:
        raise ImportError(
            f"demo needs Gradio: pip install 'tfflowdn[demo]'. Received: {error}."
        ) from error
    logging.getLogger("httpx").setLevel(logging.WARNING)
    return gradio


def _answer(
    gradio: Any,
    folder: Path,
    limits: demo_work.Limits,
    upload: str | None,
    model: str,
    strength: float,
    sigma: float,
) -> tuple[str, str, str]:
    if upload is None:
        raise gradio.Error("Drop a picture first.")
    _delete_old(folder)
    work = Path(tempfile.mkdtemp(prefix="request_", dir=folder))
    try:
        outcome = demo_work.process(
            upload,
            work,
            _networks,
            model=model,
            strength=strength,
            noise_sigma=sigma / 255,
            limits=limits,
        )
    except (ValueError, OSError, MemoryError) as error:
        shutil.rmtree(work, ignore_errors=True)
        raise gradio.Error(str(error)) from error
    frame = FRAME.format(f'srcdoc="{html.escape(outcome.page)}"')
    return outcome.sentences[0], str(outcome.file), f"{frame}</iframe>"


def _delete_old(folder: Path) -> None:
    for path in folder.glob("request_*"):
        if path.stat().st_mtime < time.time() - KEPT_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


@functools.lru_cache(maxsize=8)
def _networks(model: str) -> Sequence[Any]:
    return tfflowdn.Denoiser.from_pretrained(model).networks
