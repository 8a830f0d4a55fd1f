"""Tiles: they cover a picture once, and give the whole picture's result."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tfflowdn.inference import tiling

SIZES = [1, 2, 7, 16, 31, 32, 33, 64, 65, 101]


@pytest.mark.parametrize("multiple", [1, 2, 4])
@pytest.mark.parametrize(("length", "margin"), [(16, 3), (32, 7), (32, 0)])
def test_spans_cover_the_axis_once(length, margin, multiple):
    for size in SIZES:
        spans = tiling.spans(size, length, margin=margin, multiple=multiple)
        assert spans[0].begin == 0
        assert spans[-1].end == size
        for one, following in itertools.pairwise(spans):
            assert one.end == following.begin
        for span in spans:
            assert span.begin < span.end
            assert span.start % multiple == 0
            assert span.stop == size or span.stop % multiple == 0
            assert span.start == 0 or span.begin - span.start >= margin
            assert span.stop == size or span.stop - span.end >= margin
            assert span.stop - span.start < length + multiple


@pytest.mark.parametrize("max_pixels", [64, 100, 1000, 10**6])
def test_tiles_hold_no_more_pixels_than_allowed(max_pixels):
    for height, width in itertools.product(SIZES, SIZES):
        lengths = tiling.tile_lengths(height, width, max_pixels, 2)
        assert np.prod(lengths) <= max_pixels
        whole = height * width <= max_pixels
        assert (lengths == (height, width)) == whole


def _blur(picture):
    """Mean of 5x5 pixels, zeros outside, plus the position within 2x2 blocks."""
    padded = np.pad(picture, ((2, 2), (2, 2), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), (0, 1))
    rows, columns = np.indices(picture.shape[:2]) % 2
    return windows.mean((-1, -2)) + (rows + 3 * columns)[..., np.newaxis]


@pytest.mark.parametrize("shape", [(41, 37), (8, 200), (131, 3), (5, 5)])
def test_the_result_is_that_of_the_whole_picture(shape):
    picture = np.random.default_rng(0).random((*shape, 2))
    result = np.full_like(picture, np.nan)
    seen = []

    def function(tile):
        seen.append(tile.shape)
        return _blur(tile)

    tiling.apply_by_tiles(
        function, picture, result, margin=2, multiple=2, max_pixels=300
    )
    np.testing.assert_allclose(result, _blur(picture), atol=1e-12)
    assert (len(seen) > 1) == (np.prod(shape) > 300)


def test_tiles_that_are_all_margin_are_refused():
    with pytest.raises(ValueError, match="longer than their margins.*Received: length"):
        tiling.spans(100, 16, margin=8, multiple=2)
