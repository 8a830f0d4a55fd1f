"""PSNR, SSIM and bits per dimension against other implementations."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from skimage import metrics as skimage_metrics

from tfflowdn import metrics


def _pictures(shape=(2, 24, 31, 3), data_range=1.0, noise_sigma=0.1):
    rng = np.random.default_rng(0)
    reference = rng.random(shape).cumsum(axis=-2)
    reference /= reference.max()
    image = reference + noise_sigma * rng.standard_normal(shape)
    return tuple((data_range * a).astype(np.float32) for a in (reference, image))


@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_psnr_equals_skimage(data_range):
    reference, image = _pictures(data_range=data_range)
    expected = [
        skimage_metrics.peak_signal_noise_ratio(r, i, data_range=data_range)
        for r, i in zip(reference, image, strict=True)
    ]
    result = metrics.psnr(reference, image, data_range=data_range)
    np.testing.assert_allclose(result, expected, atol=1e-4)


@pytest.mark.parametrize("data_range", [1.0, 255.0])
@pytest.mark.parametrize("noise_sigma", [0.01, 0.1, 0.5])
def test_ssim_equals_skimage(data_range, noise_sigma):
    reference, image = _pictures(data_range=data_range, noise_sigma=noise_sigma)
    expected = [
        skimage_metrics.structural_similarity(
            r.astype(np.float64),
            i.astype(np.float64),
            data_range=data_range,
            channel_axis=-1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for r, i in zip(reference, image, strict=True)
    ]
    result = metrics.ssim(reference, image, data_range=data_range)
    np.testing.assert_allclose(result, expected, atol=1e-4)


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim])
def test_leading_dimensions(metric):
    reference, image = _pictures((2, 3, 12, 13, 1))
    batch = metric(reference, image, data_range=1.0)
    single = metric(reference[1, 2], image[1, 2], data_range=1.0)
    assert batch.shape == (2, 3) and single.shape == ()
    np.testing.assert_allclose(batch[1, 2], single, rtol=1e-5)


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim])
def test_graph_of_dynamic_shape(metric):
    reference, image = _pictures()
    spec = tf.TensorSpec([None, None, None, None])
    graph = tf.function(
        lambda x, y: metric(x, y, data_range=1.0), input_signature=[spec, spec]
    )
    expected = metric(reference, image, data_range=1.0)
    np.testing.assert_allclose(graph(reference, image), expected, rtol=1e-5)


def test_identical_pictures():
    reference, _ = _pictures()
    assert np.all(np.isinf(metrics.psnr(reference, reference, data_range=1.0)))
    similarity = metrics.ssim(reference, reference, data_range=1.0)
    np.testing.assert_allclose(similarity, 1.0, atol=1e-6)


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim])
def test_errors(metric):
    reference, image = _pictures()
    with pytest.raises(TypeError, match="data_range"):
        metric(reference, image)
    with pytest.raises(ValueError, match="positive. Received: data_range=0"):
        metric(reference, image, data_range=0)
    with pytest.raises(
        ValueError, match=r"Received: shapes=\(\(2, 24, 31, 3\), \(2, 24"
    ):
        metric(reference, image[..., :1], data_range=1.0)


def test_ssim_of_a_picture_below_the_window():
    with pytest.raises(ValueError, match="11x11 .* Received: height=10, width=12"):
        metrics.ssim(np.zeros((10, 12, 1)), np.zeros((10, 12, 1)), data_range=1.0)


def test_bits_per_dim():
    # A uniform density on [0, 1] tells nothing about 8-bit pixels: 8 bits each.
    assert metrics.bits_per_dim(0.0, 12) == 8.0
    # A density of 256 on the right 1/256 of the range tells everything.
    assert metrics.bits_per_dim(12 * math.log(256), 12) == pytest.approx(0.0)
    values = metrics.bits_per_dim(tf.constant([0.0, 12 * math.log(2)]), 12)
    np.testing.assert_allclose(values, [8.0, 7.0], rtol=1e-6)
    with pytest.raises(ValueError, match="Received: num_dims=0"):
        metrics.bits_per_dim(0.0, 0)


def test_psnr_metric_clips_and_averages_over_pictures():
    reference, image = _pictures(shape=(5, 8, 8, 1), noise_sigma=0.3)
    metric = metrics.PSNR(data_range=1.0)
    for part in (slice(0, 2), slice(2, 5)):
        metric.update_state(reference[part], image[part])
    expected = metrics.psnr(reference, np.clip(image, 0, 1), data_range=1.0)
    assert float(metric.result()) == pytest.approx(np.mean(expected), rel=1e-5)
    metric.reset_state()
    assert float(metric.result()) == 0.0


def test_psnr_metric_in_a_graph():
    reference, image = _pictures()
    eager, graph = metrics.PSNR(1.0), metrics.PSNR(1.0)
    eager.update_state(reference, image)
    tf.function(graph.update_state)(tf.constant(reference), tf.constant(image))
    assert float(graph.result()) == pytest.approx(float(eager.result()), rel=1e-6)


def test_psnr_metric_survives_serialization():
    metric = metrics.PSNR(data_range=255.0, name="quality")
    config = keras.saving.serialize_keras_object(metric)
    copy = keras.saving.deserialize_keras_object(config)
    assert config["registered_name"] == "tfflowdn>PSNR"
    assert (copy.data_range, copy.name) == (255.0, "quality")


def test_psnr_metric_in_model_fit():
    reference, image = _pictures(shape=(4, 8, 8, 1))
    model = keras.Sequential([keras.layers.Identity()])
    model.compile(loss="mse", metrics=[metrics.PSNR(1.0)])
    result = model.evaluate(image, reference, batch_size=2, verbose=0, return_dict=True)
    expected = metrics.psnr(reference, np.clip(image, 0, 1), data_range=1.0)
    assert result["psnr"] == pytest.approx(np.mean(expected), rel=1e-4)
