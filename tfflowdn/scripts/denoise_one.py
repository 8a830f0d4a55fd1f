"""One file of `denoise`: its pixels, pages or array through a denoiser."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import logging

import tfflowdn
from tfflowdn.scripts import std_maps
from tfflowdn.scripts.denoise_queue import ARRAY_SUFFIX, Job

__all__ = ["denoise_one"]

INDEPENDENT = {"axes": "YXI", "percentiles_by": "page"}  # I counts gray planes.


def denoise_one(
    job: Job,
    denoiser: tfflowdn.Denoiser,
    options: dict[str, Any],
    scaling_options: dict[str, Any],
    axes: str | None,
    channels: str,
    progress: tfflowdn.progress.Progress,
) -> Callable[[], None]:
    """Denoises a file, shows the progress, and returns a function that writes it.

    Args:
      job: The file, whose pixels were read.
      denoiser: The denoiser.
      options: Options of its calls, `dtype` among them.
      scaling_options: The range and transform, see `denoise_files`.
      axes: The axes of arrays.
      channels: "auto" or "independent".
      progress: Counts pictures.
    """
    read, is_array = job.future.result(), job.source.suffix.lower() == ARRAY_SUFFIX
    with _one_picture(progress) as on_share:
        if read is None and is_array:
            options = {**options, "axes": axes, **scaling_options}
            _denoise_array(job, functools.partial(denoiser, **options), axes, on_share)
            return lambda: None
        if read is None:
            with tfflowdn.data.open_picture(job.source) as picture:
                layout = picture.layout()
                if picture.notes:
                    logging.warning("%s: %s.", job.source, picture.notes)
        else:
            pixels, metadata, layout = read
        is_joint = layout.channels in denoiser.all_channels
        is_split = channels == "independent" or layout.is_independent and not is_joint
        has_alpha = layout.has_alpha
        by_page = scaling_options["percentiles_by"] == "page"
        if is_split:
            gray = {**scaling_options, **INDEPENDENT}
            denoise = functools.partial(denoiser, **options, **gray)
            find, by_page = None, True
        else:
            denoise = functools.partial(denoiser, has_alpha=has_alpha, **options)
            find = functools.partial(
                _find_scaling, job.source, denoiser, scaling_options, has_alpha, options
            )
        if read is None:
            _denoise_pages(job, denoise, find, by_page, on_share)
            return lambda: None
        if metadata.conversion:
            logging.warning("%s is converted: %s.", job.source, metadata.conversion)
        size = pixels.shape[0] * pixels.shape[1] * (pixels.shape[-1] if is_split else 1)
        keywords = {} if find is None else {"pixel_range": find([pixels])}
        result = denoise(pixels, on_pixels=lambda n: on_share(n / size), **keywords)
        return functools.partial(_write, job.target, result, metadata, has_alpha)


def _write(target, result, metadata, has_alpha):
    """Writes a picture, and the map of its standard deviations if there is one."""
    denoised, std = result if isinstance(result, tuple) else (result, None)
    if std is not None:
        std_maps.write_map(target, std[..., :-1] if has_alpha else std)
    tfflowdn.data.write_image(target, np.ma.getdata(denoised), metadata)


def _find_scaling(source, denoiser, scaling_options, has_alpha, options, pictures):
    keywords = {k: v for k, v in scaling_options.items() if k != "percentiles_by"}
    keywords |= {"has_alpha": has_alpha, "dtype": options["dtype"]}
    scaling = denoiser.find_scaling(pictures, **keywords)
    for note in scaling.notes:
        logging.warning("%s: %s.", source, note)
    return scaling


def _denoise_array(job, denoise, axes, on_share):
    """Denoises and writes an array, whose values are read where they are used."""

    def fill(array, out):
        size = array.size if axes else array.shape[0] * array.shape[1]
        keywords = {"out": out, "on_pixels": lambda n: on_share(n / size)}
        if denoise.keywords.get("return_std"):
            with std_maps.array_map(job.target, array.shape) as std:
                denoise(array, std_out=std, **keywords)
        else:
            denoise(array, **keywords)

    tfflowdn.data.map_array(job.source, job.target, fill, denoise.keywords["dtype"])


def _denoise_pages(job, denoise, find_scaling, by_page, on_share):
    """Denoises and writes a file whose pages are read one by one."""
    pages = _Pages(job.source, job.target.parent)
    shared = None if by_page else find_scaling(pages)

    def fill(page, out):
        keywords = {}
        if find_scaling is not None:
            keywords["pixel_range"] = shared or find_scaling([page])
        size = len(pages) * page.shape[0] * page.shape[1]
        on_pixels = lambda n: on_share(n / size)  # noqa: E731
        result = denoise(page, out=out, on_pixels=on_pixels, **keywords)
        if add_map is not None:
            has_alpha = denoise.keywords.get("has_alpha", False)
            add_map(result[1][..., :-1] if has_alpha else result[1])

    dtype = denoise.keywords["dtype"]
    with contextlib.ExitStack() as stack:
        add_map = None
        if denoise.keywords.get("return_std"):
            add_map = stack.enter_context(std_maps.page_maps(job.target))
        tfflowdn.data.map_pages(job.source, job.target, fill, dtype)


class _Pages(Sequence):
    """The pages of a file, each read when it is asked for."""

    def __init__(self, path, folder):
        self._path, self._folder = path, folder
        self._count = tfflowdn.data.num_pages(path)

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        (page,) = tfflowdn.data.read_pages(self._path, self._folder, [index])
        return page

    def __iter__(self):
        return tfflowdn.data.read_pages(self._path, self._folder)


@contextlib.contextmanager
def _one_picture(progress):
    """Gives a function that adds a share of a picture to the progress.

    A picture that fails is also done.
    """
    left = 1.0

    def on_share(share):
        nonlocal left
        share = min(left, share)
        left -= share
        progress.update(share)

    try:
        yield on_share
    finally:
        progress.update(left)
