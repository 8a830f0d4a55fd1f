"""JPEG compression of pictures in memory, and the quality of files."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfflowdn import data
from tfflowdn.data.jpeg import quality_of_table


def _picture(channels=3, seed=0):
    rng = np.random.default_rng(seed)
    smooth = np.kron(rng.random((4, 5, channels)), np.ones((8, 8, 1)))
    noisy = smooth + rng.normal(0, 0.03, smooth.shape)
    return np.float32(np.clip(noisy, 0, 1))


def _image(picture):
    levels = np.uint8(np.rint(255 * picture))
    return Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels)


def _by_pillow(picture, quality):
    file = io.BytesIO()
    _image(picture).save(file, "JPEG", quality=quality)
    return np.float32(Image.open(file)).reshape(picture.shape) / 255


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [40, 90])
def test_compression_is_that_of_a_file(channels, quality):
    pictures = np.stack([_picture(channels, seed) for seed in range(2)])
    spec = tf.TensorSpec([None, None, None, channels], tf.float32)
    compress = tf.function(lambda x: data.compress_jpeg(x, quality), [spec])
    result = compress(pictures).numpy()
    expected = np.stack([_by_pillow(picture, quality) for picture in pictures])
    # The two decoders enlarge the colours by filters of their own.
    assert np.abs(result - expected).mean() < (1e-3 if channels == 1 else 6e-3)
    assert np.abs(result - pictures).mean() > 2e-3
    assert result.min() >= 0 and result.max() <= 1


def test_compression_clips():
    pictures = np.full((1, 8, 8, 1), [[[[-0.5]]]], np.float32)
    assert data.compress_jpeg(pictures, 95).numpy().max() == 0


@pytest.mark.parametrize("quality", [25, 50, 75, 96])
def test_quality_of_a_file(tmp_path, quality):
    _image(_picture()).save(tmp_path / "a.jpg", quality=quality)
    assert abs(data.jpeg_quality(tmp_path / "a.jpg") - quality) <= 1


def test_quality_of_a_camera_table_is_that_of_its_mean_step():
    assert quality_of_table([1] * 64) == 99
    assert quality_of_table([255] * 64) == 11
    steps = np.arange(1, 65)  # 32.5 in the mean, where quality 50 has 57.6.
    assert quality_of_table(steps) == 72


def test_files_without_a_quality(tmp_path):
    for name in ("a.png", "a.tif", "a.webp"):
        data.write_image(tmp_path / name, np.zeros((4, 4, 3), np.uint8))
        assert data.jpeg_quality(tmp_path / name) is None
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(data.ImageReadError, match="broken"):
        data.jpeg_quality(tmp_path / "broken.jpg")


def test_quality_of_a_source_is_the_median_of_its_files(tmp_path):
    for quality in (60, 75, 90):
        _image(_picture()).save(tmp_path / f"{quality}.jpg", quality=quality)
    source = data.open_source(str(tmp_path), channels=3)
    assert abs(source.jpeg_quality() - 75) <= 1
    _image(_picture()).save(tmp_path / "a.png")
    assert data.open_source(str(tmp_path), channels=3).jpeg_quality() is None
