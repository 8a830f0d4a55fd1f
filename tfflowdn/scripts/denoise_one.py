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
    reading_options: dict[str, Any],
    channels: str,
    progress: tfflowdn.progress.Progress,
) -> Callable[[], None]:
    """Denoises a file, shows the progress, and returns a function that writes it.

    Args:
      job: The file, whose pixels were read.
      denoiser: The denoiser.
      options: Options of its calls, `dtype` among them.
      scaling_options: The range and transform, see `denoise_files`.
      reading_options: `axes` and `channels` of `data.open_picture`.
      channels: "auto" or "independent".
      progress: Counts pictures.
    """
    read, is_array = job.future.result(), job.source.suffix.lower() == ARRAY_SUFFIX
    with _one_picture(progress) as on_share:
        if read is None and is_array:
            options = {**options, **scaling_options, "axes": reading_options["axes"]}
            apply = functools.partial(denoiser, **options)
            _denoise_array(job, apply, channels, on_share)
            return lambda: None
        if read is None:
            with tfflowdn.data.open_picture(job.source, **reading_options) as picture:
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
            gray = {**options, **scaling_options, **INDEPENDENT}
            denoise = functools.partial(_apart, denoiser, has_alpha, **gray)
            find, by_page = None, True
        else:
            denoise = functools.partial(denoiser, has_alpha=has_alpha, **options)
            find = functools.partial(
                _find_scaling, job.source, denoiser, scaling_options, has_alpha, options
            )
        if read is None:
            pages = _Pages(job.source, job.target.parent, reading_options)
            _denoise_pages(job, pages, denoise, has_alpha, find, by_page, on_share)
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


def _apart(denoiser, has_alpha, picture, *, out=None, **options):
    """Denoises the channels of a picture [H, W, C] one by one; alpha is copied."""
    if not has_alpha:
        return denoiser(picture, out=out, **options)
    color, alpha = tfflowdn.data.split_alpha(picture, True)
    if out is not None:
        out[..., -1:] = np.ma.getdata(alpha)
        return denoiser(color, out=out[..., :-1], **options)
    result = denoiser(color, **options)
    if not isinstance(result, tuple):
        return np.concatenate([np.ma.getdata(result), np.ma.getdata(alpha)], -1)
    denoised = np.concatenate([np.ma.getdata(result[0]), np.ma.getdata(alpha)], -1)
    return denoised, np.concatenate([result[1], np.zeros_like(result[1][..., :1])], -1)


def _denoise_array(job, denoise, channels, on_share):
    """Denoises and writes an array, whose values are read where they are used."""

    def fill(array, out):
        axes = denoise.keywords["axes"]
        if channels == "independent":
            axes = _gray_axes(axes, array.shape)
        size = array.size if axes else array.shape[0] * array.shape[1]
        on_pixels = lambda n: on_share(n / size)  # noqa: E731
        keywords = {"out": out, "axes": axes, "on_pixels": on_pixels}
        if denoise.keywords.get("return_std"):
            with std_maps.array_map(job.target, array.shape) as std:
                denoise(array, std_out=std, **keywords)
        else:
            denoise(array, **keywords)

    tfflowdn.data.map_array(job.source, job.target, fill, denoise.keywords["dtype"])


def _gray_axes(axes, shape):
    """Returns axes of an array whose channels are gray planes, without S and C."""
    axes = axes.upper() if axes else {2: "YX", 3: "YXS"}.get(len(shape), "TYXS")
    unused = [letter for letter in "IJKLMN" if letter not in axes]
    return axes.replace("S", unused[0]).replace("C", unused[1])


def _denoise_pages(job, pages, denoise, has_alpha, find_scaling, by_page, on_share):
    """Denoises and writes a file whose pages are read one by one."""
    shared = None if by_page else find_scaling(pages)

    def fill(page, out):
        keywords = {}
        if find_scaling is not None:
            keywords["pixel_range"] = shared or find_scaling([page])
        size = len(pages) * page.shape[0] * page.shape[1]
        on_pixels = lambda n: on_share(n / size)  # noqa: E731
        result = denoise(page, out=out, on_pixels=on_pixels, **keywords)
        if add_map is not None:
            add_map(result[1][..., : out.shape[-1] - has_alpha])

    dtype = denoise.keywords["dtype"]
    with contextlib.ExitStack() as stack:
        add_map = None
        if denoise.keywords.get("return_std"):
            add_map = stack.enter_context(std_maps.page_maps(job.target))
        options = pages.reading_options
        tfflowdn.data.map_pages(job.source, job.target, fill, dtype, **options)


class _Pages(Sequence):
    """The pages of a file, each read when it is asked for."""

    def __init__(self, path, folder, reading_options):
        self._path, self._folder = path, folder
        self.reading_options = reading_options
        self._count = tfflowdn.data.num_pages(path, **reading_options)

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        (page,) = self._read([index])
        return page

    def __iter__(self):
        return self._read(None)

    def _read(self, indices):
        options = self.reading_options
        return tfflowdn.data.read_pages(self._path, self._folder, indices, **options)


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
