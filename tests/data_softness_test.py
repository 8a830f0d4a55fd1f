"""How soft pictures are: known enlargements are found again."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tensorflow as tf

from tfflowdn import data
from tfflowdn.data import softness

NUM_PICTURES, SIDE = 12, 192


def _pictures(seed):
    """Returns pictures whose amplitude falls as the frequency rises, [n, H, W, 1]."""
    rng = np.random.default_rng(seed)
    white = np.fft.fft2(rng.normal(size=(NUM_PICTURES, SIDE, SIDE)))
    rows, columns = np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE)
    frequency = np.maximum(np.hypot(rows, columns), 1 / SIDE)
    pictures = np.fft.ifft2(white / frequency**1.2).real
    pictures *= 0.12 / pictures.std((1, 2), keepdims=True)
    return np.clip(0.5 + pictures, 0, 1)[..., None].astype("float32")


@pytest.fixture(name="clean", scope="module")
def _clean(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean")
    for i, picture in enumerate(_pictures(0)):
        data.write_image(folder / f"{i}.png", np.uint8(255 * picture + 0.5))
    return data.open_source(str(folder), channels=1)


@pytest.fixture(autouse=True, scope="module")
def _crops_are_read_once():
    """Each call of `matching_zoom_range` reads the same crops of the clean pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(softness, "_crops", functools.cache(softness._crops))
        yield


def _enlarged(zoom):
    side = round(SIDE / zoom)
    middle = (SIDE - side) // 2
    crops = _pictures(1)[:, middle : middle + side, middle : middle + side]
    return tf.image.resize(crops, (SIDE, SIDE), "bicubic").numpy()


@pytest.mark.parametrize("zoom", [2.5, 3.0, 4.0])
def test_a_known_zoom_is_found(clean, zoom):
    low, high = data.matching_zoom_range(list(_enlarged(zoom)), clean)
    assert zoom - 1 < low < zoom < high < zoom + 1


def test_pictures_as_sharp_as_the_clean_ones_need_none(clean):
    low, high = data.matching_zoom_range(list(_pictures(1)), clean)
    assert low == 1 and high < 2.4


def test_the_noise_is_taken_off(clean):
    rng = np.random.default_rng(2)
    noisy = _enlarged(4.0)
    noisy += rng.normal(scale=0.05, size=noisy.shape)
    noise = rng.normal(scale=0.05, size=(64, 64, 64, 1))
    low, high = data.matching_zoom_range(list(noisy), clean, noise)
    _, fooled = data.matching_zoom_range(list(noisy), clean)
    assert 3 < low < 4 < high < 5 and fooled < 4


def test_black_pictures_have_an_answer(clean):
    low, high = data.matching_zoom_range([np.zeros((64, 64, 1))], clean)
    assert 1 <= low <= high <= 6


@pytest.mark.parametrize("pictures", [[], [np.zeros((64, 63, 1))]])
def test_pictures_must_hold_a_crop(clean, pictures):
    with pytest.raises(ValueError, match=r"at least 64 x 64 pixels\. Received: "):
        data.matching_zoom_range(pictures, clean)
