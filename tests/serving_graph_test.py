"""The graph of a served denoiser: tiles, files of every kind, bad input."""

from __future__ import annotations

import functools
import io
import itertools
import struct
import zlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfflowdn import Denoiser, ResNetDenoiser, data
from tfflowdn.inference import tiling
from tfflowdn.serving.graph import ServedDenoiser
from tfflowdn.serving.sound_range import sound_limits
from tfflowdn.serving.tiles import graph_spans

MAX_PIXELS = 1200
MAX_REQUEST_PIXELS = 1_000_000
ERROR = tf.errors.InvalidArgumentError


class _Endpoints:
    """The network of some channels and its endpoints, traced."""

    def __init__(self, network):
        self.network = network
        self.served = ServedDenoiser(
            network, max_pixels=MAX_PIXELS, max_request_pixels=MAX_REQUEST_PIXELS
        )
        shape = (None, None, None, network.channels)
        for name, spec in (
            ("serve", tf.TensorSpec(shape)),
            ("uint8", tf.TensorSpec(shape, tf.uint8)),
            ("encoded", tf.TensorSpec([None], tf.string)),
        ):
            function = getattr(self.served, name)
            setattr(self, name, tf.function(function, input_signature=[spec]))


@pytest.fixture(scope="module")
def by_channels(randomize):
    endpoints = {}
    for channels in (1, 3):
        network = ResNetDenoiser(channels, num_blocks=2, hidden_channels=4, seed=1)
        randomize(network, scale=0.2)
        endpoints[channels] = _Endpoints(network)
    return endpoints


@pytest.fixture(params=[1, 3])
def endpoints(request, by_channels):
    return by_channels[request.param]


@pytest.fixture
def gray(by_channels):
    return by_channels[1]


def _random(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


@pytest.mark.parametrize(
    "shape", [(1, 67, 53), (2, 3, 401), (5, 200, 7), (7, 20, 30), (1, 1, 1)]
)
def test_tiles_give_the_result_of_the_whole(endpoints, shape):
    noisy = _random(*shape, endpoints.network.channels)
    whole = endpoints.network(noisy).numpy()
    denoised = endpoints.serve(noisy)["denoised"]
    np.testing.assert_allclose(denoised, whole, atol=1e-5)
    if shape[1] > 1:  # A picture of one pixel is constant, and stays the same.
        assert np.abs(whole - noisy).mean() > 0.01


def test_the_graph_makes_the_tiles_of_the_module(gray):
    sizes = np.random.default_rng(0).integers(1, 300, (60, 2)).tolist()
    sizes += [(1, 100_000), (35, 35), (34, 36), (33, 1000), (100_000, 70_000)]
    options = {"margin": gray.served.margin, "multiple": gray.served.multiple}
    graph = tf.function(
        functools.partial(graph_spans, max_pixels=MAX_PIXELS, **options),
        input_signature=[tf.TensorSpec([], tf.int64)] * 2,
    )
    for height, width in sizes:
        lengths = tiling.tile_lengths(height, width, MAX_PIXELS, options["multiple"])
        for size, length, spans in zip(
            (height, width), lengths, graph(height, width), strict=True
        ):
            assert spans.numpy().tolist() == [
                list(span) for span in tiling.spans(size, length, **options)
            ]


def test_no_tile_has_more_pixels_than_allowed():
    seen = []

    class Seeing(keras.Model):
        channels, scale, receptive_radius = 1, 2, 5

        def call(self, noisy, training=None):
            del training
            tf.py_function(lambda s: seen.append(s.numpy()), [tf.shape(noisy)], [])
            return noisy

        def compute_output_shape(self, input_shape):
            return input_shape

    endpoints = _Endpoints(Seeing())
    for shape in ((1, 100, 90, 1), (9, 20, 30, 1)):
        noisy = _random(*shape)
        np.testing.assert_array_equal(endpoints.serve(noisy)["denoised"], noisy)
    assert len(seen) > 15
    assert max(np.prod(shape) for shape in seen) <= MAX_PIXELS


def test_an_unknown_receptive_radius_is_measured():
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.Input((None, None, 1)),
            keras.layers.Conv2D(2, 5, padding="same"),
            keras.layers.Conv2D(1, 3, padding="same"),
        ]
    )
    noisy = _random(1, 150, 196, 1)
    for max_pixels in (96 * 96, None):
        served = ServedDenoiser(network, max_pixels=max_pixels)
        denoised = served.serve(tf.constant(noisy))["denoised"]
        np.testing.assert_allclose(denoised, network(noisy), atol=1e-5)
        assert served.facts.get("receptive_radius", 3) == 3


def test_tiles_no_longer_than_their_margins_are_refused(gray):
    with pytest.raises(ValueError, match="longer than their margins"):
        ServedDenoiser(gray.network, max_pixels=24 * 24)


@pytest.mark.parametrize("max_value", [255, 128])
def test_8_bit_pixels(endpoints, max_value):
    shape = (2, 40, 50, endpoints.network.channels)
    noisy = np.random.default_rng(0).integers(0, max_value, shape, np.uint8)
    denoised = endpoints.uint8(noisy)["denoised"].numpy()
    expected = Denoiser(endpoints.network)(noisy)
    assert denoised.dtype == np.uint8
    assert np.abs(denoised.astype(int) - expected).max() <= 1
    assert (denoised != expected).mean() < 0.001


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_files_keep_their_depth_and_channels(endpoints, channels, dtype):
    rng = np.random.default_rng(0)
    noisy = rng.integers(np.iinfo(dtype).max, size=(60, 43, channels), dtype=dtype)
    (encoded,) = endpoints.encoded([tf.io.encode_png(noisy)])["denoised_bytes"]
    # The depth of the file, then its color type.
    depth, kind = encoded.numpy()[24:26]
    assert depth == 8 * np.dtype(dtype).itemsize
    assert kind == {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    denoised = tf.io.decode_png(encoded, dtype=dtype).numpy()
    expected = Denoiser(endpoints.network)(noisy)
    # 1e-5 of the range is less than one step of 16 bits.
    assert np.abs(denoised.astype(int) - expected).max() <= 1
    if channels in (2, 4):
        np.testing.assert_array_equal(denoised[..., -1], noisy[..., -1])


def _saved(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _color():
    """Returns colored spots with the noise of a photograph."""
    rng = np.random.default_rng(0)
    picture = rng.integers(256, size=(10, 13, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(picture).resize((52, 40)))
    noisy = picture + 10 * rng.standard_normal(picture.shape)
    return Image.fromarray(np.uint8(noisy.clip(0, 255)))


FILES = {
    "palette": lambda: _saved(_color().convert("P"), "PNG"),
    "palette, alpha": lambda: _saved(_color().convert("P"), "PNG", transparency=3),
    "1 bit": lambda: _saved(_color().convert("1"), "PNG"),
    "4 bits": lambda: _saved(_color().convert("L").quantize(16), "PNG", bits=4),
    "gray JPEG": lambda: _saved(_color().convert("L"), "JPEG"),
    "CMYK JPEG": lambda: _saved(_color().convert("CMYK"), "JPEG"),
    "progressive": lambda: _saved(_color(), "JPEG", progressive=True),
}


def _with_orientation(orientation, byte_order, kind):
    exif = Image.Exif()
    exif.endian = byte_order
    exif[0x010E] = "a description"
    exif[0x0112] = orientation
    return _saved(_color(), kind, exif=exif, quality=95)


ORIENTATIONS = {
    f"{kind}, orientation {n}{order}": (
        lambda a=(n, order, kind): _with_orientation(*a)
    )
    for n, order, kind in itertools.product(range(1, 9), "<>", ("JPEG", "PNG"))
}


@pytest.mark.parametrize("name", [*FILES, *ORIENTATIONS])
def test_files_are_read_as_the_package_reads_them(gray, name, tmp_path):
    file = {**FILES, **ORIENTATIONS}[name]()
    (tmp_path / "file").write_bytes(file)
    expected = Denoiser(gray.network)(data.read_image(tmp_path / "file"))
    (encoded,) = gray.encoded([file])["denoised_bytes"]
    denoised = tf.io.decode_png(encoded).numpy()
    assert denoised.shape == expected.shape
    assert np.abs(denoised.astype(int) - expected).max() <= 1


def test_a_batch_holds_files_of_several_sizes(gray):
    files = [FILES["gray JPEG"](), tf.io.encode_png(np.zeros((1, 1, 3), np.uint16))]
    results = gray.encoded(files)["denoised_bytes"]
    shapes = [tf.io.decode_png(r, dtype=tf.uint16).shape for r in results]
    assert shapes == [(40, 52, 1), (1, 1, 3)]


@pytest.mark.parametrize("shape", [(0, 4, 4, 1), (1, 0, 4, 1), (1, 4, 0, 1)])
@pytest.mark.parametrize("name, dtype", [("serve", np.float32), ("uint8", np.uint8)])
def test_an_empty_picture_is_refused(gray, name, dtype, shape):
    with pytest.raises(ERROR, match="none of them 0. Received: noisy.shape="):
        getattr(gray, name)(np.zeros(shape, dtype))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_not_finite_are_refused(gray, value):
    noisy = np.zeros((1, 4, 4, 1), np.float32)
    noisy[0, 2, 3] = value
    with pytest.raises(ERROR, match="The pixels of noisy must be finite"):
        gray.serve(noisy)


def test_a_network_whose_result_is_not_finite_is_refused():
    network = ResNetDenoiser(num_blocks=1, hidden_channels=2)
    network.head.kernel.assign(np.full(network.head.kernel.shape, np.nan))
    served = ServedDenoiser(network)
    with pytest.raises(ERROR, match="The network must return finite values"):
        served.serve(np.zeros((1, 6, 5, 1), np.float32))
    with pytest.raises(ERROR, match="The network must return finite values"):
        served.uint8(np.zeros((1, 6, 5, 1), np.uint8))


def _bomb_png(width, height):
    """A PNG whose header declares another size than its pixels have."""
    file = tf.io.encode_png(np.zeros((1, 1, 1), np.uint8)).numpy()
    header = b"IHDR" + struct.pack(">ii", width, height) + file[24:29]
    checksum = struct.pack(">I", zlib.crc32(header))
    return file[:12] + header + checksum + file[33:]


def _bomb_jpeg(width, height):
    file = _saved(Image.new("L", (1, 1)), "JPEG")
    start = file.index(b"\xff\xc0") + 5
    return file[:start] + struct.pack(">HH", height, width) + file[start + 4 :]


@pytest.mark.parametrize("name, dtype", [("serve", np.float32), ("uint8", np.uint8)])
def test_an_array_of_too_many_pixels_is_refused(gray, name, dtype):
    noisy = np.zeros((2, 600, 1000, 1), dtype)
    with pytest.raises(ERROR, match="noisy must have at most 1000000 pixels"):
        getattr(gray, name)(noisy)
    assert gray.uint8(np.zeros((1, 1, 2, 1), np.uint8))["denoised"].shape[2] == 2


def test_a_limit_must_be_positive(gray):
    with pytest.raises(ValueError, match="Received: max_request_pixels=0"):
        ServedDenoiser(gray.network, max_request_pixels=0)


RANGES = ["0,4095", "100,356.5", "1%,99%", "0%,100%"]


def _limits(pixel_range, dtype):
    """Returns limits of pixels that lie within a range."""
    most = np.iinfo(dtype).max
    if "%" in pixel_range:
        return 0, most // 2
    return [min(int(float(limit)), most) for limit in pixel_range.split(",")]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("pixel_range", RANGES)
def test_a_pixel_range_is_part_of_the_graph(randomize, pixel_range, dtype):
    options = {"num_blocks": 1, "hidden_channels": 4, "pixel_range": pixel_range}
    network = ResNetDenoiser(1, **options)
    randomize(network, scale=0.2)
    endpoints = _Endpoints(network)
    rng = np.random.default_rng(0)
    low, high = _limits(pixel_range, dtype)
    noisy = rng.integers(low, high, size=(2, 30, 43, 1), dtype=dtype)
    noisy[1] = low + (noisy[1] - low) // 3
    expected = np.stack([Denoiser(network)(picture) for picture in noisy])
    assert np.abs(expected.astype(int) - noisy).max() > 2
    files = [tf.io.encode_png(picture).numpy() for picture in noisy]
    encoded = endpoints.encoded(files)["denoised_bytes"]
    denoised = np.stack([tf.io.decode_png(f, dtype=dtype).numpy() for f in encoded])
    assert np.abs(denoised.astype(int) - expected).max() <= 1
    if dtype == np.uint8:
        denoised = endpoints.uint8(noisy)["denoised"].numpy()
        assert np.abs(denoised.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("dtype, inside", [(np.uint8, 100), (np.uint16, 500)])
def test_a_sound_range_is_chosen_as_by_a_denoiser(randomize, dtype, inside):
    network = ResNetDenoiser(
        1, num_blocks=1, hidden_channels=4, pixel_range=f"{inside},{inside + 100}"
    )
    randomize(network, scale=0.2)
    rng, endpoints = np.random.default_rng(0), _Endpoints(network)
    levels = np.array([inside + 50, inside // 4, 2 * inside])[:, None, None, None]
    noisy = (levels + 5 * rng.standard_normal((3, 30, 42, 1))).astype(dtype)
    noisy[0, :2, :3] = 0  # Few pixels do not count.
    expected = np.stack([Denoiser(network)(picture) for picture in noisy])
    files = [tf.io.encode_png(picture).numpy() for picture in noisy]
    encoded = endpoints.encoded(files)["denoised_bytes"]
    denoised = np.stack([tf.io.decode_png(f, dtype=dtype).numpy() for f in encoded])
    assert np.abs(denoised.astype(int) - expected).max() <= 1
    fixed = Denoiser(network)(noisy[1], pixel_range=network.pixel_range)
    assert np.abs(fixed.astype(int) - expected[1]).max() > 3
    if dtype == np.uint8:
        denoised = endpoints.uint8(noisy)["denoised"].numpy()
        assert np.abs(denoised.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("pixel_range", ["dtype", "100,300"])
def test_floats_get_a_sound_range_and_the_network_does_not(randomize, pixel_range):
    network = ResNetDenoiser(
        1, num_blocks=1, hidden_channels=4, pixel_range=pixel_range
    )
    randomize(network, scale=0.2)
    rng, endpoints = np.random.default_rng(0), _Endpoints(network)
    levels = np.array([0.5, -40.0, 9.0])[:, None, None, None]
    noisy = np.float32(levels + 0.05 * rng.standard_normal((3, 30, 42, 1)))
    low, high = (0, 1) if pixel_range == "dtype" else (100, 300)
    stored = noisy * np.float32(high - low) + low
    expected = np.stack([Denoiser(network)(picture) for picture in stored])
    denoised = endpoints.serve(noisy)["denoised"]
    np.testing.assert_allclose(denoised, (expected - low) / (high - low), atol=2e-5)
    raw = endpoints.served.network(noisy)["denoised"].numpy()
    np.testing.assert_allclose(raw, network(noisy), atol=1e-4)
    assert np.abs(raw[1] - denoised[1]).max() > 1e-3


@pytest.mark.parametrize("height, width", [(1, 1), (3, 9), (5, 7), (6, 6)])
def test_small_pictures_have_the_range_of_the_model(height, width):
    picture = tf.fill((height, width, 1), 3.0)
    signature = [tf.TensorSpec([None, None, 1]), tf.TensorSpec([]), tf.TensorSpec([])]
    limits = tf.function(sound_limits, signature)(picture, 0.0, 2.0)
    assert limits.shape == 2 and limits[0] < limits[1]


def test_percentiles_of_a_constant_picture():
    network = ResNetDenoiser(1, num_blocks=0, hidden_channels=2, pixel_range="1%,99%")
    noisy = np.full((1, 8, 8, 1), 77, np.uint8)
    denoised = _Endpoints(network).uint8(noisy)["denoised"]
    np.testing.assert_array_equal(denoised, Denoiser(network)(noisy))


@pytest.mark.parametrize(
    "files, message",
    [
        ([], "noisy_bytes must hold a file"),
        ([_bomb_png(20_000, 20_000)], "at most 1000000 pixels .* Received:"),
        ([_bomb_png(-1, -1)], "Invalid PNG"),
        ([_bomb_jpeg(20_000, 20_000)], "at most 1000000 pixels in a request"),
        ([tf.io.encode_png(np.zeros((600, 1000, 1), np.uint8)).numpy()] * 2, "at most"),
        ([b""], "must be PNG or JPEG files"),
        ([b"no picture"], "must be PNG or JPEG files"),
        ([b"GIF89a" + bytes(50)], "must be PNG or JPEG files"),
        ([b"\x89PNG\r\n\x1a\n"], "Invalid PNG"),
        ([FILES["palette"]()[:200]], "Invalid PNG"),
        ([b"\xff\xd8\xff"], "Invalid JPEG"),
        ([FILES["progressive"]()[:300]], "Invalid JPEG"),
        ([FILES["palette"](), b"no picture"], "must be PNG or JPEG files"),
    ],
)
def test_invalid_files_are_refused(gray, files, message):
    with pytest.raises(ERROR, match=message):
        gray.encoded(tf.constant(files, tf.string, [len(files)]))
