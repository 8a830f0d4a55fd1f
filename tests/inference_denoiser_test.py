"""Denoiser: any size by tiles, strength, self-ensemble, kinds of input."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfflowdn import Denoiser, ResNetDenoiser, data, denoise, serving
from tfflowdn.inference import network_set


@pytest.fixture(scope="module")
def networks(randomize):
    """Gray and color networks whose correction is far from zero."""
    result = {}
    for channels in (1, 3):
        network = ResNetDenoiser(channels, num_blocks=2, hidden_channels=4, seed=1)
        randomize(network, scale=0.2)
        result[channels] = network
    return result


def _picture(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


@pytest.mark.parametrize("self_ensemble", [False, True])
@pytest.mark.parametrize("shape", [(67, 53), (3, 401), (200, 7, 1), (61, 64, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiles_give_the_result_of_the_whole(networks, channels, shape, self_ensemble):
    network, picture = networks[channels], _picture(*shape)
    whole = Denoiser(network, max_pixels=10**6)(picture, self_ensemble=self_ensemble)
    tiled = Denoiser(network, max_pixels=1600)(picture, self_ensemble=self_ensemble)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)
    assert np.abs(whole - picture).mean() > 0.05


def test_no_tile_has_more_pixels_than_allowed(networks, monkeypatch):
    denoiser, seen = Denoiser(networks[1], max_pixels=1500), []
    apply = network_set._apply
    monkeypatch.setattr(
        network_set,
        "_apply",
        lambda network, noisy: (seen.append(noisy.shape), apply(network, noisy))[1],
    )
    denoiser(_picture(5, 20, 30, 1))
    assert [shape[0] for shape in seen] == [2, 2, 1]
    seen.clear()
    denoiser(_picture(2, 100, 90, 1))
    assert len(seen) > 10
    assert max(np.prod(shape) for shape in seen) <= (38 + 1) ** 2


@pytest.mark.parametrize("size", list(itertools.product((1, 2, 5), (1, 3, 4))))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64])
def test_the_smallest_pictures_keep_shape_and_dtype(networks, size, dtype):
    picture = (_picture(*size) * (255 if np.dtype(dtype).kind == "u" else 1)).astype(
        dtype
    )
    for options in ({}, {"self_ensemble": True}):
        result = denoise(picture, networks[1], **options)
        assert result.shape == picture.shape
        assert result.dtype == picture.dtype


def test_strength_is_the_part_of_the_correction(networks):
    picture = _picture(9, 8)
    full = denoise(picture, networks[1])
    half = denoise(picture, networks[1], strength=0.5)
    np.testing.assert_allclose(half, (picture + full) / 2, atol=1e-6)
    np.testing.assert_array_equal(denoise(picture, networks[1], strength=0), picture)
    with pytest.raises(ValueError, match=r"within \[0, 1\]. Received: strength=1.5"):
        denoise(picture, networks[1], strength=1.5)


def test_self_ensemble_is_the_mean_over_the_symmetries(networks):
    picture = _picture(12, 10)
    results = [
        np.rot90(denoise(np.rot90(picture[:, ::flip], turns), networks[1]), -turns)[
            :, ::flip
        ]
        for turns, flip in itertools.product(range(4), (1, -1))
    ]
    ensemble = denoise(picture, networks[1], self_ensemble=True)
    np.testing.assert_allclose(ensemble, np.mean(results, 0), atol=1e-6)
    assert np.abs(ensemble - results[0]).max() > 1e-3


@pytest.mark.parametrize("shape", [(9, 8), (9, 8, 3), (2, 9, 8, 1)])
def test_a_tensor_gives_a_tensor(networks, shape):
    picture = _picture(*shape)
    result = denoise(tf.constant(picture), networks[1])
    assert tf.is_tensor(result)
    np.testing.assert_array_equal(result, denoise(picture, networks[1]))


def test_a_view_is_denoised_as_its_copy(networks):
    view = _picture(30, 40)[::-2, 1::3]
    expected = denoise(view.copy(), networks[1])
    np.testing.assert_array_equal(denoise(view, networks[1]), expected)


def _network(*layers):
    return keras.Sequential([keras.Input((None, None, 1)), *layers])


def test_the_reach_of_any_network_is_measured():
    keras.utils.set_random_seed(0)
    network = _network(
        keras.layers.Conv2D(4, 3, strides=2, padding="same"),
        keras.layers.Conv2DTranspose(1, 4, strides=2, padding="same"),
    )
    denoiser = Denoiser(network, max_pixels=96 * 96)
    assert denoiser.margin in (2, 3)
    picture = _picture(130, 196)
    whole = Denoiser(network, max_pixels=10**6)(picture)
    np.testing.assert_allclose(denoiser(picture), whole, atol=1e-5)


def test_a_network_that_sees_everything_cannot_be_tiled():
    class SubtractMean(keras.layers.Layer):
        def call(self, images):
            return images - keras.ops.mean(images, (1, 2), keepdims=True)

    denoiser = Denoiser(_network(SubtractMean()), max_pixels=400)
    assert denoiser(_picture(20, 20)).shape == (20, 20)
    with pytest.raises(ValueError, match="reaches beyond 256 pixels"):
        denoiser(_picture(21, 20))


def test_each_network_denoises_pictures_of_its_channels(networks):
    gray, color, both = (
        Denoiser(*(networks[channels] for channels in pair), max_pixels=1600)
        for pair in ((1,), (3,), (1, 3))
    )
    for picture in (_picture(45, 52), _picture(45, 52, 1), _picture(45, 52, 2)):
        np.testing.assert_allclose(both(picture), gray(picture), atol=1e-6)
    for picture in (_picture(45, 52, 3), _picture(2, 45, 52, 4)):
        np.testing.assert_allclose(both(picture), color(picture), atol=1e-6)
        assert np.abs(both(picture) - gray(picture)).max() > 0.1


def test_the_default_number_of_pixels_fits_memory():
    small, large = (
        Denoiser(ResNetDenoiser(hidden_channels=width, num_blocks=1))
        for width in (16, 64)
    )
    assert small._affordable_pixels() >= 3 * large._affordable_pixels() > 10**5


@pytest.mark.parametrize("axes", ["TZYX", "YXT", "xyz", "STYX", "YX", "CYXS"])
def test_axes_are_kept_and_planes_denoised_alone(networks, axes):
    sizes = dict(zip("TZCSYX", (2, 3, 4, 3, 9, 8), strict=True))
    array = _picture(*(sizes[name] for name in axes.upper()))
    result = denoise(array, networks[1], axes=axes)
    assert result.shape == array.shape
    plane = tuple(slice(None) if name in "YXS" else 1 for name in axes.upper())
    names = "".join(name for name in axes.upper() if name in "YXS")
    order = [names.index(name) for name in "YXS" if name in names]
    expected = denoise(np.transpose(array[plane], order), networks[1])
    np.testing.assert_allclose(np.transpose(result[plane], order), expected, atol=1e-6)


@pytest.mark.parametrize("pixel_range", ["0,4095", "1%,99%", (-500, 500)])
@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint32", "int32", "float64"])
def test_pixels_are_scaled_by_the_range_and_back(networks, dtype, pixel_range):
    stack = np.random.default_rng(0).integers(0, 4096, (3, 20, 30))
    stack[1] //= 4  # A dark picture.
    stack = stack.astype(dtype)
    denoiser = Denoiser(networks[1])

    def expected(picture, limits):
        unit = np.float32((picture - float(limits[0])) / (limits[1] - limits[0]))
        result = (
            denoiser(unit, pixel_range="dtype") * (limits[1] - limits[0]) + limits[0]
        )
        info = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else np.finfo(dtype)
        return np.clip(result, info.min, info.max)

    planes = stack[..., np.newaxis]
    together = expected(planes, data.find_limits(pixel_range, planes, 3))
    result = denoiser(stack, axes="ZYX", pixel_range=pixel_range)
    assert result.dtype == stack.dtype
    np.testing.assert_allclose(result, together[..., 0], atol=0.51)
    batch = denoiser(planes, pixel_range=pixel_range)
    for picture, of_batch in zip(planes, batch, strict=True):
        single = expected(picture, data.find_limits(pixel_range, [picture]))
        result = denoiser(picture, pixel_range=pixel_range)
        np.testing.assert_allclose(result, single, atol=0.51)
        np.testing.assert_allclose(of_batch, result, atol=1)


def test_the_range_of_the_training_is_the_default(networks, tmp_path):
    config = networks[1].get_config()
    network = ResNetDenoiser.from_config({**config, "pixel_range": "100,4095"})
    network.set_weights(networks[1].get_weights())
    network.save(tmp_path / "a.keras")
    folder = serving.export_model(network, tmp_path, "denoiser")
    picture = np.random.default_rng(0).integers(0, 4096, (20, 30), np.uint16)
    expected = np.int64(denoise(picture, networks[1], pixel_range=(100, 4095)))
    other = np.int64(denoise(picture, networks[1]))
    assert np.abs(expected - other).max() > 3
    for path in (tmp_path / "a.keras", folder):
        denoiser = Denoiser.from_pretrained(path)
        assert denoiser.pixel_range == "100.0,4095.0"
        np.testing.assert_allclose(denoiser(picture), expected, atol=1)
        by_dtype = denoiser(picture, pixel_range="dtype")
        np.testing.assert_allclose(by_dtype, other, atol=1)
    with pytest.raises(ValueError, match="pixel_range='12 bit'"):
        ResNetDenoiser(pixel_range="12 bit")


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.int16, bool])
def test_other_dtypes_come_back(networks, dtype):
    picture = data.from_float(_picture(20, 30), dtype)
    result = denoise(picture, networks[1])
    assert result.dtype == dtype
    assert np.abs(result.astype(float) - picture).mean() > 0
    np.testing.assert_array_equal(denoise(picture, networks[1], strength=0), picture)


def test_32_bit_integers_need_a_range(networks):
    for dtype in (np.uint32, np.int32):
        with pytest.raises(ValueError, match="pixel_range, such as 0,4095"):
            denoise(np.zeros((4, 4), dtype), networks[1])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(30, 40, 3), (2, 30, 40, 4)])
def test_luminance_only_keeps_the_chroma(networks, channels, shape):
    picture, weights = _picture(*shape), np.float32([0.299, 0.587, 0.114])
    denoiser = Denoiser(networks[channels], max_pixels=1200)
    result = denoiser(picture, luminance_only=True)
    before, after = ((p[..., :3] @ weights)[..., None] for p in (picture, result))
    np.testing.assert_allclose(after, denoiser(before), atol=1e-5)
    for colors in ([0, 1], [1, 2]):
        differences = (np.diff(p[..., colors]) for p in (result, picture))
        np.testing.assert_allclose(*differences, atol=1e-5)
    np.testing.assert_array_equal(result[..., 3:], picture[..., 3:])
    gray = denoiser(before, luminance_only=True)
    np.testing.assert_array_equal(gray, denoiser(before))


@pytest.mark.parametrize("axes", ["ZYX", "TTYX", "TZYC", ""])
def test_axes_must_fit(networks, axes):
    with pytest.raises(ValueError, match=f"Y and X.*Received: axes='{axes}'"):
        denoise(_picture(2, 3, 4, 5), networks[1], axes=axes)


def test_out_is_filled_wherever_it_lies(networks, tmp_path):
    picture = np.uint16(65535 * _picture(40, 30, 3))
    shape = picture.shape
    out = np.memmap(tmp_path / "out", np.uint16, "w+", shape=shape)
    denoiser = Denoiser(networks[1], max_pixels=1100)
    assert denoiser(picture, out=out) is out
    expected = Denoiser(networks[1])(picture)
    assert np.abs(np.int64(out) - expected).max() <= 1
    with pytest.raises(ValueError, match=r"out must have .*Received: out.shape=\(4,"):
        denoiser(picture, out=out[:4])


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float64", "bool"])
def test_strength_0_returns_the_picture_exactly(networks, dtype):
    picture = (1e5 * _picture(9, 8, 3) / 3).astype(dtype)
    for kind in (np.asarray, tf.constant):
        options = {"strength": 0, "pixel_range": "1%,99%"}
        result = denoise(kind(picture), networks[1], **options)
        np.testing.assert_array_equal(result, picture)
    out = np.empty_like(picture)
    assert denoise(picture, networks[1], out=out, **options) is out


def test_two_networks_must_have_different_channels(networks):
    with pytest.raises(ValueError, match=r"different numbers.*channels=\[3, 3\]"):
        Denoiser(networks[3], networks[3])


@pytest.mark.parametrize(
    "network",
    [
        keras.Sequential([keras.layers.Conv2D(1, 3, padding="same")]),
        np.copy,
        "denoiser_gray",
        None,
    ],
)
def test_a_network_must_be_a_built_model(network):
    with pytest.raises(ValueError, match="must be a built Keras model.*Received: "):
        Denoiser(network)


@pytest.mark.parametrize("max_pixels", [None, 1200])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_network_with_damaged_weights_is_refused(networks, dtype, max_pixels):
    network = ResNetDenoiser.from_config(networks[1].get_config())
    weights = networks[1].get_weights()
    weights[0].flat[0] = np.nan
    network.set_weights(weights)
    with pytest.raises(ValueError, match="must return finite values.*num_bad=.* from"):
        denoise(np.ones((60, 50), dtype), Denoiser(network, max_pixels=max_pixels))


def test_a_large_constant_keeps_its_value(networks):
    picture = np.full((12, 12), 3e7, np.float32)
    denoised = denoise(picture, networks[1], pixel_range="1%,99%")
    np.testing.assert_allclose(denoised, picture, rtol=1e-3)


def test_graphs_give_the_same_pictures(randomize):
    network = ResNetDenoiser(num_blocks=1, hidden_channels=2)
    randomize(network)
    denoiser = Denoiser(network)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 12, 9, 1), np.uint8)
    expected = denoiser(pictures, strength=0.5)
    traced = tf.function(lambda x: denoiser(x, strength=0.5))(pictures)
    mapped = tf.data.Dataset.from_tensor_slices(pictures).map(
        lambda x: denoiser(x, strength=0.5)
    )
    assert mapped.element_spec == tf.TensorSpec((12, 9, 1), tf.uint8)
    np.testing.assert_array_equal(traced, expected)
    np.testing.assert_array_equal(list(mapped.as_numpy_iterator()), expected)
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be finite numbers"):
        tf.function(denoiser)(tf.fill((1, 12, 9, 1), np.nan))
    with pytest.raises(ValueError, match="out must be None in a graph"):
        tf.function(lambda x: denoiser(x, out=pictures))(pictures)
    with pytest.raises(ValueError, match="use the network itself in a Keras model"):
        denoiser(keras.Input((12, 9, 1)))


def test_bfloat16_is_denoised_in_float32(networks):
    denoiser = Denoiser(networks[1])
    picture = tf.cast(_picture(9, 12), tf.bfloat16)
    expected = tf.cast(denoiser(tf.cast(picture, tf.float32)), tf.bfloat16)
    array, out = picture.numpy(), np.empty((9, 12), picture.numpy().dtype)
    mapped = tf.data.Dataset.from_tensors(picture).map(denoiser)
    results = [denoiser(picture), denoiser(array), denoiser(array, out=out), out]
    for result in [*results, *mapped]:
        assert result.dtype == picture.dtype
        np.testing.assert_array_equal(np.float32(result), np.float32(expected))
    assert denoiser(array, dtype="float64").dtype == np.float64
    unchanged = denoiser(array, strength=0)
    assert unchanged.tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "value, dtype",
    [
        (2**31 - 1, "int32"),
        (2**53 + 1, "int64"),
        (-(2**62) - 1, "int64"),
        (2**64 - 1, "uint64"),
        (0.1, "float64"),
        (1e-200, "float64"),
        (1 / 3, "float64"),
    ],
)
def test_constants_of_wide_types_stay_exactly(networks, value, dtype):
    picture = np.full((9, 12), value, dtype)
    for pixel_range in ("0,4095", "0.1%,99.9%"):
        denoised = Denoiser(networks[1])(picture, pixel_range=pixel_range)
        np.testing.assert_array_equal(denoised, picture)


@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_an_empty_batch_stays_empty(dtype):
    denoiser = Denoiser(ResNetDenoiser(num_blocks=1, hidden_channels=2))
    result = denoiser(np.zeros((0, 12, 9, 1), dtype))
    assert (result.shape, result.dtype) == ((0, 12, 9, 1), dtype)


def test_a_model_that_is_not_built_is_refused():
    for network in (keras.Sequential([keras.layers.Conv2D(1, 3)]), lambda x: x):
        with pytest.raises(ValueError, match="must be a built Keras model"):
            Denoiser(network)


def test_a_range_that_is_too_narrow_for_the_pixels_is_refused(networks):
    picture = np.full((6, 5, 1), 3e38, np.float32)
    with pytest.raises(ValueError, match="too narrow for these pixels"):
        Denoiser(networks[1])(picture, pixel_range="0,1e-38")


@pytest.mark.parametrize("value", [3e7, -3e7, 1e30, 3e38, 1e-40])
@pytest.mark.parametrize("pixel_range", ["1%,99%", "dtype"])
def test_finite_pixels_give_finite_results_or_an_error(networks, value, pixel_range):
    picture = np.full((12, 12), value, np.float32)
    picture[:6] *= np.float32(0.99)
    for options in ({}, {"self_ensemble": True}, {"strength": 0.5}):
        try:
            result = Denoiser(networks[1])(picture, pixel_range=pixel_range, **options)
        except ValueError as error:
            assert "finite" in str(error)
        else:
            assert np.isfinite(result).all()
