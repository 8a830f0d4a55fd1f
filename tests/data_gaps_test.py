"""Missing pixels: found, filled, put back, marked, cut."""

from __future__ import annotations

import numpy as np
import pytest

from tfflowdn import data


def _ramp(height=40, width=50, channels=1, dtype="float32"):
    rows, columns = np.mgrid[:height, :width]
    ramp = 2.0 * rows + columns
    return np.repeat(ramp[..., np.newaxis], channels, -1).astype(dtype)


BAD = [np.nan, np.inf, -np.inf, np.finfo(np.float32).max, np.finfo(np.float32).min]


@pytest.mark.parametrize("bad", [*BAD, 1e300])
def test_missing_values_are_filled_from_neighbors_and_put_back(bad):
    picture = _ramp(channels=2, dtype="float64")
    expected = picture.copy()
    picture[7, 9, 0] = picture[0, 0] = picture[-1, 3:6, 1] = bad
    filled = data.fill_gaps(picture)
    np.testing.assert_allclose(filled, expected, atol=3.1)
    np.testing.assert_allclose(filled[7, 9], expected[7, 9])
    assert data.count_gaps(picture) == 6
    result = filled + 1
    data.restore_gaps(result, picture)
    assert np.isnan(result[7, 9, 0]) if np.isnan(bad) else result[7, 9, 0] == bad
    assert result[7, 9, 1] == expected[7, 9, 1] + 1


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_masked_values_are_filled_whatever_they_hold(dtype):
    picture = np.ma.array(_ramp(dtype=dtype), mask=False)
    picture[10:14, :20] = np.ma.masked
    filled = data.fill_gaps(picture)
    assert filled.dtype == dtype and not np.ma.isMaskedArray(filled)
    np.testing.assert_allclose(np.float64(filled), _ramp(), atol=8)
    np.testing.assert_array_equal(filled[20:], picture.data[20:])


def test_a_picture_without_missing_values_is_returned_as_it_is():
    for dtype in ("uint8", "float32"):
        picture = _ramp(dtype=dtype)
        assert np.shares_memory(data.fill_gaps(picture), picture)
        assert data.find_gaps(picture) is None


def test_blocks_of_rows_do_not_show(monkeypatch):
    picture = _ramp(100, 12)
    picture[::7, ::5] = np.nan
    whole = data.fill_gaps(picture)
    monkeypatch.setattr("tfflowdn.data.gaps._ROWS", 16)
    monkeypatch.setattr("tfflowdn.data.memory.free_memory", lambda: 10)
    by_blocks = data.fill_gaps(picture)
    assert isinstance(by_blocks, np.memmap)
    np.testing.assert_allclose(by_blocks, whole)


def test_a_channel_and_a_border_that_are_missing_are_filled():
    picture = _ramp(600, 6, 3)
    picture[..., 1] = np.nan
    assert np.isfinite(data.fill_gaps(picture)).all()
    picture = _ramp(1400, 4)
    picture[:600] = np.nan
    filled = data.fill_gaps(picture)
    assert np.isfinite(filled).all() and filled[0, 0] > filled[-1].min() / 2


def test_more_than_half_is_refused():
    picture = _ramp(4, 4)
    picture[:2] = np.nan
    data.fill_gaps(picture)
    picture[2, 0] = np.nan
    with pytest.raises(ValueError, match="num_missing=9 of 16"):
        data.fill_gaps(picture)


def test_wide_gaps_are_marked_and_cut():
    picture = _ramp()
    picture[20, 20] = np.nan  # A dead pixel.
    picture[:, 33] = np.nan  # A dead column.
    picture[:6] = picture[:, 44:] = np.inf  # Borders.
    marked, part = data.mark_gaps(picture), data.cut_gaps(picture)
    assert np.isfinite(marked[7:, :43]).all() and np.isnan(marked[:6]).all()
    assert part.shape == (33, 44, 1) and np.isfinite(part).all()
    np.testing.assert_allclose(part, _ramp()[7:, :44], atol=2)


def test_cells_of_a_large_picture_are_cut():
    picture = _ramp(500, 300)
    picture[:9, :9] = np.nan
    part = data.cut_gaps(picture)
    assert np.isfinite(part).all() and part.size > 0.95 * picture.size


def test_ranges_ignore_missing_values():
    picture = _ramp()
    expected = data.find_limits("0%,100%", [picture[1:]])
    picture[0] = np.inf
    assert data.find_limits("0%,100%", [picture]) == expected
    masked = np.ma.array(_ramp(dtype="uint8"), mask=False)
    masked[0] = np.ma.masked
    assert data.find_limits("0%,100%", [masked]) == expected
    with pytest.raises(ValueError, match="some pixels must be finite"):
        data.find_limits("0%,100%", [picture[:1]])
