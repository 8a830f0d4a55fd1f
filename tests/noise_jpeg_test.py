"""JPEG compression compared with files of Pillow."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfflowdn.noise import compress_jpeg


def _picture(size=(45, 70), channels=3):
    """Waves of a few pixels and noise, 8 bit, far from black and white."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: size[0], : size[1]]
    phases = np.arange(channels)
    waves = 30 * np.sin(0.4 * x + 0.1 * y)[..., None] + 10 * np.sin(0.3 * y)[..., None]
    picture = 128 + waves * np.cos(phases) + rng.normal(0, 4, (*size, channels))
    return np.rint(picture).astype(np.uint8)


def _through_a_file(picture, quality):
    file = io.BytesIO()
    Image.fromarray(np.squeeze(picture)).save(
        file, "JPEG", quality=quality, subsampling="4:2:0"
    )
    with Image.open(file) as image:
        return np.asarray(image).reshape(picture.shape)


def _std(difference):
    return np.std(difference.astype(float))


@pytest.mark.parametrize("quality", [20, 50, 75, 95])
def test_gray_is_what_a_file_gives_but_for_its_rounding(quality):
    picture = _picture(channels=1)
    file = _through_a_file(picture, quality)
    ours = 255 * compress_jpeg(picture[None] / 255, quality)[0].numpy()
    assert _std(file - 1.0 * picture) > 1.5  # The file has lost something.
    assert _std(ours - file) < 0.8
    assert abs(np.mean(ours - file)) < 0.1


@pytest.mark.parametrize("quality", [20, 75])
def test_color_is_close_to_a_file(quality):
    picture = _picture()
    file = _through_a_file(picture, quality)
    ours = 255 * compress_jpeg(picture[None] / 255, quality)[0].numpy()
    assert _std(ours - file) < 0.35 * _std(file - 1.0 * picture)


def test_values_are_not_clipped_and_constants_stay():
    images = np.array([-0.25, 0.5, 1.25], np.float32)[:, None, None, None]
    images = np.broadcast_to(images, (3, 9, 11, 1))
    compressed = compress_jpeg(images, [75.0, 90.0, 100.0])
    # The constant term of a block is 8 times the level, its step up to 8 at 75.
    np.testing.assert_allclose(compressed, images, atol=0.51 / 255)


def test_a_quality_for_each_picture_in_a_graph_of_dynamic_shape():
    images = np.stack([_picture()[:20, :33]] * 2).astype(np.float32) / 255
    spec = [tf.TensorSpec([None, None, None, 3]), tf.TensorSpec([None])]
    compress = tf.function(compress_jpeg, input_signature=spec)
    low, high = compress(images, [30.0, 90.0]).numpy()
    np.testing.assert_allclose(low, compress_jpeg(images[:1], 30)[0], atol=1e-5)
    assert _std(low - images[0]) > 1.5 * _std(high - images[1])


@pytest.mark.parametrize("size", [(1, 1), (7, 2), (16, 16)])
def test_any_size(size):
    picture = _picture(size)[None] / 255
    compressed = compress_jpeg(picture, 100).numpy()
    assert compressed.shape == picture.shape
    assert _std(compressed[..., 1] - picture[..., 1]) < 6 / 255


def test_other_channels_are_an_error():
    with pytest.raises(ValueError, match="1 or 3 channels. Received: channels=2"):
        compress_jpeg(tf.zeros([1, 8, 8, 2]), 75)
